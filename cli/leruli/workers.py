"""Many pieces of work, several at once, with results as they come."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterable
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from leruli.errors import LeruliError
from leruli.interruption import StoppedError, StopSwitch

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# Items handed to the threads ahead of time, for each: so that 100,000 are not listed first.
_AHEAD = 4

# What ends a thread in the place of an item.
_END = object()


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
    todo: SimpleQueue[Any] = SimpleQueue()
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

    def run_all() -> None:
        for item in iter(todo.get, _END):
            if not switch.is_off:
                run(item)

    # No pool: a future for each item, which nobody asks, is a tenth of the work with a small
    # folder. A second Ctrl-C, while the first waits for them, does not wait for these threads.
    workers = [Thread(target=run_all, daemon=True) for _ in range(threads)]
    waiting = iter(items)
    under_way = 0
    try:
        for worker in workers:
            worker.start()
        while True:
            for item in itertools.islice(waiting, _AHEAD * threads - under_way):
                todo.put(item)
                under_way += 1
            if under_way == 0:
                return
            yield done.get()
            under_way -= 1
    finally:
        switch.switch_off()
        for _ in workers:
            todo.put(_END)
        for worker in workers:
            if worker.is_alive():
                worker.join()
