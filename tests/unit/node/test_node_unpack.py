from __future__ import annotations

import gzip
import io
import os
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from leruli_node.errors import StoppedError
from leruli_node.files.unpack import BrokenInputError, InputLimits, InputTooLargeError, unpack
from leruli_node.objects.store_errors import StoreUnavailableError

STOP = threading.Event()


def member(name: str, kind: bytes = tarfile.REGTYPE, **more: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type = kind
    for key, value in more.items():
        setattr(made, key, value)
    return made


def pack(*members: tuple[tarfile.TarInfo, bytes], mode: str = "w:gz") -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode, format=tarfile.GNU_FORMAT) as archive:  # type: ignore[call-overload]
        for info, content in members:
            info.size = len(content) if info.isreg() else 0
            archive.addfile(info, io.BytesIO(content))
    return data.getvalue()


RUN = (member("run.sh"), b"true")


def do(data: bytes, to: Path, files: int = 100, size: int = 10**6, step: int = 7) -> None:
    chunks: Iterator[bytes] = (data[i : i + step] for i in range(0, len(data), step))
    unpack(chunks, to, InputLimits(files, size), STOP)


def test_a_folder(tmp_path: Path) -> None:
    top = tmp_path / "r"
    before = os.umask(0o077)
    try:
        data = pack(
            (member(".", tarfile.DIRTYPE, mode=0o700), b""),
            (member("./sub", tarfile.DIRTYPE, mode=0o500), b""),
            (member("./sub/ä b", mode=0o400, mtime=1000), b"content"),
            (member("./deep/er/x", mode=0o755), b"#!"),
            (member("./run.sh"), b"old"),
            RUN,
        )
        do(data, top)
    finally:
        os.umask(before)
    assert (top / "sub/ä b").read_bytes() == b"content"
    assert (top / "run.sh").read_bytes() == b"true"
    modes = {str(p.relative_to(top)): p.stat().st_mode & 0o7777 for p in top.rglob("*")}
    assert modes == {
        "sub": 0o777,
        "sub/ä b": 0o666,
        "deep": 0o777,
        "deep/er": 0o777,
        "deep/er/x": 0o777,
        "run.sh": 0o666,
    }
    assert top.stat().st_mode & 0o777 == 0o777
    assert (top / "sub/ä b").stat().st_mtime == 1000


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (member("../x"), "'..'"),
        (member("a/../../x"), "'..'"),
        (member("/etc/x"), "absolute"),
        (member("l", tarfile.SYMTYPE, linkname="/etc/passwd"), "a link"),
        (member("l", tarfile.LNKTYPE, linkname="../../etc/passwd"), "a link"),
        (member("d", tarfile.CHRTYPE), "a device"),
        (member("p", tarfile.FIFOTYPE), "a device or pipe"),
        (member("n" * 300), "too long"),
        (member("run.sh/x"), "[Nn]ot a directory|File exists"),
        (member("./"), "a file without a name"),
    ],
)
def test_malicious_members(tmp_path: Path, bad: tarfile.TarInfo, why: str) -> None:
    with pytest.raises(BrokenInputError, match=why):
        do(pack(RUN, (bad, b"evil")), tmp_path / "r")
    assert not (tmp_path / "x").exists()


def header(kind: bytes, size: int) -> bytes:
    info = member("h", kind)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


def block(kind: bytes, content: bytes) -> bytes:
    return header(kind, len(content)) + content + b"\0" * (-len(content) % 512)


def record(key: str, value: str) -> bytes:
    text = f" {key}={value}\n"
    length = len(text) + len(str(len(text)))
    return f"{length + (len(str(length)) > len(str(len(text))))}{text}".encode()


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(block(b"x", record("comment", "a")) * 2000, id="recursion"),
        pytest.param(
            block(b"x", record("GNU.sparse.map", "a,b")) + header(b"0", 0), id="sparse-map"
        ),
        pytest.param(block(b"x", record("GNU.sparse.size", "x")) + header(b"0", 0), id="size"),
    ],
)
def test_malformed_headers(tmp_path: Path, raw: bytes) -> None:
    with pytest.raises(BrokenInputError, match="cannot be unpacked"):
        do(gzip.compress(raw + header(b"0", 0) + b"\0" * 1024), tmp_path / "r", step=2**16)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(header(b"L", 2**21) + b"n" * 2**21, id="long-name"),
        pytest.param(block(b"x", record("k", "v" * 2**19)) * 3, id="of-one-file"),
        pytest.param((block(b"g", record("k", "v" * 2**18)) + header(b"5", 0)) * 5, id="global"),
    ],
)
def test_headers_that_fill_the_memory(tmp_path: Path, raw: bytes) -> None:
    with pytest.raises(BrokenInputError, match="headers are too long"):
        do(gzip.compress(raw + header(b"0", 0) + b"\0" * 1024), tmp_path / "r", step=2**16)


def test_long_names_are_fine(tmp_path: Path) -> None:
    name = "/".join(["n" * 100] * 20)
    do(pack(*((member(f"{name}/{i}"), b"x") for i in range(90)), RUN), tmp_path / "r", files=200)
    assert (tmp_path / "r" / name / "89").read_bytes() == b"x"


def test_link_then_a_file_through_it(tmp_path: Path) -> None:
    data = pack(
        RUN, (member("a", tarfile.SYMTYPE, linkname=str(tmp_path)), b""), (member("a/x"), b"evil")
    )
    with pytest.raises(BrokenInputError, match="a link"):
        do(data, tmp_path / "r")
    assert not (tmp_path / "x").exists()


def test_limits(tmp_path: Path) -> None:
    with pytest.raises(BrokenInputError, match="more than 2 files"):
        do(pack(RUN, (member("a"), b""), (member("b"), b"")), tmp_path / "r", files=2)
    with pytest.raises(BrokenInputError, match="MB"):
        do(pack(RUN, (member("a"), b"x" * 2**21)), tmp_path / "s", size=2**20)


def test_not_an_archive(tmp_path: Path) -> None:
    whole = pack(RUN, (member("a"), os.urandom(100_000)))
    for number, data in enumerate((b"", b"text", whole[:50_000], pack(RUN, mode="w"))):
        with pytest.raises(BrokenInputError):
            do(data, tmp_path / str(number), step=4096)
    with pytest.raises(BrokenInputError, match=r"no run\.sh"):
        do(pack((member("a"), b"")), tmp_path / "n")


def test_a_lost_connection_is_not_broken_input(tmp_path: Path) -> None:
    def chunks() -> Iterator[bytes]:
        yield pack(RUN, (member("a"), os.urandom(100_000)))[:5_000]
        raise StoreUnavailableError("gone")

    with pytest.raises(StoreUnavailableError):
        unpack(chunks(), tmp_path / "r", InputLimits(10, 10**6), STOP)


def test_stop(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(StoppedError):
        unpack(iter([pack(RUN)]), tmp_path / "r", InputLimits(10, 10**6), stop)


def test_a_stream_of_nothing_ends(tmp_path: Path) -> None:
    """H1: empty gzip members give no byte to count, and occupied an unpacking slot for hours."""
    given = 0

    def chunks() -> Iterator[bytes]:
        nonlocal given
        while True:
            given += 2**20
            yield gzip.compress(b"") * (2**20 // 20)

    with pytest.raises(InputTooLargeError):
        unpack(chunks(), tmp_path / "r", InputLimits(10, 2**20), STOP)
    assert given < 5 * 2**20
