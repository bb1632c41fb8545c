"""Output with which a job could harm a node agent, and the cost of its upload.

`python tests/support/hostile_output.py KIND AMOUNT [FOLDER]` prints one line of JSON, like
hostile_input.py: seconds, the peak of memory above rest in MB, and the notes for the job's owner.
The uploader is the real one. The store is a FAKE that reads the data and forgets it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "node_setup")]

from hostile_input import measure  # noqa: E402

from leruli_node.files.remove_tree import remove_tree  # noqa: E402
from leruli_node.files.upload import Uploader  # noqa: E402
from leruli_node.model import AttemptId  # noqa: E402
from leruli_node.objects.job_bucket import JobBucket  # noqa: E402
from leruli_node.objects.object_store import ObjectStore, WriteGuard  # noqa: E402
from leruli_node.objects.small_requests import ListedObject  # noqa: E402
from leruli_node.objects.upload_lease import UploadLease  # noqa: E402


class Nowhere(ObjectStore):
    """A store that forgets."""

    def __init__(self) -> None:
        self.objects_written = 0

    def write(
        self,
        bucket: str,
        name: str,
        data: BinaryIO,
        size: int,
        metadata: dict[str, str],
        guard: WriteGuard,
    ) -> None:
        while data.read(2**20):
            pass
        self.objects_written += 1

    def objects(self, bucket: str, prefix: str = "") -> Iterator[ListedObject]:
        return iter([])


def names(top: Path, amount: int) -> None:
    """H10: hard links of one file, which cost a job nothing."""
    for number in range(amount):
        if number % 60_000 == 0:
            one = top / f"file{number}"
            one.touch()
        os.link(one, top / f"a-name-that-is-not-short-{number}")


def links(top: Path, amount: int) -> None:
    """H10: symbolic links."""
    for number in range(amount):
        (top / f"a-name-that-is-not-short-{number}").symlink_to("x")


def deep(top: Path, amount: int) -> None:
    """H2: nested folders, with a file in each."""
    folder = os.open(top, os.O_RDONLY)
    for _ in range(amount):
        os.close(os.open("f", os.O_WRONLY | os.O_CREAT, dir_fd=folder))
        os.mkdir("d", dir_fd=folder)
        below = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(folder)


KINDS: dict[str, Callable[[Path, int], None]] = {one.__name__: one for one in (names, links, deep)}


def main(kind: str, amount: int, where: str | None) -> None:
    folder = Path(tempfile.mkdtemp(dir=where))
    top = folder / "rundir"
    top.mkdir()
    # In another process, so that its memory does not count.
    making = f"import hostile_output as h, pathlib; h.{kind}(pathlib.Path({str(top)!r}), {amount})"
    subprocess.run([sys.executable, "-c", making], check=True, cwd=Path(__file__).parent)
    stop, store = threading.Event(), Nowhere()
    lease = UploadLease(lambda _: None, stop)

    def work() -> str:
        bucket = JobBucket(store, "b", AttemptId("0" * 8 + "-0000-4000-8000-" + "0" * 12, 1), lease)
        done = Uploader(4, 5.0, 10**12).upload(bucket, top, None, stop)
        remove_tree(folder)
        return f"{store.objects_written} objects; " + "; ".join(done.notes)

    with lease.renewed({}):
        sys.stdout.write(json.dumps(measure(work)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None)
