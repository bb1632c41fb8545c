"""Whether a file has the content of an object, by the ETag that the storage lists."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from leruli.cancellation import CheckCancelled

_MIB = 1024 * 1024
_READ_SIZE = _MIB

# The node agent's rule for objects in parts (leruli_node/objects/object_store.py, part_bytes).
_PART = 16 * _MIB
_MOST_PARTS = 10_000

_ETAG = re.compile(r"([0-9a-f]{32})(?:-(\d+))?")


def has_content(
    path: Path, etag: str, size: int, check_cancelled: CheckCancelled = lambda: None
) -> bool:
    """Whether a file is the object with this ETag and size, for certain.

    An ETag is the MD5 of the object, or of the MD5s of its parts and how many these are. A storage
    that encrypts with keys of its own has other ETags: no file is the object for certain then.
    `check_cancelled` is called while the file is read. Raises OSError.
    """
    match = _ETAG.fullmatch(etag)
    if match is None or path.stat().st_size != size:
        return False
    if match[2] is None:
        return _md5(path, size, check_cancelled).hexdigest() == match[1]
    part = part_bytes(size)
    if -(-size // part) != int(match[2]):
        return False  # sent in other parts, so by another program than a node agent
    return _md5_of_parts(path, part, check_cancelled) == match[1]


def part_bytes(size: int) -> int:
    """How large the parts are in which a node agent sends an object."""
    return max(_PART, -(-size // (_MOST_PARTS * _MIB)) * _MIB)


def _md5(path: Path, size: int, check_cancelled: CheckCancelled, offset: int = 0) -> hashlib._Hash:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        file.seek(offset)
        while size > 0 and (data := file.read(min(_READ_SIZE, size))):
            digest.update(data)
            size -= len(data)
            check_cancelled()
    return digest


def _md5_of_parts(path: Path, part: int, check_cancelled: CheckCancelled) -> str:
    whole = hashlib.md5(usedforsecurity=False)
    for offset in range(0, path.stat().st_size, part):
        whole.update(_md5(path, part, check_cancelled, offset).digest())
    return whole.hexdigest()
