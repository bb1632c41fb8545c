"""One run: submit, kill, drain, cancel the rest, wait until all settles, check everything."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from soak import evidence as evidences
from soak.calls import CallFailedError, Line
from soak.checks import findings
from soak.evidence import Evidence
from soak.follower import Follower
from soak.hostile import Hostile, enemies_of
from soak.hostile_checks import findings as hostile_findings
from soak.killer import Killer
from soak.ledger import FINAL, Ledger
from soak.parts import parts_of
from soak.plan import make_plan
from soak.report import Progress, Report, Times, make_report
from soak.stack import SLOTS, SoakStack, User, processes_of, running_stack
from soak.submitter import Submitters
from soak.witness import Witness

_USERS = ("ada", "grace", "emmy", "lise")
# With fewer unfinished jobs with an input, of any user, the drain cannot go on.
_FEWEST_UNFINISHED = 3
# Within five minutes the node removes folders that a crash left, and the service abandons attempts
# that Nomad lost. After that nothing changes any more.
_SETTLES_WITHIN_S = 420.0
# Enemies leave trees of up to 200,000 names, which the agent removes in the background. A disk on
# which `rm -rf` removes 1,000 folders a second needs this long for them.
_SETTLES_WITH_ENEMIES_WITHIN_S = 1500.0


@dataclass(frozen=True)
class Options:
    """Options of a run, as given on the command line."""

    seed: int
    jobs: int
    drain: int
    # Seconds between two kills, on average.
    kill_every_s: float
    # The drain ends only after every part was killed this often.
    fewest_kills: int
    # The parts to kill.
    parts: tuple[str, ...]
    # Timeout of the drain. After it the rest is cancelled, which is a finding.
    limit_s: float
    # The stack's folder.
    data: Path
    # Whether there are enemies beside the honest users.
    hostile: bool = False
    # Whether the jobs are short, and run in slots.
    short: bool = False


def run(options: Options, progress: Progress) -> Report:
    """Do one run and return its report.

    Raises
    ------
    leruli_queue.errors.SetupError
        If the stack does not start or stop.
    """
    began = time.monotonic()
    progress.say(f"starting a stack in {options.data}")
    with running_stack(options.data, SLOTS if options.short else {}) as stack:
        done = _Run(options, progress, stack)
        evidence, found, (intake_s, drain_s), counts = done.go()
    left = [f"process {text} outlived the stack" for text in processes_of(options.data)]
    found += [f"seed {options.seed}: {sentence}" for sentence in left]
    times = Times(intake_s, drain_s, time.monotonic() - began)
    memory = done.hostile.memory if done.hostile is not None else {}
    return make_report(evidence, found, times, counts, memory)


class _Run:
    """The threads of one run, and their shared objects."""

    def __init__(self, options: Options, progress: Progress, stack: SoakStack) -> None:
        self._options = options
        self._progress = progress
        self._stack = stack
        self._ledger = Ledger()
        self._line = Line(stack.url, self._ledger)
        self._users = self._make_users()
        plan = make_plan(
            options.seed,
            jobs=options.jobs,
            drain=options.drain,
            users=len(self._users),
            short=options.short,
        )
        self._submitters = Submitters(stack, self._line, self._ledger, self._users, plan)
        self._follower = Follower(
            self._line, self._ledger, self._users, stack.state.admin_secret, options.seed
        )
        parts = [part for part in parts_of(stack) if part.name in options.parts]
        self._killer = Killer(parts, options.seed, options.kill_every_s)
        self.hostile: Hostile | None = None

    def go(self) -> tuple[Evidence, list[str], tuple[float, float], dict[str, int]]:
        """Return the evidence, the findings, the seconds of intake and drain, and the counts."""
        options, ledger = self._options, self._ledger
        with self._witness() as witness, ExitStack() as around:
            if options.hostile:
                self._progress.say("the enemies begin")
                self.hostile = around.enter_context(
                    enemies_of(self._stack, self._line, options.data, options.seed)
                )
            self._progress.say(
                f"{options.jobs:,} jobs, {options.drain:,} of them to be drained, a kill every "
                f"{options.kill_every_s:g} s (seed {options.seed})"
            )
            began = time.monotonic()
            for actor in (self._submitters, self._follower, self._killer):
                actor.start()
            self._drain(began + options.limit_s)
            drain_s = time.monotonic() - began
            self._submitters.stop()
            # The killer still runs here.
            self._cancel_rest()
            if self.hostile is not None:
                self.hostile.stop()
            self._follower.stop()
            self._progress.say("no more kills; waiting until all has settled")
            self._killer.stop()
            known = list(ledger.known())
            self._submitters.submit_again(known[:: max(1, len(known) // 1000)])
            self._settle()
            self._follower.poll(list(ledger.known().items()))
            self._progress.say("reading every bucket, list and log")
            evidence = evidences.collect(
                *(self._stack, self._line, ledger, self._users),
                seed=options.seed,
                containers=witness.containers(),
                kills=self._killer.kills,
                enemies=() if self.hostile is None else self.hostile.users,
            )
            found = findings(evidence) + self._check_enemies()
        self._line.close()
        assert self._submitters.seconds is not None  # noqa: S101  # they are done
        times = (self._submitters.seconds, drain_s)
        return evidence, found, times, dict(ledger.counts)

    def _check_enemies(self) -> list[str]:
        if self.hostile is None:
            return []
        found = hostile_findings(self.hostile.evidence(len(self._users)), self._options.seed)
        ledger = self.hostile.ledger
        self._ledger.counts.update(ledger.counts)
        return found + [f"seed {self._options.seed}: {text}" for text in ledger.contradictions]

    @contextmanager
    def _witness(self) -> Iterator[Witness]:
        witness = Witness(self._stack.node_id, self._options.data / "docker-events.jsonl")
        try:
            yield witness
        finally:
            witness.stop()
            self._line.stop.set()

    def _make_users(self) -> list[User]:
        return [
            User(name, self._line.post("group-create-user", self._new_user(name)))
            for name in _USERS
        ]

    def _new_user(self, name: str) -> dict[str, object]:
        return {"adminsecret": self._stack.state.admin_secret, "name": name, "admin": False}

    def _drain(self, deadline: float) -> None:
        """Wait until all is submitted, enough jobs have ended, and every part was killed."""
        options, killer = self._options, self._killer
        while not (
            self._ledger.ended() >= options.drain
            and killer.fewest() >= options.fewest_kills
            and self._submitters.are_done
        ):
            self._show()
            if time.monotonic() > deadline:
                self._ledger.contradict(
                    f"only {self._ledger.ended()} jobs ended within {options.limit_s:.0f} s"
                )
                return
            if self._submitters.are_done and self._fewest_unfinished() < _FEWEST_UNFINISHED:
                self._ledger.contradict(
                    f"all jobs with an input had ended before every part was killed "
                    f"{options.fewest_kills} times"
                )
                return
            time.sleep(0.5)

    def _fewest_unfinished(self) -> int:
        unfinished = [0] * len(self._users)
        for job, job_id in self._ledger.known().items():
            unfinished[job.user] += job.is_drained and self._ledger.state(job_id) not in FINAL
        return min(unfinished)

    def _cancel_rest(self) -> None:
        open_jobs = [i for i in self._ledger.known().values() if self._ledger.state(i) not in FINAL]
        self._ledger.ask_to_cancel(open_jobs)
        try:
            self._follower.cancel_rest()
        except CallFailedError as error:
            self._ledger.contradict(str(error))

    def _settle(self) -> None:
        """Wait until nothing is in flight, or a deadline; the checks find what is left then."""
        hostile = self._options.hostile
        within = _SETTLES_WITH_ENEMIES_WITHIN_S if hostile else _SETTLES_WITHIN_S
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            self._show()
            open_rows = asyncio.run(self._stack.fetch(_UNDER_WAY))[0][0]
            if not open_rows and not (
                evidences.left_on_node(self._stack)
                or evidences.containers_left(self._stack)
                or evidences.alive_in_nomad(self._stack)
            ):
                return
            time.sleep(2)

    def _show(self) -> None:
        self._progress.show(
            {
                "submitted": f"{len(self._ledger.known()):,}",
                "ended": f"{self._ledger.ended():,}",
                "kills": f"{self._killer.total()} (each part {self._killer.fewest()} or more)",
                "findings": len(self._ledger.contradictions),
            }
        )


_UNDER_WAY = """
SELECT (SELECT count(*) FROM jobs WHERE state IN ('received', 'submitted', 'running'))
     + (SELECT count(*) FROM attempts WHERE stop_requested_at IS NOT NULL AND stopped_at IS NULL
                                        AND nomad_job_id IS NOT NULL)
"""


def copy_logs(data: Path, to: Path) -> None:
    """Copy the logs of a stack before its folder is removed."""
    shutil.copytree(data / "logs", to, dirs_exist_ok=True)
    for name in ("docker-events.jsonl", "node/logs"):
        source = data / name
        if source.is_dir():
            shutil.copytree(source, to / "node", dirs_exist_ok=True)
        elif source.exists():
            shutil.copy2(source, to)
