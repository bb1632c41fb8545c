"""The text of a mail, whatever users, batches and jobs are called."""

from __future__ import annotations

import email
import email.policy
import unicodedata
from datetime import UTC, datetime
from email.message import EmailMessage
from uuid import UUID

import pytest
from hypothesis import strategies as st
from property_world import search, searching

from leruli_queue.jobs.batches import Batch, Failure
from leruli_queue.jobs.states import JobState
from leruli_queue.mail.text import Text, Told, message, shown, text_of_end, text_of_first_failure

WHEN = datetime(2026, 12, 3, 5, 0, tzinfo=UTC)
BATCH = UUID("1f0c3a52-0000-4000-8000-000000000000")
MAIL = UUID("2f0c3a52-0000-4000-8000-000000000000")
HEADERS = ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted"]
OF_BODY = ["Content-Type", "Content-Transfer-Encoding", "MIME-Version"]

HOSTILE = [
    "scan\r\nBcc: eve@example.org",
    "scan\nSubject: another",
    "scan\r\n\r\n<b>body</b>",
    "\r\n.\r\nMAIL FROM:<eve@example.org>",
    "\u202egnp.exe\u202c",
    "\u2066x\u2069\u200f\u200e\u061c",
    "a\u2028b\u2029c",
    "\x00\x1b[2J\x7f\x9b",
    "=?utf-8?q?Bcc=3A?= =?utf-8?b?ZXZl?=",
    # A mark of direction, as an encoded word.
    "=?utf-8?b?4oCu?=",
    "==??utf-8?b?4oCu?=",
    "\ud800",
    "\U000e0041\U000e0042",
    "水" * 200,
    "x" * 200,
    "a " * 100,
    "é" * 200,
    "👩‍🔬" * 40,
    ".",
    "-- ",
    "",
]


def told(name: str, counts: dict[JobState, int] | None = None) -> Told:
    every = dict.fromkeys(JobState, 0) | (counts or {JobState.FAILED: 1})
    batch = Batch(1, BATCH, name, every, WHEN, WHEN, WHEN)
    return Told(name, name, batch, [Failure(BATCH, name, name, 3, WHEN)])


def sent(text: Text) -> EmailMessage:
    """The mail as its reader gets it."""
    made = message(MAIL, "queue@lab.example", "ada@example.org", text, WHEN)
    wire = made.as_bytes(policy=email.policy.SMTP)
    assert max(map(len, wire.split(b"\r\n"))) <= 998
    assert b"\n" not in wire.replace(b"\r\n", b"")
    assert wire.isascii()
    read = email.message_from_bytes(wire, policy=email.policy.default)
    assert isinstance(read, EmailMessage)
    return read


def check(name: str) -> None:
    for write in (text_of_end, text_of_first_failure):
        text = write(told(name))
        read = sent(text)
        assert sorted(read.keys()) == sorted(HEADERS + OF_BODY)
        assert read["To"] == "ada@example.org"
        assert read["Message-ID"] == f"<{MAIL}@lab.example>"
        assert not read.defects
        subject = str(read["Subject"])
        body = read.get_content().replace("\r\n", "\n")
        # White space at the ends of parts of a long subject may be lost.
        assert "".join(subject.split()) == "".join(text.subject.split())
        assert body == text.body
        for line in (subject, *body.split("\n")):
            assert shown(line) == line, line
        assert len(subject) < 160
        # No name makes a line of its own.
        assert len(body.split("\n")) == len(write(told("scan")).body.split("\n"))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_a_name_and_nothing_else(name: str) -> None:
    check(name)


@searching
def test_any_name_is_a_name_and_nothing_else() -> None:
    def holds(name: str) -> None:
        check(name)

    encoded = st.lists(st.sampled_from(["=", "?", "utf-8", "q", "b", "=E2=80=AE", " ", "x"]))
    names = st.one_of(st.text(max_size=200), encoded.map("".join))
    search(holds, examples=100, name=names)


@searching
def test_what_is_shown_has_no_unseen_characters() -> None:
    def holds(text: str) -> None:
        assert len(shown(text)) <= min(len(text), 500)
        for one in shown(text):
            assert unicodedata.category(one)[0] != "C"
            assert unicodedata.category(one) not in ("Zl", "Zp")

    search(holds, examples=100, text=st.text())


def test_a_long_name_is_cut_in_the_subject_and_whole_in_the_body() -> None:
    name = "x" * 200
    text = text_of_end(told(name))
    assert text.subject == f"[leruli] {'x' * 59}…: over: 1 failed"
    assert f"Batch: {name}\n" in text.body


def test_the_mail_about_the_end_has_the_counts_of_all_final_states() -> None:
    counts = {JobState.COMPLETED: 178, JobState.FAILED: 2}
    text = text_of_end(told("scan", counts))
    assert text.subject == "[leruli] scan: over: 178 completed, 2 failed"
    assert "completed:       178\nfailed:            2\ncancelled:         0\n" in text.body
    assert "running" not in text.body


def test_the_mail_about_a_failure_says_how_many_jobs_are_not_over() -> None:
    one = text_of_first_failure(told("scan", {JobState.FAILED: 1, JobState.RUNNING: 1})).body
    assert "1 job of it is not over yet." in one
    many = text_of_first_failure(told("scan", {JobState.FAILED: 1, JobState.RECEIVED: 7})).body
    assert "7 jobs of it are not over yet." in many
