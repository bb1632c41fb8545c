"""Many pieces of work, several at once, with results as they come."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

from leruli.errors import LeruliError
from leruli.interruption import StoppedError, StopSwitch

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# Items handed to the threads ahead of time, for each: so that 100,000 are not 100,000 futures.
_AHEAD = 4


def work_through(
    items: Iterable[_Item],
    work: Callable[[_Item, Callable[[int], None]], _Result],
    threads: int,
) -> Generator[tuple[_Item, _Result | LeruliError], None, None]:
    """Do `work` for all items; yields each with its result, or how it failed, when it is done.

    `work` is also given a function that it has to call now and then (with any number), through
    which it is ended early. Closing the generator (an error or Ctrl-C in its user does) calls off
    what is under way.
    """
    done: SimpleQueue[tuple[_Item, _Result | LeruliError]] = SimpleQueue()
    switch = StopSwitch(lambda _: None)

    def run(item: _Item) -> None:
        try:
            done.put((item, work(item, switch.advance)))
        except LeruliError as error:
            done.put((item, error))
        except StoppedError:
            pass  # nobody waits for it any more
        except Exception as error:  # a defect here must not leave the user waiting for ever
            done.put((item, LeruliError(f"Unexpected: {type(error).__name__}: {error}.")))

    pool = ThreadPoolExecutor(threads, "worker")
    waiting = iter(items)
    under_way = 0
    try:
        while True:
            for item in itertools.islice(waiting, _AHEAD * threads - under_way):
                pool.submit(run, item)
                under_way += 1
            if under_way == 0:
                return
            yield done.get()
            under_way -= 1
    finally:
        switch.switch_off()
        pool.shutdown(cancel_futures=True)
