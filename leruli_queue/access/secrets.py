"""Secrets: how they are made, recognised, hashed and compared.

A secret reads ``<type>-<key id>-<random part>-<checksum>``, for example
``lqa-k3v…-…``: lower-case letters, the digits 2 to 7 and hyphens, 49 characters, so that every
secret may stand in a URL, a shell or a bucket name.

- The type makes it recognisable to scanners (:data:`PATTERN`) and to people.
- The key id is what the database looks it up by. It is not secret.
- The random part has 130 bits. That is why one round of SHA-256 is enough for its hash: there
  is nothing to guess.
- The checksum tells a typo from an unknown secret without a look-up.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets as random_source
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_KEY_ID_LENGTH = 10
_RANDOM_LENGTH = 26
_CHECKSUM_LENGTH = 7


class SecretType(Enum):
    """What a secret is for; the value is its prefix."""

    API = "lqa"  # one a user: submits, cancels, administers (write)
    GROUP = "lqg"  # one a group: reads the group's activity
    COMPUTE = "lqc"  # one a group, rotated: lets a machine join as a node
    NODE = "lqn"  # one a node, made by node-join: runs attempts

    @property
    def title(self) -> str:
        """What people call it."""
        return _TITLES[self]


_TITLES = {
    SecretType.API: "API secret",
    SecretType.GROUP: "group token",
    SecretType.COMPUTE: "compute secret",
    SecretType.NODE: "node token",
}
_PREFIXES = "|".join(kind.value for kind in SecretType)
PATTERN = (
    rf"({_PREFIXES})-([a-z2-7]{{{_KEY_ID_LENGTH}}})"
    rf"-([a-z2-7]{{{_RANDOM_LENGTH}}})-([a-z2-7]{{{_CHECKSUM_LENGTH}}})"
)
"""Regular expression that finds any of our secrets in a text, whatever it is glued to."""

_PARSER = re.compile(PATTERN)
_FORM = re.compile(PATTERN, re.IGNORECASE)
# As much of a secret as somebody left of it: a library's message may cut it short.
_BEGUN = re.compile(
    rf"({_PREFIXES})-([a-z2-7]{{{_KEY_ID_LENGTH}}})-[a-z2-7][a-z2-7-]*", re.IGNORECASE
)


class MalformedSecretError(ValueError):
    """The text is not a secret of ours: wrong form, or the checksum does not match."""


@dataclass(frozen=True)
class Secret:
    """A secret in its parts. ``repr`` shows the key id only."""

    kind: SecretType
    key_id: str
    text: str

    def __repr__(self) -> str:
        return f"Secret({self.kind.value}-{self.key_id}-…)"

    @property
    def hash(self) -> bytes:
        """What the database holds: SHA-256 of the whole text."""
        return hashlib.sha256(self.text.encode()).digest()

    def matches(self, stored_hash: bytes | None) -> bool:
        """Compare with a stored hash in constant time. None matches nothing."""
        return hmac.compare_digest(self.hash, stored_hash or b"\0" * 32)


def make(kind: SecretType) -> Secret:
    """Make a new random secret of the given type."""
    key_id = _random_text(_KEY_ID_LENGTH)
    body = f"{kind.value}-{key_id}-{_random_text(_RANDOM_LENGTH)}"
    return Secret(kind, key_id, f"{body}-{_checksum(body)}")


def is_kind(text: str, kind: SecretType) -> bool:
    """Tell whether a text claims to be a secret of this type; :func:`parse` checks it."""
    return text.startswith(f"{kind.value}-")


def parse(text: str, *kinds: SecretType) -> Secret:
    """Take a secret apart, accepting only the given types (all when none is given).

    Raises
    ------
    MalformedSecretError
        When the form, the type or the checksum is wrong. The message never holds the text.
    """
    match = _PARSER.fullmatch(text)
    if match is None:
        raise MalformedSecretError("it does not have the form of a secret of Leruli Queue")
    prefix, key_id, _, checksum = match.groups()
    if not hmac.compare_digest(checksum, _checksum(text[: -_CHECKSUM_LENGTH - 1])):
        raise MalformedSecretError("its checksum does not match: a character is wrong or missing")
    kind = SecretType(prefix)
    if kinds and kind not in kinds:
        wanted = " or ".join(_with_article(wanted_kind) for wanted_kind in kinds)
        raise MalformedSecretError(f"it is {_with_article(kind)}, where {wanted} is wanted")
    return Secret(kind, key_id, text)


def find_secrets(text: str) -> Iterator[Secret]:
    """Find the secrets in a text, for scanners: what has the form and the right checksum."""
    for match in _PARSER.finditer(text):
        with suppress(MalformedSecretError):
            yield parse(match.group())


def refuse_secrets(text: str) -> str:
    """Return a text that is to be stored, unless it holds a secret.

    The form is enough, also in capitals or with other letters around it: a mistyped secret is
    still most of one.

    Raises
    ------
    ValueError
        With a sentence that says what it holds and does not show it.
    """
    match = _FORM.search(text)
    if match is not None:
        kind = SecretType(match[1].lower())
        raise ValueError(f"it holds {_with_article(kind)}; take it out")
    return text


def redact(text: str) -> str:
    """Return a text with key ids in the place of secrets, for what is shown or logged."""
    return _BEGUN.sub(r"\1-\2-[redacted]", text)


def _with_article(kind: SecretType) -> str:
    return f"{'an' if kind is SecretType.API else 'a'} {kind.title}"


def _random_text(length: int) -> str:
    return "".join(random_source.choice(_ALPHABET) for _ in range(length))


def _checksum(body: str) -> str:
    digest = zlib.crc32(body.encode()).to_bytes(4, "big")
    return base64.b32encode(digest).decode().rstrip("=").lower()
