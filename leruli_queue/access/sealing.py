"""Sealing: the group token in the database, where nobody can read it but who it is for.

``group-token`` has to answer the group token to a user, yet the database holds no secret in the
clear. So each user's row carries it encrypted. Two kinds of keys come from a secret:

- A public key (X25519). The service keeps it, so a new group token can be sealed to users and
  nodes that are not calling just then. The private key is derived from the secret, which only its
  holder has: a request that authenticates brings it along.
- A symmetric key. Tokens are sealed under it that follow each other, and it was the only kind
  before tokens could be rotated.
"""

from __future__ import annotations

import base64

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from leruli_queue.access.secrets import Secret

# What is sealed to a public key begins with this byte; Fernet's own begins with "g".
_TO_PUBLIC_KEY = b"\x01"
_KEY_BYTES = 32


def public_key(secret: Secret) -> bytes:
    """Return the key to which something can be sealed for the holder of a secret."""
    return _private_key(secret).public_key().public_bytes_raw()


def seal_to(receiver: bytes, text: str) -> bytes:
    """Encrypt a text for the holder of the secret that a public key belongs to."""
    ephemeral = X25519PrivateKey.generate()
    sender = ephemeral.public_key().public_bytes_raw()
    shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(receiver))
    return _TO_PUBLIC_KEY + sender + _box(shared, sender, receiver).encrypt(text.encode())


def seal_under(secret: Secret, text: str) -> bytes:
    """Encrypt a text for whoever has a secret."""
    return _cipher(secret).encrypt(text.encode())


def unseal(sealed: bytes, secret: Secret) -> str:
    """Decrypt what :func:`seal_to` or :func:`seal_under` made.

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
