"""The text of a mail: plain, and safe whatever users and batches are called."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from uuid import UUID

from leruli_queue.jobs.batches import Batch, Failure
from leruli_queue.jobs.states import FINAL, JobState

# What a subject shows of a batch's name. The body has all of it.
_IN_SUBJECT = 60
_MOST_TEXT = 500
# Characters of these categories change how a line is shown, or what it is: control characters,
# marks of direction, private and unassigned ones, separators of lines and paragraphs.
_UNSEEN = ("C", "Zl", "Zp")


@dataclass(frozen=True)
class Told:
    """Who is told, about which batch."""

    user: str
    group: str
    batch: Batch
    # The last ones, the newest first.
    failures: Sequence[Failure]


@dataclass(frozen=True)
class Text:
    """Subject and body of a mail."""

    subject: str
    body: str


def text_of_end(told: Told) -> Text:
    """Return the mail about the end of a batch."""
    counts = told.batch.counts
    parts = [
        f"{counts[state]} {state}"
        for state in (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)
        if counts[state]
    ]
    return _text(told, f"over: {', '.join(parts)}", "All jobs of the batch are over.")


def text_of_first_failure(told: Told) -> Text:
    """Return the mail about the first failure of a batch."""
    open_jobs = told.batch.open_jobs
    goes_on = f"{_counted(open_jobs)} of it {'is' if open_jobs == 1 else 'are'} not over yet."
    if not open_jobs:
        goes_on = "All jobs of it so far are over, and its submission goes on."
    return _text(
        told,
        "a job failed",
        f"A job of the batch failed. {goes_on} There is no mail about further failures: the next "
        "one is about the end of the batch.",
    )


def _text(told: Told, what: str, sentence: str) -> Text:
    batch = told.batch
    name = shown(batch.name) or "without a name"
    # Readers decode an encoded word (RFC 2047), and it could hold what "shown" takes out.
    short = name.replace("=?", "=_")
    if len(short) > _IN_SUBJECT:
        short = short[: _IN_SUBJECT - 1] + "…"
    lines = [
        f"Batch: {name}",
        f"Id:    {batch.id}",
        f"User:  {shown(told.user)} (group {shown(told.group)})",
        "",
        sentence,
        "",
        *(
            f"{state.value + ':':<11}{batch.counts[state]:>9}"
            for state in JobState
            if state in FINAL or batch.counts[state]
        ),
    ]
    if told.failures:
        lines += ["", "Failed last:"]
        for failure in told.failures:
            why = f": {shown(failure.reason)}" if failure.reason else ""
            lines.append(f"- {shown(failure.name)} ({failure.id}){why}")
    lines += [
        "",
        f"More: leruli batch-status {batch.id}",
        "",
        "-- ",
        "You get this mail because you submitted the batch with --mail.",
    ]
    return Text(f"[leruli] {short}: {what}", "\n".join(lines) + "\n")


def shown(text: str) -> str:
    """Return text on one line, with nothing in it that hides or reorders other text."""
    clean = "".join("_" if unicodedata.category(c).startswith(_UNSEEN) else c for c in text)
    return clean if len(clean) <= _MOST_TEXT else clean[: _MOST_TEXT - 1] + "…"


def message(
    mail_id: UUID, sender: str, address: str, text: Text, written_at: datetime
) -> EmailMessage:
    """Return the mail as it is sent. It is the same at each try."""
    mail = EmailMessage(policy=SMTP)
    mail["From"] = Address("Leruli Queue", addr_spec=sender)
    mail["To"] = Address(addr_spec=address)
    # The library would refuse a line break. Everything else it encodes.
    mail["Subject"] = shown(text.subject)
    mail["Date"] = format_datetime(written_at)
    mail["Message-ID"] = f"<{mail_id}@{sender.rpartition('@')[2]}>"
    # No answering machine answers it.
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(text.body, cte="quoted-printable")
    return mail


def _counted(jobs: int) -> str:
    return f"{jobs} job" if jobs == 1 else f"{jobs} jobs"
