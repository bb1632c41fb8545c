"""What is read of a log while the job does anything with it. Real files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from leruli_node.files.walk import OPEN_FOLDER
from leruli_node.live.tail import Piece, Tail, open_log

NAME = "joblog.txt"
MANY = 1_000_000


class Log:
    """A log and what reads it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self.folder = os.open(folder, OPEN_FOLDER)
        self.tail = Tail()

    def append(self, data: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(data)

    def read(self, most: int = MANY) -> Piece | None:
        opened = open_log(self.folder, NAME)
        if opened is not None:
            self.tail.take(*opened)
        return self.tail.next(most)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    made = Log(tmp_path)
    yield made
    made.tail.close()
    os.close(made.folder)


def test_each_byte_is_read_once(log: Log) -> None:
    assert log.read() is None
    log.append(b"one\n")
    assert log.read() == Piece(0, b"one\n")
    assert log.read() is None
    log.append(b"two")
    assert log.read() == Piece(4, b"two")


def test_it_begins_with_a_line_near_the_end(log: Log) -> None:
    line = b"x" * 99 + b"\n"
    log.append(line * 10_000)
    piece = log.read()
    assert piece is not None
    assert len(piece.data) <= 64 * 2**10
    assert piece.offset % 100 == 0
    assert piece.offset + len(piece.data) == 1_000_000


def test_a_job_that_writes_too_fast_is_skipped_to_the_newest(log: Log) -> None:
    log.append(b"first\n")
    log.read()
    log.append(b"old\n" * 1000 + b"new\n" * 10)
    assert log.read(42) == Piece(6 + 4000, b"new\n" * 10)


def test_a_line_that_is_longer_than_a_piece_is_not_left_out(log: Log) -> None:
    log.append(b"first\n")
    log.read()
    log.append(b"y" * 100_000)
    piece = log.read(50_000)
    assert piece is not None
    assert (piece.offset, len(piece.data)) == (50_006, 50_000)


def test_a_log_that_is_cut_begins_again(log: Log) -> None:
    log.append(b"a long first line\n")
    log.read()
    log.path.write_bytes(b"short\n")
    assert log.read() == Piece(0, b"short\n", begins_again=True)
    log.append(b"more\n")
    assert log.read() == Piece(6, b"more\n")


def test_a_log_that_is_replaced_begins_again(log: Log) -> None:
    log.append(b"one\n")
    log.read()
    other = log.path.with_name("other")
    other.write_bytes(b"another file, and longer\n")
    other.rename(log.path)
    assert log.read() == Piece(0, b"another file, and longer\n", begins_again=True)


def test_a_log_that_was_moved_away_is_read_to_its_end(log: Log) -> None:
    log.append(b"one\n")
    log.read()
    moved = log.path.rename(log.path.with_name("moved"))
    with moved.open("ab") as file:
        file.write(b"two\n")
    assert log.read() == Piece(4, b"two\n")


def test_it_goes_on_where_an_earlier_follower_was(log: Log) -> None:
    log.append(b"one\ntwo\n")
    log.tail = Tail(4)
    assert log.read() == Piece(4, b"two\n")


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "socket"])
def test_only_a_regular_file_is_a_log(log: Log, kind: str) -> None:
    secret = log.path.with_name("secret")
    secret.write_bytes(b"secret")
    if kind == "link":
        log.path.symlink_to(secret)
    elif kind == "pipe":
        os.mkfifo(log.path)
    elif kind == "folder":
        log.path.mkdir()
    else:
        os.mknod(log.path, 0o140600)
    assert log.read() is None


def test_a_log_of_an_earlier_run_in_the_input_is_not_read(log: Log) -> None:
    log.append(b"of the input")
    later = log.path.stat().st_ctime_ns + 1
    assert open_log(log.folder, NAME, later) is None
