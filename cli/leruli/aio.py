"""Waiting, events and batches for asyncio: ``from leruli import aio``.

They take the same arguments and raise the same errors as those of `leruli`. A task that is
cancelled goes on at once. Its call of the queue ends by itself, at the latest after a minute;
`batch_get` ends after the files that it fetches just then.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import suppress
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Optional, TypeVar

from leruli.cancellation import StoppedError, StopSwitch
from leruli.jobs.fetch import Wanted
from leruli.python_api import batches
from leruli.python_api.arguments import Folder
from leruli.python_api.batches import Batch, BatchStatus, CancelledBatch
from leruli.python_api.job import JobStatus, ManyFolders
from leruli.python_api.waiting import JobEvent, completed, followed, waited

__all__ = [
    "as_completed",
    "batch_cancel",
    "batch_get",
    "batch_list",
    "batch_status",
    "events",
    "wait",
]

_Result = TypeVar("_Result")
# After the last item of an iterator.
_END = object()
_Asked = Optional["tuple[Callable[[], Any], asyncio.Future[Any]]"]


async def wait(jobs: Iterable[Folder], timeout: float | None = None) -> list[JobStatus]:
    """Wait until all jobs are over, and return their states: `leruli.wait`."""
    async with _Thread() as thread:
        return await thread.call(lambda: waited(jobs, timeout, thread.check_cancelled))


async def as_completed(
    jobs: Iterable[Folder], timeout: float | None = None
) -> AsyncIterator[JobStatus]:
    """Yield the state of each job as soon as it is over: `leruli.as_completed`."""
    async with _Thread() as thread:
        async for one in thread.each(lambda: completed(jobs, timeout, thread.check_cancelled)):
            yield one


async def events(
    cursor: str | None = None,
    *,
    states: str | Iterable[str] | None = None,
    batch: str | None = None,
    timeout: float | None = None,
) -> AsyncIterator[JobEvent]:
    """Yield changes of the states of the caller's own jobs as they happen: `leruli.events`."""
    async with _Thread() as thread:
        found = thread.each(
            lambda: followed(cursor, states, batch, timeout, thread.check_cancelled)
        )
        async for one in found:
            yield one


async def batch_list(*, limit: int | None = None, after: str | None = None) -> AsyncIterator[Batch]:
    """List the caller's own batches, the newest first: `leruli.batch_list`."""
    async with _Thread() as thread:
        async for one in thread.each(lambda: batches.batch_list(limit=limit, after=after)):
            yield one


async def batch_status(batch: str) -> BatchStatus:
    """Return how far a batch is: `leruli.batch_status`."""
    async with _Thread() as thread:
        return await thread.call(lambda: batches.batch_status(batch))


async def batch_cancel(batch: str) -> CancelledBatch:
    """Cancel all jobs of a batch that are not over: `leruli.batch_cancel`."""
    async with _Thread() as thread:
        return await thread.call(lambda: batches.cancelled_batch(batch, thread.check_cancelled))


async def batch_get(
    batch: str,
    directory: Folder,
    *,
    again: bool = False,
    everything: bool = False,
    with_input: bool = False,
    overwrite: bool = False,
) -> ManyFolders:
    """Fetch the results of a batch, each job's into its own folder: `leruli.batch_get`."""
    wanted = Wanted(everything, again, overwrite, with_input)
    async with _Thread() as thread:
        return await thread.call(
            lambda: batches.got_batch(batch, directory, wanted, thread.check_cancelled)
        )


class _Thread:
    """Makes blocking calls, one after the other. Nobody waits for its end, the program neither."""

    def __init__(self) -> None:
        self._asked: SimpleQueue[_Asked] = SimpleQueue()
        self._switch = StopSwitch(lambda _: None)
        self.check_cancelled = self._switch.check_cancelled

    async def __aenter__(self) -> _Thread:
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._run, name="leruli-aio", daemon=True).start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._switch.switch_off()
        self._asked.put(None)

    async def call(self, call: Callable[[], _Result]) -> _Result:
        """Make a call in the thread."""
        future: asyncio.Future[_Result] = self._loop.create_future()
        self._asked.put((call, future))
        return await future

    async def each(self, make: Callable[[], Iterator[_Result]]) -> AsyncIterator[_Result]:
        """Yield the items of an iterator that is made and used in the thread."""
        items = await self.call(make)
        while True:
            found: Any = await self.call(lambda: next(items, _END))
            if found is _END:
                return
            yield found

    def _run(self) -> None:
        while True:
            asked = self._asked.get()
            if asked is None:
                return
            call, future = asked
            try:
                result, error = call(), None
            except StoppedError:
                return
            except BaseException as raised:  # it belongs to the task that asked
                result, error = None, raised
            # The loop may have been closed meanwhile.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(_settle, future, result, error)


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():  # cancelled
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
