"""Property tests of the unpacker with archives of any shape (H1, H2)."""

from __future__ import annotations

import gzip
import io
import os
import stat
import subprocess
import sys
import tarfile
import tempfile
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st
from property_world import search, searching

from leruli_node.files.remove_tree import remove_tree
from leruli_node.files.unpack import BrokenInputError, InputLimits, unpack

MOST_FILES = 2_000
MOST_BYTES = 2**20
# tarfile holds several copies of a header of up to 1 MiB while it reads it.
MOST_MEMORY = 16 * 2**20
# Of an archive, before gzip.
LARGEST = 40 * 2**20
BLOCK = 512

PARTS = (
    *("a", "b", "c", "run.sh", "run.tgz", "joblog.txt", ".git", "leruli.job", "ä", "o\u0308"),
    *(".", "..", "", " ", "~", "-rf", "a\nb", "a\tb", "a\\b", "\udcff\udcfe", "\x01", "\u202e"),
    *("n" * 100, "n" * 255, "n" * 256, "ü" * 127, "ü" * 128),
)
KINDS = (
    *(tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE, tarfile.CONTTYPE),
    *(tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE),
    *(tarfile.GNUTYPE_SPARSE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, b"V", b"M", b"\0", b"?"),
)
KEYS = (
    *("comment", "path", "linkpath", "size", "mtime", "uid", "uname", "hdrcharset"),
    *("GNU.sparse.map", "GNU.sparse.size", "GNU.sparse.name", "GNU.sparse.major"),
    *("GNU.sparse.minor", "GNU.sparse.realsize", "SCHILY.xattr.user.x"),
)
VALUES = ("", "0", "-1", "1", "99999999999999999999", "nan", "../x", "/x", "1,2", "a,b", "BINARY")


@dataclass(frozen=True)
class Entry:
    """One entry of an archive, repeated `times` times."""

    name: str
    kind: bytes
    content: bytes
    claimed: int | None  # size in the header, where it is not the true one
    mode: int
    mtime: float
    link: str
    records: tuple[tuple[str, str, int], ...]  # pax: key, value, and how often the value
    times: int

    @property
    def is_honest(self) -> bool:
        kinds = (tarfile.REGTYPE, tarfile.DIRTYPE)
        return self.kind in kinds and self.claimed is None and not self.records


def names() -> st.SearchStrategy[str]:
    some = st.lists(st.sampled_from(PARTS), max_size=6).map("/".join)
    deep = st.builds(
        lambda part, depth, end: f"{part}/" * depth + end,
        st.sampled_from(("a", "b", "nn", "..", "n" * 200)),
        st.sampled_from((20, 99, 101, 260, 2100)),
        st.sampled_from(("", "x", "run.sh")),
    )
    return st.one_of(some, some, some, deep)


def entries() -> st.SearchStrategy[Entry]:
    records = st.tuples(
        st.sampled_from(KEYS),
        st.sampled_from(VALUES) | st.text(max_size=5),
        st.sampled_from((1, 1, 1, 100, 2**16, 200_000)),
    )
    plain = st.sampled_from((tarfile.REGTYPE, tarfile.DIRTYPE))
    return st.builds(
        Entry,
        name=names(),
        kind=st.one_of(plain, plain, plain, st.sampled_from(KINDS)),
        content=st.one_of(
            st.binary(max_size=40), st.just(b"\0" * 2000), st.just(b"x" * (MOST_BYTES + 1))
        ),
        claimed=st.one_of(
            *[st.none()] * 6, st.sampled_from((-1, -(2**40), 0, 1, 513, 2**33, 2**62))
        ),
        mode=st.one_of(st.sampled_from((0, 0o644, 0o755, 0o111, 0o4755, 0o7777)), st.just(2**20)),
        mtime=st.sampled_from((0, 1000, 1.5, -1, 2**40, 2**62)),
        link=st.sampled_from(("", "/etc/passwd", "..", "a", "run.sh")),
        records=st.one_of(*[st.just(())] * 3, st.lists(records, max_size=3).map(tuple)),
        times=st.sampled_from((1, 1, 1, 1, 2, 5, 40)),
    )


def packed(entry: Entry, room: int) -> bytes:
    """Return the blocks of an entry and its repetitions, as far as they fit."""
    info = tarfile.TarInfo(entry.name)
    info.type, info.mode, info.linkname = entry.kind, entry.mode, entry.link
    info.mtime = entry.mtime
    has_content = entry.kind != tarfile.DIRTYPE
    content = entry.content if has_content else b""
    info.size = len(content) if entry.claimed is None else entry.claimed
    if entry.kind in (tarfile.XHDTYPE, tarfile.XGLTYPE):
        content = b"".join(record(*one) for one in entry.records)
        info.size = len(content)
    elif entry.records:
        text = b"".join(record(*one) for one in entry.records)
        header = tarfile.TarInfo("pax")
        header.type, header.size = tarfile.XHDTYPE, len(text)
        before = header.tobuf(tarfile.USTAR_FORMAT) + padded(text)
        return (before + blocks(info) + padded(content)) * times(
            entry, len(before) + 3 * BLOCK, room
        )
    whole = blocks(info) + padded(content)
    return whole * times(entry, len(whole), room)


def times(entry: Entry, size: int, room: int) -> int:
    return max(1, min(entry.times, room // max(1, size)))


def blocks(info: tarfile.TarInfo) -> bytes:
    try:
        return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
    except (ValueError, OverflowError):
        info.mtime = info.mode = 0
        return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def record(key: str, value: str, often: int) -> bytes:
    body = f" {key}=".encode() + value.encode("utf-8", "surrogatepass") * often + b"\n"
    length = len(body) + len(str(len(body)))
    return str(length + (len(str(length)) > len(str(len(body))))).encode() + body


def padded(content: bytes) -> bytes:
    return content + b"\0" * (-len(content) % BLOCK)


def archive(inside: list[Entry]) -> bytes:
    """Return the tar of the entries without its end."""
    data = io.BytesIO()
    for entry in inside:
        data.write(packed(entry, (LARGEST - data.tell()) // 2))
    return data.getvalue()


def file(name: str, content: bytes = b"", times: int = 1) -> Entry:
    return Entry(name, tarfile.REGTYPE, content, None, 0o644, 0, "", (), times)


RUN = file("run.sh", b"true")
BOMBS = {
    "headers of one name (H1)": [
        Entry("a", tarfile.REGTYPE, b"", None, 0, 0, "", (("comment", "A", 900 * 1024),), 40)
    ],
    "folders of one name (H1)": [Entry("a", tarfile.DIRTYPE, b"", None, 0, 0, "", (), 40_000)],
    "depth (H2)": [file("a/" * 1900 + "x")],
    "folders that only names imply": [file(f"{i}/" + "a/" * 90 + "x") for i in range(40)],
}

ARCHIVES = st.lists(entries(), max_size=8).map(lambda more: [RUN, *more])


@searching
def test_any_archive_unpacks_to_files_and_folders_only(tmp_path: Path) -> None:
    """H1, H2: any entries, header bombs, names and depth; memory, number and bytes are bounded."""

    def holds(inside: list[Entry], cut: int, spoilt: dict[int, int]) -> None:
        raw = bytearray(archive(inside) + b"\0" * 1024)
        for place, value in spoilt.items():
            raw[place % len(raw)] = value
        data = gzip.compress(bytes(raw), 1)
        if cut:
            data = data[: -cut % len(data)]
        unpacked(tmp_path, data)

    spoilt = st.one_of(
        st.just({}),
        st.dictionaries(st.integers(0, 2**20), st.integers(0, 255), max_size=5),
    )
    search(
        holds,
        examples=60,
        known=[{"inside": [RUN, *bomb], "cut": 0, "spoilt": {}} for bomb in BOMBS.values()],
        inside=ARCHIVES,
        cut=st.one_of(*[st.just(0)] * 5, st.integers(1, 5000)),
        spoilt=spoilt,
    )


@searching
def test_bytes_that_are_no_archive_are_broken_input(tmp_path: Path) -> None:
    """Any bytes end in BrokenInputError or in files and folders."""

    def holds(data: bytes, is_zipped: bool) -> None:
        unpacked(tmp_path, gzip.compress(data) if is_zipped else data)

    search(holds, examples=60, data=st.binary(max_size=3 * BLOCK), is_zipped=st.booleans())


@searching
def test_an_honest_archive_is_there_as_it_was_sent(tmp_path: Path) -> None:
    """The last entry of each name counts, byte for byte."""
    part = st.sampled_from(("a", "b", "ä", "n" * 100, " ", "a\\b", "-rf"))
    named = st.tuples(st.lists(part, min_size=1, max_size=4), st.binary(max_size=2000))

    def holds(files: list[tuple[list[str], bytes]]) -> None:
        expected: dict[str, bytes] = {}
        inside = [RUN]
        for parts, content in files:
            name = "/".join(parts)
            if any(is_below(name, other) or is_below(other, name) for other in expected):
                continue
            expected[name] = content
            inside.append(file(name, content))
        data = gzip.compress(archive(inside) + b"\0" * 1024, 1)
        there = unpacked(tmp_path, data)
        assert there == expected | {"run.sh": b"true"}

    search(holds, examples=40, files=st.lists(named, max_size=8))


def is_below(name: str, folder: str) -> bool:
    return name.startswith(f"{folder}/")


def unpacked(tmp_path: Path, data: bytes) -> dict[str, bytes] | None:
    """Unpack, check the invariants, and return the files; None if the archive was refused."""
    with outside_of(tmp_path) as outside:
        (outside / "run.sh").write_bytes(b"another job's")
        rundir = outside / "rundir"
        chunks: Iterator[bytes] = (data[i : i + 2**16] for i in range(0, len(data), 2**16))
        # Hypothesis raises the recursion limit, an agent does not.
        sys.setrecursionlimit(1000)
        tracemalloc.start()
        try:
            unpack(chunks, rundir, InputLimits(MOST_FILES, MOST_BYTES), threading.Event())
            refused = None
        except BrokenInputError as error:
            refused = str(error)
        finally:
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        try:
            assert peak < MOST_MEMORY, f"it took {peak / 2**20:.0f} MB"
            assert {p.name for p in outside.iterdir()} <= {"run.sh", "rundir"}
            assert (outside / "run.sh").read_bytes() == b"another job's"
            files = looked_at(rundir) if rundir.exists() else {}
            assert refused != ""
            assert refused is not None or "run.sh" in files
        finally:
            assert remove_tree(rundir) is None
        return None if refused is not None else files


@contextmanager
def outside_of(tmp_path: Path) -> Iterator[Path]:
    """A folder for one example, removed whatever it contains: shutil.rmtree recurses."""
    folder = tempfile.mkdtemp(dir=tmp_path)
    try:
        yield Path(folder)
    finally:
        subprocess.run(["rm", "-rf", "--", folder], check=True)


def looked_at(rundir: Path) -> dict[str, bytes]:
    """Return the files of a rundir.

    Check that it has only files and folders of the promised modes.
    """
    files: dict[str, bytes] = {}
    count = 0
    waiting = [(os.open(rundir, os.O_RDONLY), "")]
    while waiting:
        folder, prefix = waiting.pop()
        assert stat.S_IMODE(os.fstat(folder).st_mode) == 0o777
        for name in [entry.name for entry in os.scandir(folder)]:
            count += 1
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                assert len(waiting) < 500
                waiting.append((os.open(name, os.O_RDONLY, dir_fd=folder), f"{prefix}{name}/"))
                continue
            assert stat.S_ISREG(found.st_mode)
            assert found.st_nlink == 1
            assert stat.S_IMODE(found.st_mode) in (0o666, 0o777)
            with os.fdopen(os.open(name, os.O_RDONLY, dir_fd=folder), "rb") as file:
                files[prefix + name] = file.read()
        os.close(folder)
    # Folders that only a name implies are counted too: each costs an inode.
    assert count <= MOST_FILES
    assert sum(map(len, files.values())) <= MOST_BYTES
    return files
