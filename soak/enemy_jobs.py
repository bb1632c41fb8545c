"""Jobs of hostile users: a recipe for each finding of issue 16."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

_HEADERS, _HEADER_BYTES = 250, 900 * 1024
_ENTRIES = 200_000
_MEMORY_MB = 64


@dataclass(frozen=True)
class Recipe:
    """One kind of hostile job."""

    name: str
    # Makes its run.tgz; None if it has no bucket, or another user's.
    archive: Callable[[], bytes] | None
    # Share in percent of a hostile user's jobs.
    share: int
    # Whether it names the bucket of a canary.
    names_foreign_bucket: bool = False
    # Whether each of its jobs asks for a different amount of memory.
    is_odd_size: bool = False


def recipes() -> tuple[Recipe, ...]:
    """Return all recipes."""
    return tuple(
        [Recipe(name, _script(line), share) for name, (share, line) in _COMMANDS.items()]
        + [
            Recipe("headers of 225 MB (H1)", header_bomb, 5),
            Recipe("200,000 entries (H1)", many_entries, 1),
            Recipe("a deep archive (H2)", deep_archive, 5),
            Recipe("a foreign bucket (H8)", None, 12, names_foreign_bucket=True),
            Recipe("no bucket", None, 12),
            Recipe("its own memory size (H4)", _script("true"), 12, is_odd_size=True),
        ]
    )


_COMMANDS = {
    "a deep tree (H2)": (10, "for i in $(seq 1600); do mkdir d && cd d || break; done"),
    "many names (H10)": (
        5,
        "mkdir m; cd m; seq -f n%.0f 1 20000 | xargs touch; seq -f l%.0f 1 3000 | "
        "xargs -n 1 ln -s /etc/passwd",
    ),
    "odd names": (
        8,
        r"touch $'bad\xff' $'new\nline' -- -rf; touch $(printf 'n%.0s' $(seq 250)); "
        "ln -s / root; ln -s ../../../etc/shadow s; mkfifo p; mkdir joberr.txt",
    ),
    "a full disk (M1)": (6, "dd if=/dev/zero of=big bs=1M count=96 2>/dev/null"),
    "many processes": (6, "for i in $(seq 400); do sleep 2 & done; wait"),
    "a huge log": (6, "yes leruli | head -c 48000000"),
    "ends itself by TERM": (6, "kill -TERM 1; kill -TERM $$; sleep 5"),
    "no end but its limit": (6, "trap '' TERM; sleep 600"),
}


def memory_mb(recipe: Recipe, number: int) -> int:
    """Return the memory in MB that a job asks for, by the job's number."""
    return _MEMORY_MB + number % 500 if recipe.is_odd_size else _MEMORY_MB


def _script(line: str) -> Callable[[], bytes]:
    return lambda: _packed(run_sh(f"#!/bin/bash\n{line}\n".encode()))


def run_sh(script: bytes) -> bytes:
    """Return the tar blocks of a run.sh."""
    return block("./run.sh", tarfile.REGTYPE, script, mode=0o755)


def block(name: str, kind: bytes, content: bytes = b"", mode: int = 0o644) -> bytes:
    """Return the tar blocks of one entry."""
    head = tarfile.TarInfo(name)
    head.type, head.size, head.mode = kind, len(content), mode
    padding = b"\0" * (-len(content) % tarfile.BLOCKSIZE)
    return head.tobuf(tarfile.GNU_FORMAT) + content + padding


@cache
def header_bomb() -> bytes:
    """Return entries of one name, each with a long comment: small as gzip, large in memory."""
    comment = b"A" * _HEADER_BYTES
    body = b" comment=" + comment + b"\n"
    record = str(len(body) + 6).encode() + body
    pair = block("pax", tarfile.XHDTYPE, record) + block("x", tarfile.REGTYPE)
    return _packed(run_sh(b"true\n") + pair * _HEADERS)


@cache
def many_entries(count: int = _ENTRIES) -> bytes:
    """Return as many folders as an input may have entries."""
    names = (f"e/{number % 1000}/{number}/" for number in range(count))
    return _packed(run_sh(b"true\n") + b"".join(block(name, tarfile.DIRTYPE) for name in names))


@cache
def deep_archive() -> bytes:
    """Return a folder below 1,900 levels of folders."""
    return _packed(run_sh(b"true\n") + block("a/" * 1900, tarfile.DIRTYPE))


def _packed(blocks: bytes) -> bytes:
    data = io.BytesIO()
    with gzip.GzipFile(fileobj=data, mode="wb", compresslevel=1, mtime=0) as file:
        file.write(blocks)
        file.write(b"\0" * 2 * tarfile.BLOCKSIZE)
    return data.getvalue()
