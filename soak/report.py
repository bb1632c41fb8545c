"""Progress for people during a run, and the report for people and programs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from soak.evidence import AttemptRow, Evidence, by_state, gaps
from soak.killer import Kill
from soak.memory import Peak

_LINE_EVERY_S = 10.0


class Progress:
    """Progress: a table in a terminal, else a line every ten seconds; nothing if quiet."""

    def __init__(self, *, quiet: bool) -> None:
        # Standard output is for the report only.
        self._console = Console(stderr=True, quiet=quiet, highlight=False)
        self._live: Live | None = None
        self._began = self._printed_at = time.monotonic()
        if self._console.is_terminal and not quiet:
            self._live = Live(console=self._console, refresh_per_second=4)

    def __enter__(self) -> Progress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, sentence: str) -> None:
        """Print a sentence about the step that begins."""
        self._console.print(f"soak: {sentence}", soft_wrap=True)

    def show(self, figures: dict[str, object]) -> None:
        """Show the figures. Frequent calls are cheap."""
        now = time.monotonic()
        elapsed = f"{now - self._began:.0f} s"
        if self._live is not None:
            table = Table(box=None, pad_edge=False)
            for name in ("after", *figures):
                table.add_column(name)
            table.add_row(elapsed, *(str(figure) for figure in figures.values()))
            self._live.update(table)
        elif now - self._printed_at >= _LINE_EVERY_S:
            self._printed_at = now
            self.say(f"{elapsed}: " + ", ".join(f"{name} {f}" for name, f in figures.items()))


@dataclass(frozen=True)
class Returns:
    """Number of kills of a part, and the seconds until it worked again."""

    kills: int
    median_s: float | None
    longest_s: float | None


@dataclass
class Report:
    """Figures and findings of one run."""

    seed: int
    jobs: int
    seconds: float
    states: dict[str, int]
    # Jobs per second, during the submits and during the drain.
    intake_rate: float
    drain_rate: float
    run: int
    attempts: int
    attempts_lost: int
    # Attempts that ran in the slot of another one, and jobs that asked for a shared container.
    further: int
    shared: int
    # Number of attempts that were not the last of their job, by outcome and reason.
    tried_again: dict[str, int]
    # Commands that ran to their end in an attempt that was then abandoned, so they ran again.
    commands_repeated: int
    containers: int
    longest_gap_s: float
    kills: dict[str, Returns]
    counts: dict[str, int]
    # Memory of our parts; only in runs with enemies.
    memory: dict[str, Peak]
    findings: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the report for programs."""
        return asdict(self)

    def text(self) -> str:
        """Return the report for people."""
        console = Console(width=110, highlight=False)
        kills = Table("part", "killed", "back after (median)", "at most", box=None, pad_edge=False)
        for part, back in self.kills.items():
            kills.add_row(part, str(back.kills), _seconds(back.median_s), _seconds(back.longest_s))
        figures = Table("figure", "", box=None, pad_edge=False)
        for name, value in self._figures():
            figures.add_row(name, value)
        with console.capture() as captured:
            console.print(figures)
            console.print()
            console.print(kills)
            console.print()
            for sentence in self.findings:
                console.print(f"FOUND: {sentence}", soft_wrap=True)
            console.print(
                f"{len(self.findings)} findings; the same jobs and kills: --seed {self.seed}"
                if self.findings
                else f"every job ended exactly once (seed {self.seed})"
            )
        return captured.get()

    def _figures(self) -> list[tuple[str, str]]:
        again = ", ".join(f"{why} {count}" for why, count in self.tried_again.items())
        return [
            ("jobs received", f"{self.jobs:,}"),
            ("their ends", ", ".join(f"{state} {n:,}" for state, n in self.states.items())),
            ("seconds in all", f"{self.seconds:.0f}"),
            ("jobs received a second", f"{self.intake_rate:.0f}"),
            ("jobs drained a second", f"{self.drain_rate:.2f}"),
            ("jobs that ran", f"{self.run:,}"),
            ("attempts", f"{self.attempts:,}, of these lost {self.attempts_lost}"),
            ("attempts in the slot of another one", f"{self.further:,}"),
            ("jobs in shared containers", f"{self.shared:,}"),
            ("tried again after", again or "nothing"),
            ("commands that ran to their end and ran again", str(self.commands_repeated)),
            ("containers that Docker saw", f"{self.containers:,}"),
            ("longest time without any end", f"{self.longest_gap_s:.1f} s"),
            *(
                (f"memory of {part}", f"{peak.rest_mb:.0f} MB at rest, {peak.most_mb:.0f} at most")
                for part, peak in self.memory.items()
            ),
            *((name, f"{count:,}") for name, count in sorted(self.counts.items())),
        ]


@dataclass(frozen=True)
class Times:
    """Durations of intake, drain and the whole run, in s."""

    intake_s: float
    drain_s: float
    whole_s: float


def make_report(
    evidence: Evidence,
    found: list[str],
    times: Times,
    counts: dict[str, int],
    memory: dict[str, Peak],
) -> Report:
    """Compute the figures."""
    attempts = [attempt for rows in evidence.attempts.values() for attempt in rows]
    earlier = [a for rows in evidence.attempts.values() for a in rows[:-1]]
    own_ends = [row for row in evidence.jobs.values() if row.state in ("completed", "failed")]
    codes = {job_id: job.exit_code for job, job_id in evidence.ids.items()}
    repeated = [
        a
        for a in earlier
        if a.key in evidence.containers
        and codes.get(a.job_id) in evidence.containers[a.key].exit_codes
    ]
    return Report(
        seed=evidence.seed,
        jobs=len(evidence.jobs),
        seconds=times.whole_s,
        states=by_state(row.state for row in evidence.jobs.values()),
        intake_rate=len(evidence.ids) / times.intake_s,
        drain_rate=len(own_ends) / times.drain_s,
        run=len(evidence.buckets),
        attempts=len(attempts),
        further=sum(attempt.slot_job is not None for attempt in attempts),
        shared=sum(
            job.shares and job_id in evidence.buckets for job, job_id in evidence.ids.items()
        ),
        attempts_lost=sum(row.lost_attempts for row in evidence.jobs.values()),
        tried_again=by_state(_why(attempt) for attempt in earlier),
        commands_repeated=len(repeated),
        containers=sum(seen.starts for seen in evidence.containers.values()),
        longest_gap_s=max(
            gaps(row.ended_at for row in own_ends if row.ended_at is not None), default=0.0
        ),
        kills={part: _returns(evidence.kills, part) for part in _parts(evidence.kills)},
        counts=counts,
        memory=memory,
        findings=found,
    )


def _why(attempt: AttemptRow) -> str:
    return ": ".join(word for word in (attempt.outcome, attempt.message) if word) or "unknown"


def _parts(kills: Sequence[Kill]) -> list[str]:
    return sorted({kill.part for kill in kills})


def _returns(kills: Sequence[Kill], part: str) -> Returns:
    own = [kill for kill in kills if kill.part == part]
    times = [kill.back_after_s for kill in own if kill.back_after_s is not None]
    if not times:
        return Returns(len(own), None, None)
    return Returns(len(own), round(statistics.median(times), 1), round(max(times), 1))


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f} s"
