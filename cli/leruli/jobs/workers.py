"""Work on many items in threads, with results as they finish."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterable
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from leruli.cancellation import CheckCancelled, StoppedError, StopSwitch
from leruli.errors import LeruliError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# Items queued per thread. So a batch of 100,000 folders starts before all are listed.
_AHEAD = 4

# Ends a thread, in the place of an item.
_END = object()


def work_through(
    items: Iterable[_Item],
    work: Callable[[_Item, CheckCancelled], _Result],
    threads: int,
) -> Generator[tuple[_Item, _Result | LeruliError], None, None]:
    """Call `work` for all items in threads; yield each item with its result or its error.

    Items are yielded as they finish. `work` must call its second argument regularly. That call
    raises StoppedError when the work is cancelled. Closing the generator cancels the work, and an
    error or Ctrl-C in the caller closes the generator.
    """
    todo: SimpleQueue[Any] = SimpleQueue()
    done: SimpleQueue[tuple[_Item, _Result | LeruliError]] = SimpleQueue()
    switch = StopSwitch(lambda _: None)

    def run(item: _Item) -> None:
        try:
            done.put((item, work(item, switch.check_cancelled)))
        except LeruliError as error:
            done.put((item, error))
        except StoppedError:
            pass  # the caller reads no more results
        except Exception as error:  # else a bug would block the caller for ever
            done.put((item, LeruliError(f"Unexpected: {type(error).__name__}: {error}.")))

    def run_all() -> None:
        for item in iter(todo.get, _END):
            if not switch.is_off:
                run(item)

    # Not a pool of concurrent.futures: a future per item costs a tenth of the work with a small
    # folder. The threads are daemons, so a second Ctrl-C does not wait for them.
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
