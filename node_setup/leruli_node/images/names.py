"""The names of images: in the store, and in Docker."""

from __future__ import annotations

import hashlib
import re

_NAME = re.compile(r"[a-z0-9][a-z0-9._/-]{0,127}\Z")
_VERSION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")


def is_name(code: str, version: str) -> bool:
    """Return whether Docker accepts these as name and tag of an image."""
    return bool(_NAME.match(code) and _VERSION.match(version))


def image_name(prefix: str, code: str, version: str) -> str:
    """Return the name of a published image for people."""
    return f"{prefix}/{code}:{version}"


def etag_name(prefix: str, code: str, version: str, etag: str) -> str:
    """Return the name that binds an image to code, version and the ETag of its object."""
    return f"{etag_names(prefix, code, version)}{short(etag)}"


def etag_names(prefix: str, code: str, version: str) -> str:
    """Return the beginning of the names of all ETags of a code and version."""
    return f"{prefix}-etag/{code}:{short(version)}-"


def object_name(code: str, version: str) -> str:
    """Return the object name of an image in the group's bucket of images."""
    return f"{code}-{version}.tgz"


def short(text: str) -> str:
    """Return a short hash of a text, for a name."""
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def published_versions(names: list[str], code: str) -> list[str]:
    """Return the versions of a code among the objects of the image bucket, sorted."""
    found = set()
    for name in names:
        base, dot, suffix = name.rpartition(".")
        # As in the client, the version follows the last dash.
        this, dash, version = base.rpartition("-")
        if dot and suffix == "tgz" and dash and this == code:
            found.add(version)
    return sorted(found, key=_natural)


def _natural(version: str) -> list[tuple[int, str]]:
    return [(int(p), "") if p.isdigit() else (-1, p) for p in re.split(r"(\d+)", version) if p]
