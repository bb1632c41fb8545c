"""What the verbs that work on the jobs of many folders share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from leruli.output import Output

if TYPE_CHECKING:
    from leruli.manyjobs import Tally

_Body = TypeVar("_Body", bound=Callable[..., Any])


# Failures told one by one on the terminal; --json has them all.
_MOST_FAILURES = 20


def batch_option(body: _Body) -> _Body:
    """Add --batch."""
    return click.option(
        "--batch",
        metavar="PATTERN|FILE",
        help="Of the jobs of many folders: a pattern in quotes such as 'case-*/', or a file with "
        "one folder a line (- for standard input).",
    )(body)


def refuse_with_batch(batch: str | None, **others: object) -> None:
    """Raise click.UsageError when --batch stands beside what names one job."""
    for name, value in others.items():
        if batch is not None and value is not None:
            raise click.UsageError(f"Give --batch or {name.upper()}, not both.")


def tell_skipped(out: Output, skipped: Mapping[str, str]) -> None:
    """Remark how many folders were passed over, and why."""
    if skipped:
        out.note(f"Skipped {_counted(skipped)}.")


def tell(
    out: Output,
    verb: str,
    tally: Tally,
    more: Mapping[str, Any],
    detail: str = "",
    kinds: Mapping[str, int] | None = None,
) -> int:
    """Print what became of each folder, summed up; returns the exit code.

    `verb` is such as "Fetched"; `more` is added to the document and `detail` to the text. `kinds`
    says how many of the folders that were dealt with are of which kind.
    """
    tell_failures(out, f"Not {verb.lower()}", tally.failed)
    count = " and ".join(f"{count} {kind}" for kind, count in sorted((kinds or {}).items()))
    parts = [f"{verb} {count or len(tally.done)}{detail}"]
    if tally.skipped:
        parts.append(f"skipped {_counted(tally.skipped)}")
    if tally.failed:
        parts.append(f"{len(tally.failed)} failed")
    out.done(
        "; ".join(parts) + ".",
        {verb.lower(): tally.done, "skipped": tally.skipped, "failed": tally.failed, **more},
    )
    return 1 if tally.failed else 0


def tell_failures(out: Output, what: str, failed: dict[str, str]) -> None:
    """Complain of the first failures one by one, and of how many more there are."""
    for name, why in list(failed.items())[:_MOST_FAILURES]:
        out.complaint(f"{what}: {name}: {why}")
    if len(failed) > _MOST_FAILURES:
        out.complaint(f"... and {len(failed) - _MOST_FAILURES} more; --json lists them all.")


def _counted(reasons: Mapping[str, str]) -> str:
    counts = Counter(reasons.values())
    return f"{len(reasons)} ({', '.join(f'{n} {why}' for why, n in counts.most_common())})"
