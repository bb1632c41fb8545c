"""Sends the files of an output that become objects, several at a time."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import TypeVar

from leruli_node.errors import StoppedError
from leruli_node.files.send import Sender, UploadError
from leruli_node.files.survey import Output
from leruli_node.files.walk import UNREADABLE, Skipped, shown
from leruli_node.objects.job_bucket import ForeignObjectError
from leruli_node.objects.store_errors import UnstorableError
from leruli_node.retry import AnyEvent

_Result = TypeVar("_Result")

TAKEN = "files with the name of an object that is not of this job"
REFUSED = "files that the store refuses"


def send_all(
    sender: Sender, output: Output, sizes: dict[str, int], skipped: Skipped, parallel: int
) -> tuple[int, int, dict[str, str]]:
    """Send these files, and an empty joblog.txt if there is none.

    Returns
    -------
    How many were sent, their bytes, and the files that cannot be objects, with the reason.
    """
    failed = threading.Event()
    failures: list[BaseException] = []
    either = AnyEvent(sender.stop, failed)
    one_sender = replace(sender, stop=either)
    refused: dict[str, str] = {}

    def send(key: str) -> int | None:
        if either.is_set():
            return None
        try:
            return one_sender.send_file(output, key)
        except UnstorableError:
            refused[key] = REFUSED
        except ForeignObjectError:
            refused[key] = TAKEN
        except OSError as error:
            if error.errno in UNREADABLE:
                skipped.add("unreadable files", shown(key))
                return None
            # Report the first failure. It ends the waits of the other threads.
            failures.append(error)
            failed.set()
        except (UploadError, StoppedError) as error:
            failures.append(error)
            failed.set()
        return None

    count = total = 0
    for size in _sent(send, sizes, parallel):
        if size is not None:
            count, total = count + 1, total + size
    if failures:
        raise failures[0]
    if "joblog.txt" not in sizes:
        with contextlib.suppress(UnstorableError, ForeignObjectError):
            sender.send("joblog.txt", io.BytesIO(), 0)
            count += 1
    if sender.stop.is_set():
        raise StoppedError
    return count, total, refused


def _sent(
    send: Callable[[str], _Result], sizes: dict[str, int], parallel: int
) -> Iterator[_Result]:
    if len(sizes) < 2:
        # Most short jobs write one file. Threads would cost more than the request.
        yield from map(send, sizes)
        return
    with ThreadPoolExecutor(parallel, thread_name_prefix="upload") as pool:
        yield from _some_at_a_time(pool, send, sizes, 2 * parallel)


def _some_at_a_time(
    pool: ThreadPoolExecutor,
    call: Callable[[str], _Result],
    keys: Iterable[str],
    most: int,
) -> Iterator[_Result]:
    """Call for each key. At most `most` calls wait or run at a time."""
    running: set[Future[_Result]] = set()
    for key in keys:
        running.add(pool.submit(call, key))
        if len(running) >= most:
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for one in finished:
                yield one.result()
    for one in running:
        yield one.result()
