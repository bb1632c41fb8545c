"""Shared by the commands with --watch: asking again and again until all jobs are over."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from leruli.commands._waiting import CANCELLED, FAILED
from leruli.errors import ServiceError, UnknownCallError
from leruli.service.states import FINAL, STATES
from leruli.terminal.batch_report import failure_lines, headline
from leruli.terminal.live_batch import Show, live_batch
from leruli.terminal.output import Output

if TYPE_CHECKING:
    from leruli.service.queue_client import QueueClient

_Body = TypeVar("_Body", bound=Callable[..., Any])

# Between two calls. The pause grows while nothing changes.
_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 10.0


def watch_option(body: _Body) -> _Body:
    """Add --watch."""
    return click.option(
        "--watch", is_flag=True, help="Show it live until all jobs are over; exit as task-wait."
    )(body)


def watch_job(out: Output, service: QueueClient, jobid: str) -> int:
    """Print each state of a job until it is over, and return the exit code."""
    shown = ""
    ended: list[Mapping[str, Any]] = []

    def ask() -> dict[str, Any]:
        state = service.status(jobid)
        nonlocal shown
        if str(state) != shown and not out.as_json:
            shown = str(state)
            out.result(shown, {})
        ended[:] = [{"jobid": jobid, "status": state.status, "reason": state.reason}]
        return {"counts": {**dict.fromkeys(STATES, 0), state.status: 1}}

    _, code = _until_over(out, ask, lambda _: None)
    if out.as_json:
        out.result("", ended[0])
    return code


def tell_watched(out: Output, batch: Mapping[str, Any]) -> None:
    """Print what is not shown yet of a batch that is over."""
    if out.as_json:
        out.result("", batch)
    elif out.quiet:
        out.result(headline(batch), {})
    elif not sys.stdout.isatty():
        for line in failure_lines(batch):
            out.complaint(f"Failed: {line}")


def watch_batch(out: Output, ask: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], int]:
    """Show a batch until its jobs are over; return its last state, and the exit code."""
    with live_batch(out) as show:
        return _until_over(out, ask, show)


def _until_over(
    out: Output, ask: Callable[[], dict[str, Any]], show: Show
) -> tuple[dict[str, Any], int]:
    """Ask until all jobs are over.

    After the first answer a queue that does not answer for a while is asked again.
    """
    found = ask()
    pause_s = _PAUSE_S
    while True:
        show(found)
        before: Mapping[str, int] = found["counts"]
        if not any(before[state] for state in STATES if state not in FINAL):
            break
        time.sleep(pause_s)
        try:
            found = ask()
        except UnknownCallError:
            raise
        except ServiceError as error:
            out.note(f"{error} Asking again.")
        is_idle = found["counts"] == before
        pause_s = min(1.5 * pause_s, _LONGEST_PAUSE_S) if is_idle else _PAUSE_S
    if found["counts"]["failed"]:
        return found, FAILED
    return found, CANCELLED if found["counts"]["cancelled"] else 0
