"""Secrets: make, recognise, hash and compare them.

A secret reads ``<type>-<key id>-<random part>-<checksum>``, for example ``lqa-k3v…-…``. It has 49
characters: lower-case letters, the digits 2 to 7 and hyphens. So it needs no quotes in a URL, a
shell or a bucket name.

- The type lets scanners (:data:`PATTERN`) and people recognise it.
- The key id finds it in the database. It is not secret.
- The random part has 130 bits. They cannot be guessed, so one round of SHA-256 is enough.
- The checksum tells a typing error from an unknown secret without a query.
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

    API = "lqa"  # one for each user: submits, cancels, administers (write)
    GROUP = "lqg"  # one for each group: reads the group's activity
    COMPUTE = "lqc"  # one for each group, rotated: lets a machine join as a node
    NODE = "lqn"  # one for each node, made by node-join: runs attempts

    @property
    def title(self) -> str:
        """The name in sentences for people."""
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
"""Regular expression that finds our secrets in a text, also next to other letters."""

_PARSER = re.compile(PATTERN)
_FORM = re.compile(PATTERN, re.IGNORECASE)
# The beginning of a secret: a library's message may cut it off.
_BEGUN = re.compile(
    rf"({_PREFIXES})-([a-z2-7]{{{_KEY_ID_LENGTH}}})-[a-z2-7][a-z2-7-]*", re.IGNORECASE
)


class MalformedSecretError(ValueError):
    """The text is not one of our secrets: wrong form, or the checksum does not match."""


@dataclass(frozen=True)
class Secret:
    """A parsed secret. ``repr`` shows only the type and the key id."""

    kind: SecretType
    key_id: str
    text: str

    def __repr__(self) -> str:
        return f"Secret({self.kind.value}-{self.key_id}-…)"

    @property
    def hash(self) -> bytes:
        """SHA-256 of the whole text, as the database stores it."""
        return hashlib.sha256(self.text.encode()).digest()

    def matches(self, stored_hash: bytes | None) -> bool:
        """Compare with a stored hash in constant time. None never matches."""
        return hmac.compare_digest(self.hash, stored_hash or b"\0" * 32)


def make(kind: SecretType) -> Secret:
    """Make a new random secret of the given type."""
    key_id = _random_text(_KEY_ID_LENGTH)
    body = f"{kind.value}-{key_id}-{_random_text(_RANDOM_LENGTH)}"
    return Secret(kind, key_id, f"{body}-{_checksum(body)}")


def is_kind(text: str, kind: SecretType) -> bool:
    """Tell whether a text begins like a secret of this type. :func:`parse` checks it."""
    return text.startswith(f"{kind.value}-")


def parse(text: str, *kinds: SecretType) -> Secret:
    """Parse a secret of one of the given types, or of any type if none is given.

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
    """Find the secrets in a text, for scanners. Each has the form and the right checksum."""
    for match in _PARSER.finditer(text):
        with suppress(MalformedSecretError):
            yield parse(match.group())


def refuse_secrets(text: str) -> str:
    """Return a text that will be stored, unless it holds a secret.

    The form of a secret is enough, also in capitals or between other letters: a mistyped secret
    still reveals most of the right one.

    Raises
    ------
    ValueError
        When the text holds a secret. The sentence names its type and does not show it.
    """
    match = _FORM.search(text)
    if match is not None:
        kind = SecretType(match[1].lower())
        raise ValueError(f"it holds {_with_article(kind)}; take it out")
    return text


def redact(text: str) -> str:
    """Replace each secret in a text by its type and key id, before the text is shown or logged."""
    return _BEGUN.sub(r"\1-\2-[redacted]", text)


def _with_article(kind: SecretType) -> str:
    return f"{'an' if kind is SecretType.API else 'a'} {kind.title}"


def _random_text(length: int) -> str:
    return "".join(random_source.choice(_ALPHABET) for _ in range(length))


def _checksum(body: str) -> str:
    digest = zlib.crc32(body.encode()).to_bytes(4, "big")
    return base64.b32encode(digest).decode().rstrip("=").lower()
