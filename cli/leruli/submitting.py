"""Submitting one folder.

The order makes it safe to stop at any moment: leruli.bucket is written first, then the bucket is
made, filled and submitted, and leruli.job is written last. Whatever was done before an interruption
is done again with the same bucket, or answered the same by the service.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Union

from leruli.errors import RefusedError
from leruli.jobfolder import JobFolder
from leruli.packing import Inventory, run_script, take_inventory, write_archive

if TYPE_CHECKING:
    from leruli.api import JobRequest, Service
    from leruli.storage import Store

DEFAULT_CORES = 1
DEFAULT_MEMORY_MB = 4000
DEFAULT_TIME_S = 24 * 60 * 60

ARCHIVE = "run.tgz"

# Up to here a folder is packed in memory and sent in one request.
_SMALL = 4 * 1024 * 1024

#: A command line, as one string of bash or as words that are joined with spaces.
Command = Union[str, Sequence[str]]


@dataclass(frozen=True)
class JobSpec:
    """What to run and with which limits."""

    code: str
    version: str
    command: str
    cores: int = DEFAULT_CORES
    memorymb: int = DEFAULT_MEMORY_MB
    timelimit: int = DEFAULT_TIME_S  #: seconds
    priority: int = 0  #: among one's own jobs, the highest first

    @property
    def image(self) -> str:
        """The image to run in, as code:version."""
        return f"{self.code}:{self.version}"

    def check(self) -> None:
        """Raise RefusedError for what the service would refuse after the upload."""
        for name, value in (("code", self.code), ("version", self.version)):
            if not value or ":" in value or "/" in value or any(c.isspace() for c in value):
                raise RefusedError(
                    f"{value!r} is not the {name} of an image. `leruli list-codes` shows which "
                    "there are."
                )
        for name, number in (
            ("cores", self.cores),
            ("memory", self.memorymb),
            ("time limit", self.timelimit),
        ):
            if number < 1:
                raise RefusedError(f"The {name} must be at least 1, not {number}.")
        run_script(self.command)

    def request(self, bucket: str) -> JobRequest:
        """Return what the service is asked, the files being in `bucket`."""
        from leruli.api import JobRequest

        return JobRequest(
            bucket,
            self.code,
            self.version,
            self.cores,
            self.memorymb,
            self.timelimit,
            self.priority,
        )


def join_command(command: Command) -> str:
    """Return the line of bash for a command: words are joined with spaces, not quoted."""
    return command if isinstance(command, str) else " ".join(command)


@dataclass(frozen=True)
class Prepared:
    """A folder that was checked and can be sent."""

    folder: JobFolder
    inventory: Inventory
    command: str


def prepare(directory: str, command: str) -> Prepared:
    """Check a folder, touching nothing. Raises NotFoundError and RefusedError."""
    folder = JobFolder(directory)
    folder.check()
    return Prepared(folder, take_inventory(directory), command)


@dataclass(frozen=True)
class Packed:
    """A folder with a bucket to go to."""

    prepared: Prepared
    bucket: str
    is_resumed: bool  #: the bucket is left from an interrupted submission
    archive: bytes | None  #: None if it is too big to hold in memory


def pack(prepared: Prepared, advance: Callable[[int], None] = lambda _: None) -> Packed:
    """Claim a bucket, and pack the folder if it is small: all that needs no storage.

    `advance` is told the bytes of input as they go.
    """
    bucket, is_resumed = prepared.folder.claim_bucket()
    archive = None
    if prepared.inventory.total_bytes <= _SMALL:
        packed = io.BytesIO()
        write_archive(prepared.inventory, prepared.command, packed, advance)
        archive = packed.getvalue()
    return Packed(prepared, bucket, is_resumed, archive)


def upload(
    store: Store,
    packed: Packed,
    advance: Callable[[int], None] = lambda _: None,
    resumed: Callable[[str], None] = lambda _: None,
) -> str:
    """Fill the bucket; returns its name.

    `advance` is told the bytes of input of a folder that is packed only now, `resumed` the bucket
    that an interrupted submission left.
    """
    bucket, inventory = packed.bucket, packed.prepared.inventory
    if packed.archive is not None and not packed.is_resumed:
        store.put_into_new(bucket, ARCHIVE, packed.archive)
        return bucket
    store.make_bucket(bucket)
    if packed.is_resumed:
        _refuse_if_it_ran(store, bucket)
        resumed(bucket)
    if packed.archive is not None:
        store.put(bucket, ARCHIVE, packed.archive)
    else:
        with store.writing(bucket, ARCHIVE, inventory.total_bytes) as sink:
            write_archive(inventory, packed.prepared.command, sink, advance)
    return bucket


def _refuse_if_it_ran(store: Store, bucket: str) -> None:
    """Keep a bucket that holds results: submitted again, it would be answered with the old job."""
    if any(item.name != ARCHIVE for item in store.list(bucket)):
        raise RefusedError(
            f"The bucket of this folder ({bucket}) holds the results of an earlier job. Nothing "
            "was submitted. To submit the folder anew, delete leruli.bucket and leruli.job."
        )


def check_image(store: Store, service: Service, spec: JobSpec) -> None:
    """Raise before anything is packed or sent if the job could only be refused or fail.

    SecretRefusedError for a secret that is not accepted, NotFoundError for an image that is not
    published.
    """
    from leruli.images import check_published

    check_published(store, service.group_token(), spec.code, spec.version)


def submit(
    store: Store,
    service: Service,
    prepared: Prepared,
    spec: JobSpec,
    advance: Callable[[int], None] = lambda _: None,
    resumed: Callable[[str], None] = lambda _: None,
) -> tuple[str, str]:
    """Upload a folder and submit it; returns the job id and the bucket."""
    bucket = upload(store, pack(prepared, advance), advance, resumed)
    jobid = service.submit(spec.request(bucket))
    prepared.folder.record_job(jobid)
    return jobid, bucket
