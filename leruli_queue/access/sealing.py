"""The group token, sealed under a user's secret.

``group-token`` has to answer the group token to a user, yet the database holds no secret in the
clear. So each user's row carries the token encrypted under a key that is derived from the user's
own secret, which only the user has: a request that authenticates brings the key along. An admin
who makes a user opens the token with the admin's secret and seals it anew.
"""

from __future__ import annotations

import base64

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from leruli_queue.access.secrets import Secret


def seal(group_token: str, user_secret: Secret) -> bytes:
    """Encrypt the group token for the holder of the user's secret."""
    return _cipher(user_secret).encrypt(group_token.encode())


def unseal(sealed: bytes, user_secret: Secret) -> str:
    """Decrypt what :func:`seal` made.

    Raises
    ------
    cryptography.fernet.InvalidToken
        When it was sealed under another secret.
    """
    return _cipher(user_secret).decrypt(sealed).decode()


def _cipher(user_secret: Secret) -> Fernet:
    key = HKDF(
        algorithm=SHA256(),
        length=32,
        salt=user_secret.key_id.encode(),
        info=b"leruli-queue group token",
    ).derive(user_secret.text.encode())
    return Fernet(base64.urlsafe_b64encode(key))
