"""Submitting one folder.

The order makes it safe to stop at any moment: leruli.bucket is written first, then the record
(leruli.folder), then the bucket is made, filled and submitted, and leruli.job is written last. The
record of a folder that is packed while it is sent names its inputs once they are sent. Whatever was
done before an interruption is done again with the same bucket, or answered the same by the service.
A bucket that is left from an interruption may have its job already, which may even run: the service
is asked before the input of that is replaced.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Union

from leruli.errors import BucketMissingError, RefusedError, UnknownCallError
from leruli.jobfolder import RESERVED, JobFolder
from leruli.leftovers import Leftovers, leftovers_of
from leruli.packing import Inventory, run_script, take_inventory, write_archive
from leruli.record import FileState, Place, Record, read_record, write_record
from leruli.redaction import redact
from leruli.standing import standing_of

if TYPE_CHECKING:
    from leruli.api import JobRequest, Service
    from leruli.storage import Store

DEFAULT_CORES = 1
DEFAULT_MEMORY_MB = 4000
DEFAULT_TIME_S = 24 * 60 * 60

ARCHIVE = "run.tgz"

# Up to here a folder is packed in memory and sent in one request.
_SMALL = 4 * 1024 * 1024

# What the service takes as a job's name: so long, and nothing that a terminal could take for a
# command, or that turns a line around. Half a character (of a name that is no UTF-8) is no text.
_NAME_LENGTH = 200
_NOT_IN_NAMES = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

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
    diskmb: int | None = None  #: None for the service's default
    shmmb: int | None = None  #: of /dev/shm; None for Docker's default, 64 MB
    name: str | None = None  #: for people; None for the name of the folder

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
            ("disk", self.diskmb),
            ("size of /dev/shm", self.shmmb),
        ):
            if number is not None and number < 1:
                raise RefusedError(f"The {name} must be at least 1, not {number}.")
        if self.shmmb is not None and self.shmmb > self.memorymb:
            raise RefusedError(
                f"The size of /dev/shm ({self.shmmb} MB) is more than the memory of the job "
                f"({self.memorymb} MB). What a job writes to /dev/shm counts as its memory: ask "
                "for a smaller /dev/shm or for more memory."
            )
        if self.name is not None and _taken_name(self.name) != self.name:
            raise RefusedError(
                f"{self.name[:_NAME_LENGTH]!r} cannot be the name of a job. It may have "
                f"{_NAME_LENGTH} characters, none of which controls a terminal, and no secret."
            )
        run_script(self.command)

    def request(self, bucket: str, name: str) -> JobRequest:
        """Return what the service is asked, the files being in `bucket`.

        `name` is that of the folder.
        """
        from leruli.api import JobRequest

        return JobRequest(
            bucket,
            self.code,
            self.version,
            self.cores,
            self.memorymb,
            self.timelimit,
            self.priority,
            self.name or name,
            self.diskmb,
            self.shmmb,
        )


def join_command(command: Command) -> str:
    """Return the line of bash for a command: words are joined with spaces, not quoted."""
    return command if isinstance(command, str) else " ".join(command)


def job_name(directory: str) -> str:
    """Return what the job of a folder is called: as the folder, as far as the service takes it."""
    name = os.path.basename(os.path.abspath(directory))  # noqa: PTH100, PTH119
    return _taken_name(name) or "default"


def _taken_name(name: str) -> str:
    return redact(_NOT_IN_NAMES.sub("_", name))[:_NAME_LENGTH]


@dataclass(frozen=True)
class Prepared:
    """A folder that was checked and can be sent."""

    folder: JobFolder
    inventory: Inventory
    spec: JobSpec
    leftovers: Leftovers


def prepare(directory: str, spec: JobSpec, *, with_results: bool = False) -> Prepared:
    """Check a folder, touching nothing. Raises NotFoundError and RefusedError.

    Unchanged results of earlier jobs are not sent, unless `with_results` is given. A folder that
    was submitted is refused with what is the matter: it is a copy, it was edited, or neither.
    """
    folder = JobFolder(directory)
    standing = standing_of(directory)
    standing.check_own(directory)
    if standing.edited and folder.job() is not None:
        standing.check_sound(directory)
    folder.check()
    leftovers = leftovers_of(directory, read_record(directory))
    # The logs are never input: the queue makes its own.
    left_out = [name for name in leftovers.stale if not with_results or name in RESERVED]
    inventory = take_inventory(directory, frozenset(left_out), leftovers.made)
    return Prepared(folder, inventory, spec, leftovers)


@dataclass(frozen=True)
class Packed:
    """A folder with a bucket to go to."""

    prepared: Prepared
    bucket: str
    lock: IO[bytes]  #: of the folder; to be closed when it has its job
    is_resumed: bool  #: the bucket is left from an interrupted submission
    archive: bytes | None  #: None if it is too big to hold in memory
    inputs: Mapping[str, FileState]  #: what was packed into `archive`

    def record(self, inputs: Mapping[str, FileState]) -> None:
        """Write the record of this submission into the folder. Raises RefusedError."""
        prepared = self.prepared
        directory = prepared.folder.directory
        try:
            place = Place.of(directory)
        except OSError as error:
            raise RefusedError(f"Cannot read {directory}: {error.strerror}.") from error
        stale = prepared.leftovers.stale
        folders = tuple(one.name for one in prepared.inventory.entries if one.is_folder)
        record = Record(
            self.bucket, place, vars(prepared.spec), inputs, stale, tuple(stale), folders
        )
        write_record(directory, record)


def pack(prepared: Prepared, advance: Callable[[int], None] = lambda _: None) -> Packed:
    """Claim and lock the folder, pack it if it is small and record it: all that needs no storage.

    `advance` is told the bytes of input as they go.
    """
    bucket, is_resumed = prepared.folder.claim_bucket()
    lock = prepared.folder.hold(bucket)
    archive, inputs = None, {}
    try:
        if prepared.inventory.total_bytes <= _SMALL:
            sink = io.BytesIO()
            inputs = write_archive(prepared.inventory, prepared.spec.command, sink, advance)
            archive = sink.getvalue()
        packed = Packed(prepared, bucket, lock, is_resumed, archive, inputs)
        # A bucket that is left may have its job, of which the record tells already.
        if not is_resumed:
            packed.record(inputs)
    except BaseException:
        lock.close()
        raise
    return packed


def upload(
    store: Store,
    service: Service,
    packed: Packed,
    advance: Callable[[int], None] = lambda _: None,
    notice: Callable[[str], None] = lambda _: None,
) -> str | None:
    """Fill the bucket, unless its job was accepted already: the id of that is returned.

    `advance` is told the bytes of input of a folder that is packed only now, `notice`, in a
    sentence, what became of a submission that was interrupted.
    """
    bucket, inventory = packed.bucket, packed.prepared.inventory
    if packed.archive is not None and not packed.is_resumed:
        store.put_into_new(bucket, ARCHIVE, packed.archive)
        return None
    if packed.is_resumed:
        jobid = _accepted_job(store, service, bucket)
        if jobid is not None:
            notice(
                "The job of this folder was accepted already, by a submission that was "
                "interrupted. Nothing was sent again."
            )
            return jobid
        notice(f"Going on with an earlier submission that was interrupted (bucket {bucket}).")
        packed.record(packed.inputs)
    store.make_bucket(bucket)
    if packed.archive is not None:
        store.put(bucket, ARCHIVE, packed.archive)
    else:
        with store.writing(bucket, ARCHIVE, inventory.total_bytes) as sink:
            inputs = write_archive(inventory, packed.prepared.spec.command, sink, advance)
        packed.record(inputs)
    return None


def _accepted_job(store: Store, service: Service, bucket: str) -> str | None:
    """Return the job that was submitted with a bucket, None if there is none.

    Raises RefusedError for a bucket with results of which no job is known: they would be replaced.
    """
    # In this order: the job of results that are seen was accepted before the service is asked.
    try:
        has_results = any(item.name != ARCHIVE for item in store.list(bucket))
    except BucketMissingError:
        has_results = False
    why = "the queue knows no job of yours with it"
    try:
        [jobid] = service.find_jobs([bucket])
    except UnknownCallError:
        jobid = None
        why = "the queue, which is older than this client, cannot say of which job"
    if jobid is None and has_results:
        raise RefusedError(
            f"The bucket of this folder ({bucket}) holds results, and {why}. Nothing was "
            "submitted. To submit the folder anew, delete leruli.bucket and leruli.job."
        )
    return jobid


def check_image(store: Store, service: Service, spec: JobSpec) -> None:
    """Raise before anything is packed or sent if the job could only be refused or fail.

    SecretRefusedError for a secret that is not accepted, NotFoundError for an image that is not
    published.
    """
    from leruli.images import ImageTokens, check_published

    tokens = ImageTokens(service, is_submitting=True)
    check_published(store, tokens, spec.code, spec.version)


def submit(
    store: Store,
    service: Service,
    prepared: Prepared,
    advance: Callable[[int], None] = lambda _: None,
    notice: Callable[[str], None] = lambda _: None,
) -> tuple[str, str]:
    """Upload a folder and submit it; returns the job id and the bucket."""
    packed = pack(prepared, advance)
    bucket, folder = packed.bucket, prepared.folder
    with packed.lock:
        jobid = upload(store, service, packed, advance, notice)
        if jobid is None:
            jobid = service.submit(prepared.spec.request(bucket, job_name(folder.directory)))
        folder.record_job(jobid)
    return jobid, bucket
