"""The list of an input's files: its answers and its memory."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from leruli_node.errors import StoppedError
from leruli_node.files.input_list import INPUT_LIST, InputList, InputListWriter, writing
from leruli_node.files.unpack import BrokenInputError, InputLimits, unpack
from leruli_node.files.walk import OPEN_FOLDER, Skipped, walk

STOP = threading.Event()
# MB of memory above rest. 200,000 files in Python dictionaries would need 40 MB and more.
MOST_MB = 20


@contextmanager
def opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, OPEN_FOLDER)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def unchanged(folder: Path, inputs: InputList) -> set[str]:
    with opened(folder) as top:
        return {e.key for e in walk(top, Skipped()) if inputs.has_unchanged(e, STOP)}


def unpacked(to: Path, files: list[tuple[str, bytes]]) -> InputList:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, content in [*files, ("run.sh", b"true")]:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    with writing(to / INPUT_LIST) as noted:
        unpack(iter([data.getvalue()]), to / "r", InputLimits(10**5, 10**7), STOP, noted)
    return InputList.read(to / INPUT_LIST)


def test_the_last_of_one_name_counts(tmp_path: Path) -> None:
    inputs = unpacked(tmp_path, [("a", b"first"), ("./b//c", b"1"), ("a", b"last!"), ("b/c", b"2")])
    assert unchanged(tmp_path / "r", inputs) == {"a", "b/c", "run.sh"}
    (tmp_path / "r" / "a").write_bytes(b"first")
    inputs = InputList.read(tmp_path / INPUT_LIST)
    assert unchanged(tmp_path / "r", inputs) == {"b/c", "run.sh"}


def test_thousands_of_names(tmp_path: Path) -> None:
    """So many that table slots collide. Every second file is changed."""
    names = [f"{n % 7}/{n}" for n in range(3000)]
    inputs = unpacked(tmp_path, [(name, name.encode()) for name in names])
    changed = set(names[::2])
    for name in changed:
        (tmp_path / "r" / name).write_bytes(name[::-1].encode() + b"x")
    assert unchanged(tmp_path / "r", inputs) == {"run.sh", *names} - changed


def test_a_list_of_an_unfinished_input_is_not_used(tmp_path: Path) -> None:
    with pytest.raises(BrokenInputError), writing(tmp_path / INPUT_LIST) as noted:
        unpack(iter([b"no archive"]), tmp_path / "r", InputLimits(9, 999), STOP, noted)
    (tmp_path / "r" / "a").write_bytes(b"1")
    noted = InputListWriter(tmp_path / INPUT_LIST)
    noted.add("a", (tmp_path / "r" / "a").stat(), 0o644, hashlib.sha256(b"1").digest())
    noted.close()
    assert unchanged(tmp_path / "r", InputList.read(tmp_path / INPUT_LIST)) == set()


def test_comparing_ends_when_the_agent_stops(tmp_path: Path) -> None:
    inputs = unpacked(tmp_path, [("a", b"1")])
    stop = threading.Event()
    stop.set()
    with opened(tmp_path / "r") as top, pytest.raises(StoppedError):
        [inputs.has_unchanged(entry, stop) for entry in walk(top, Skipped())]


def test_memory_of_200_000_files(tmp_path: Path) -> None:
    tests = Path(__file__).parents[2]
    script = f"""
import json, os, pathlib, sys
sys.path[:0] = [{str(tests / "support")!r}, {str(tests.parent / "node_setup")!r}]
from hostile_input import measure
from leruli_node.files.input_list import InputList, writing

path = pathlib.Path({str(tmp_path / INPUT_LIST)!r})
facts = os.stat("/")

def write():
    with writing(path) as noted:
        for number in range(200_000):
            noted.add("a-name-that-is-not-short-%d" % number, facts, 0o644, b"x" * 32)

def read():
    InputList.read(path)

print(json.dumps([measure(write), measure(read)]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    written, read = json.loads(done.stdout)
    assert written["peak_mb"] < 4
    assert read["peak_mb"] < MOST_MB
