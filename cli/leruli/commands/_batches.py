"""Shared by the commands with --batch: the option, and the report on many folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from leruli.terminal.output import Output

if TYPE_CHECKING:
    from leruli.jobs.many import Tally

_Body = TypeVar("_Body", bound=Callable[..., Any])


# The terminal shows at most so many failures; --json has all.
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
    """Raise click.UsageError if --batch is combined with an argument that names one job."""
    for name, value in others.items():
        if batch is not None and value is not None:
            raise click.UsageError(f"Give --batch or {name.upper()}, not both.")


def tell_skipped(out: Output, skipped: Mapping[str, str]) -> None:
    """Print how many folders were skipped, and why."""
    if skipped:
        out.note(f"Skipped {_counted(skipped)}.")


def tell(
    out: Output,
    participle: str,
    tally: Tally,
    more: Mapping[str, Any],
    detail: str = "",
    kinds: Mapping[str, int] | None = None,
) -> int:
    """Print the outcome of all folders and return the exit code.

    `participle` is the outcome, such as "Fetched". `more` is added to the document and `detail` to
    the text. `kinds` counts the finished folders by kind.
    """
    tell_failures(out, f"Not {participle.lower()}", tally.failed)
    count = " and ".join(f"{count} {kind}" for kind, count in sorted((kinds or {}).items()))
    parts = [f"{participle} {count or len(tally.done)}{detail}"]
    if tally.skipped:
        parts.append(f"skipped {_counted(tally.skipped)}")
    if tally.failed:
        parts.append(f"{len(tally.failed)} failed")
    out.done(
        "; ".join(parts) + ".",
        {participle.lower(): tally.done, "skipped": tally.skipped, "failed": tally.failed, **more},
    )
    return 1 if tally.failed else 0


def tell_failures(out: Output, what: str, failed: dict[str, str]) -> None:
    """Print the first failures one by one, and the number of further ones."""
    for name, why in list(failed.items())[:_MOST_FAILURES]:
        out.complaint(f"{what}: {name}: {why}")
    if len(failed) > _MOST_FAILURES:
        out.complaint(f"... and {len(failed) - _MOST_FAILURES} more; --json lists them all.")


def _counted(reasons: Mapping[str, str]) -> str:
    counts = Counter(reasons.values())
    return f"{len(reasons)} ({', '.join(f'{n} {why}' for why, n in counts.most_common())})"
