"""Keeping secrets out of every text that leaves this program."""

from __future__ import annotations

import os
import re

#: What stands in the place of a secret.
HIDDEN = "[hidden]"

# API secret, group token, compute secret, node token: type, key id, random part, checksum. The
# last two parts may be cut short by whoever quoted them, so any tail is taken; and what suggests
# another name for an image has "_" for "-".
_TYPED_SECRET = re.compile(r"lq[agcn][-_][a-z2-7]{10}[-_][a-z2-7_-]*", re.IGNORECASE)

_SECRET_SETTINGS = ("LERULI_API_SECRET", "LERULI_S3_SECRET", "LERULI_S3_ACCESS")

# Shorter values are placeholders; blotting them out would only garble sentences.
_SHORTEST = 8


def redact(text: str) -> str:
    """`text` with every secret known from the environment or recognisable by its form hidden."""
    for name in _SECRET_SETTINGS:
        value = os.environ.get(name, "").strip()
        if len(value) >= _SHORTEST:
            text = text.replace(value, HIDDEN)
    return _TYPED_SECRET.sub(HIDDEN, text)
