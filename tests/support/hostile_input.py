"""Input with which a user could harm a node agent, and the cost of unpacking it.

`python tests/support/hostile_input.py KIND AMOUNT [MOST_FILES]` prints one line of JSON: seconds,
the peak of memory above rest in MB, and the unpacker's sentence.
tests/unit/node/test_hostile_input.py runs it with small amounts; the figures of docs/nodes/agent.md
are from larger ones.
"""

from __future__ import annotations

import gc
import itertools
import json
import sys
import tarfile
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "node_setup"))

from leruli_node.files.unpack import BrokenInputError, InputLimits, unpack

MEGABYTE = 2**20


def header(name: str, kind: bytes, size: int) -> bytes:
    made = tarfile.TarInfo(name)
    made.type, made.size = kind, size
    return made.tobuf(tarfile.GNU_FORMAT)


def padded(content: bytes) -> bytes:
    return content + b"\0" * (-len(content) % tarfile.BLOCKSIZE)


def pax(key: str, value: bytes) -> bytes:
    record = b" " + key.encode() + b"=" + value + b"\n"
    length = len(record) + len(str(len(record)))
    length += len(str(length)) - len(str(len(record)))
    record = str(length).encode() + record
    return header("p", b"x", len(record)) + padded(record)


def comments(amount: int) -> Iterator[bytes]:
    """H1: entries of one name with a comment of 900 KB each."""
    big = pax("comment", b"A" * 900 * 1024)
    return (big + header("same", b"0", 0) for _ in range(amount))


def allowed_comments(amount: int) -> Iterator[bytes]:
    """The same, just as long as the headers of one entry may be, until their sum is too much."""
    big = pax("comment", b"A" * 250 * 1024)
    return (big + header("same", b"0", 0) for _ in range(amount))


def entries(amount: int) -> Iterator[bytes]:
    """Entries of one name, each with a long one in front."""
    long = pax("path", b"n" * 200)
    return (long + header("x", b"0", 0) for _ in range(amount))


def bomb(amount: int) -> Iterator[bytes]:
    """A file of so many MB of zeros, a thousandth of that in the archive."""
    zeros = b"\0" * MEGABYTE
    return itertools.chain([header("z", b"0", amount * MEGABYTE)], (zeros for _ in range(amount)))


def sparse(amount: int) -> Iterator[bytes]:
    """The map of a sparse file in so many MB of blocks, each of which says that another follows."""
    first = bytearray(header("s", b"S", 0))
    first[482] = 1
    first[148:156] = b" " * 8
    first[148:156] = b"%06o\0 " % sum(first)
    block = bytearray(b"00000000001\0" * 42 + b"\1" + b"\0" * 7)
    return itertools.chain([bytes(first)], (bytes(block) * 2048 for _ in range(amount)))


def sparse_pax(amount: int) -> Iterator[bytes]:
    """The map of a sparse file of the newer format, so many MB of numbers in the file's data."""
    lines = pax("GNU.sparse.major", b"1") + pax("GNU.sparse.minor", b"0")
    said = header("m", b"0", amount * MEGABYTE) + b"99999999999\n"
    return itertools.chain([lines, said], (b"1\n" * (MEGABYTE // 2) for _ in range(amount)))


def deep(amount: int) -> Iterator[bytes]:
    """H2: one folder in so many others."""
    name = b"a/" * amount
    return iter([header("l", b"L", len(name)) + padded(name) + header("a", b"5", 0)])


def many_folders(amount: int) -> Iterator[bytes]:
    """Files in folders of their own, 90 deep: few entries, many folders."""
    for number in range(amount):
        name = f"{number}/".encode() + b"f/" * 89 + b"x"
        yield header("l", b"L", len(name)) + padded(name) + header("x", b"0", 0)


def members(amount: int) -> Iterator[bytes]:
    """So many empty gzip members one after the other: input without output."""
    yield header("run.sh", b"0", 0)
    for _ in range(amount):
        yield b""


KINDS: dict[str, Callable[[int], Iterator[bytes]]] = {
    one.__name__: one
    for one in (
        comments,
        allowed_comments,
        entries,
        bomb,
        sparse,
        sparse_pax,
        deep,
        many_folders,
        members,
    )
}


def packed(raw: Iterator[bytes], level: int = 1) -> Iterator[bytes]:
    """Compress what comes, a member of gzip for each empty piece."""
    gzip = zlib.compressobj(level, zlib.DEFLATED, 31)
    for piece in itertools.chain(raw, [b"\0" * 1024]):
        if not piece:
            yield gzip.flush()
            gzip = zlib.compressobj(level, zlib.DEFLATED, 31)
        elif data := gzip.compress(piece):
            yield data
    yield gzip.flush()


def memory_mb(field: str) -> float:
    """VmRSS or VmHWM of this process."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def measure(work: Callable[[], str]) -> dict[str, object]:
    """Run some work in this process: seconds, MB of memory above rest at the peak, its word."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again
    rest, began = memory_mb("VmRSS"), time.monotonic()
    said = work()
    return {
        "seconds": round(time.monotonic() - began, 1),
        "peak_mb": round(memory_mb("VmHWM") - rest, 1),
        "said": said,
    }


def main(kind: str, amount: int, files: int) -> None:
    def work() -> str:
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
            limits = InputLimits(files, 2_000 * MEGABYTE)
            try:
                unpack(packed(KINDS[kind](amount)), Path(folder) / "r", limits, threading.Event())
            except BrokenInputError as error:
                return str(error)
        return ""

    sys.stdout.write(json.dumps(measure(work)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 200_000)
