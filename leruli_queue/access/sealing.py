"""Sealing: encrypt group tokens in the database, so that only their receiver can read them.

``group-token`` must answer the group token to a user, but the database holds no secret in clear
text. So each user's row holds the token encrypted. Two kinds of keys are derived from a secret:

- A public key (X25519), which the service stores. So it can seal a new group token to users and
  nodes that are not calling at that time. The private key is derived from the secret, which the
  holder sends with each request.
- A symmetric key. The tokens before and after a rotation are sealed under each other with it. It
  was the only kind of key before rotations existed.
"""

from __future__ import annotations

import base64

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from leruli_queue.access.secrets import Secret

# First byte of a text sealed to a public key. A Fernet token begins with "g" instead.
_TO_PUBLIC_KEY = b"\x01"
_KEY_BYTES = 32


def public_key(secret: Secret) -> bytes:
    """Return the public key with which texts are sealed to the holder of a secret."""
    return _private_key(secret).public_key().public_bytes_raw()


def seal_to(receiver: bytes, text: str) -> bytes:
    """Encrypt a text to a public key, for the holder of its secret."""
    ephemeral = X25519PrivateKey.generate()
    sender = ephemeral.public_key().public_bytes_raw()
    shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(receiver))
    return _TO_PUBLIC_KEY + sender + _box(shared, sender, receiver).encrypt(text.encode())


def seal_under(secret: Secret, text: str) -> bytes:
    """Encrypt a text with a secret, for every holder of that secret."""
    return _cipher(secret).encrypt(text.encode())


def unseal(sealed: bytes, secret: Secret) -> str:
    """Decrypt a text that :func:`seal_to` or :func:`seal_under` encrypted.

    Raises
    ------
    cryptography.fernet.InvalidToken
        When it was sealed for another secret.
    """
    if not sealed.startswith(_TO_PUBLIC_KEY):
        return _cipher(secret).decrypt(sealed).decode()
    sender, content = sealed[1 : 1 + _KEY_BYTES], sealed[1 + _KEY_BYTES :]
    private = _private_key(secret)
    shared = private.exchange(X25519PublicKey.from_public_bytes(sender))
    receiver = private.public_key().public_bytes_raw()
    return _box(shared, sender, receiver).decrypt(content).decode()


def _private_key(secret: Secret) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(_derive(secret, b"leruli-queue x25519"))


def _cipher(secret: Secret) -> Fernet:
    return _fernet(_derive(secret, b"leruli-queue group token"))


def _box(shared: bytes, sender: bytes, receiver: bytes) -> Fernet:
    return _fernet(_hkdf(sender + receiver, b"leruli-queue sealed box").derive(shared))


def _derive(secret: Secret, purpose: bytes) -> bytes:
    return _hkdf(secret.key_id.encode(), purpose).derive(secret.text.encode())


def _hkdf(salt: bytes, purpose: bytes) -> HKDF:
    return HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=salt, info=purpose)


def _fernet(key: bytes) -> Fernet:
    return Fernet(base64.urlsafe_b64encode(key))
