"""One stream of a job's live output, from the real storage.

The tests put the objects there by hand, as a node agent does.
"""

from __future__ import annotations

import itertools
import uuid

import pytest

from leruli.jobs.live_output import OUT, LiveStream


class Case:
    """A bucket with live output of attempt 1, and what its stream gave."""

    def __init__(self, store, *, is_whole=False):
        self.store, self.bucket = store, str(uuid.uuid4())
        store.make_bucket(self.bucket)
        self.given, self.skipped = [], []
        self.stream = LiveStream(
            *(store, self.bucket, OUT, self.given.append, self.skipped.append), is_whole=is_whole
        )
        self.stream.begin(1)

    def write(self, offset, content, attempt=1):
        self.store.put(self.bucket, f".leruli/live/{attempt}/out/{offset:015}", content)

    def end(self, content):
        self.store.put(self.bucket, "joblog.txt", content)
        return self.stream.finish()

    @property
    def text(self):
        return b"".join(self.given)


@pytest.fixture
def case(store):
    return Case(store)


def test_each_byte_comes_once_in_order(case):
    assert not case.stream.advance()
    case.write(0, b"one\n")
    case.write(4, b"two\n")
    assert case.stream.advance()
    assert not case.stream.advance()
    # An agent that began again sends some bytes twice.
    case.write(6, b"o\nthree\n")
    case.store.put(case.bucket, ".leruli/live/1/err/000000000000000", b"another stream")
    case.store.put(case.bucket, ".leruli/live/1/out/other", b"not an offset")
    case.write(0, b"another attempt", attempt=11)
    assert case.stream.advance()
    assert case.end(b"one\ntwo\nthree\nfour\n")
    assert case.text == b"one\ntwo\nthree\nfour\n"
    assert case.skipped == []


def test_a_gap_is_told(case):
    case.write(100, b"late\n")
    assert case.stream.advance()
    case.write(205, b"later\n")
    assert case.stream.advance()
    assert (case.text, case.skipped) == (b"late\nlater\n", [100, 100])


def test_a_whole_stream_has_no_gap(store):
    case = Case(store, is_whole=True)
    case.write(0, b"one\n")
    assert case.stream.advance()
    case.write(100, b"late\n")
    assert not case.stream.advance()
    # The object that is missing was only late, but later ones may be gone by then.
    case.write(4, b"two\n")
    assert not case.stream.advance()
    log = b"one\ntwo\n" + b"x" * 92 + b"late\nend\n"
    assert case.end(log)
    assert (case.text, case.skipped) == (log, [])


def test_objects_that_go_during_the_listing_are_a_gap(case, monkeypatch):
    for offset in (0, 4, 8):
        case.write(offset, b"abc\n")
    content = case.store.content
    # A FAKE of the moment: the agent removes the second object after it was listed.
    monkeypatch.setattr(
        case.store,
        "content",
        lambda bucket, name: None if name.endswith("4") else content(bucket, name),
    )
    assert case.stream.advance()
    assert (case.text, case.skipped) == (b"abc\nabc\n", [4])


def test_the_next_attempt_begins_at_its_first_byte(case):
    case.write(0, b"one\ntwo\n")
    assert case.stream.advance()
    case.stream.begin(2)
    case.write(0, b"one\n", attempt=2)
    assert case.stream.advance()
    assert case.end(b"one\n2\n")
    assert case.text == b"one\ntwo\none\n2\n"


def test_a_log_that_the_job_began_again_is_given_whole(case):
    case.write(0, b"a long first part\n")
    assert case.stream.advance()
    assert case.end(b"short\n")
    assert case.text == b"a long first part\nshort\n"


def test_no_log_and_an_empty_log(store):
    assert not Case(store).stream.finish()
    assert Case(store).end(b"")


def test_a_large_log_survives_a_broken_connection(store, monkeypatch):
    case = Case(store)
    log = b"".join(b"%07d\n" % number for number in range(400_000))
    read, calls = store.read, itertools.count()

    def broken(bucket, name, offset):
        from leruli.errors import StorageError

        # A FAKE of a connection that breaks after the first piece.
        yield next(read(bucket, name, offset))
        if next(calls) < 2:
            raise StorageError("broke off")
        yield from itertools.islice(read(bucket, name, offset), 1, None)

    monkeypatch.setattr(store, "read", broken)
    assert case.end(log)
    assert case.text == log
