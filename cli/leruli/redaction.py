"""Hide secrets in all output of this program."""

from __future__ import annotations

import os
import re

#: Replaces a secret.
HIDDEN = "[hidden]"

# API secret, group token, compute secret, node token: type, key id, random part, checksum.
# A quoted secret may be truncated, so the pattern accepts any tail. Suggested image names have "_"
# instead of "-".
_TYPED_SECRET = re.compile(r"lq[agcn][-_][a-z2-7]{10}[-_][a-z2-7_-]*", re.IGNORECASE)

_SECRET_SETTINGS = (
    "LERULI_API_SECRET",
    "LERULI_ADMIN_SECRET",
    "LERULI_GROUP_TOKEN",
    "LERULI_S3_ACCESS",
    "LERULI_S3_SECRET",
)

# Shorter values are placeholders. Hiding them would garble sentences.
_SHORTEST = 8

# Secrets that a person typed or the service returned.
_remembered: set[str] = set()


def remember(secret: str) -> None:
    """Hide this secret from now on, even if it does not look like a secret."""
    _remembered.add(secret)


def redact(text: str) -> str:
    """Return `text` without secrets: the known ones, and all that have the form of a secret."""
    known = {os.environ.get(name, "").strip() for name in _SECRET_SETTINGS} | _remembered
    # The longest first: one may be the beginning of another.
    for value in sorted(known, key=len, reverse=True):
        if len(value) >= _SHORTEST:
            text = text.replace(value, HIDDEN)
    return _TYPED_SECRET.sub(HIDDEN, text)
