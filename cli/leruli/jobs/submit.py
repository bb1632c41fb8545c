"""Submitting one folder.

The order makes it safe to stop at any moment:

1. Write leruli.bucket.
2. Write the record (leruli.folder). A large folder is packed while it is sent, and its record names
   the inputs after that.
3. Make the bucket, fill it, submit the job.
4. Write leruli.job.

After an interruption these steps are repeated with the same bucket, for which the service answers
the same job. An interrupted submission may already have a job, even a running one. So the client
asks the service before it replaces the input.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Union

from leruli.errors import BucketMissingError, RefusedError, UnknownCallError
from leruli.folder.job_folder import LIVE_PREFIX, RESERVED, JobFolder
from leruli.folder.leftovers import Leftovers, leftovers_of
from leruli.folder.packing import Inventory, run_script, take_inventory, write_archive
from leruli.folder.provenance import provenance_of
from leruli.folder.record import FileState, Place, Record, read_record, write_record
from leruli.redaction import redact
from leruli.service.retry_rule import RetryRule

if TYPE_CHECKING:
    from leruli.service.queue_client import JobRequest, QueueClient
    from leruli.storage.store import Store

DEFAULT_CORES = 1
DEFAULT_MEMORY_MB = 4000
DEFAULT_TIME_S = 24 * 60 * 60

ARCHIVE = "run.tgz"

# Bytes of input up to which a folder is packed in memory and sent in one request.
_SMALL = 4 * 1024 * 1024

# The service refuses longer names, control characters, bidirectional marks and lone surrogates.
# Surrogates come from file names that are not UTF-8.
_NAME_LENGTH = 200
_NOT_IN_NAMES = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

#: A command line, as one string of bash or as words that are joined with spaces.
Command = Union[str, Sequence[str]]


@dataclass(frozen=True)
class JobSpec:
    """The image, the command and the limits of a job."""

    code: str
    version: str
    command: str
    cores: int = DEFAULT_CORES
    memorymb: int = DEFAULT_MEMORY_MB
    timelimit: int = DEFAULT_TIME_S  #: seconds
    priority: int = 0  #: among the jobs of one user; the highest goes first
    diskmb: int | None = None  #: None: the default of the service
    shmmb: int | None = None  #: size of /dev/shm; None: Docker's default, 64 MB
    name: str | None = None  #: shown to people; None: the name of the folder
    #: Whether the job may run in the container of the user's job before it.
    share_container: bool = False
    #: How often the job is tried again after a failure: leruli.service.retry_rule.
    retry: int = 0
    retry_on: str | None = None
    most_memorymb: int | None = None
    most_timelimit: int | None = None

    @property
    def rule(self) -> RetryRule:
        """When the job is tried again."""
        return RetryRule(self.retry, self.retry_on, self.most_memorymb, self.most_timelimit)

    @property
    def image(self) -> str:
        """The image to run in, as code:version."""
        return f"{self.code}:{self.version}"

    def check(self) -> None:
        """Raise RefusedError for a spec that the service would refuse after the upload."""
        for name, value in (("code", self.code), ("version", self.version)):
            if not value or ":" in value or "/" in value or any(c.isspace() for c in value):
                raise RefusedError(
                    f"{value!r} is not the {name} of an image. `leruli list-codes` shows which "
                    "there are."
                )
        for name, number in (
            ("number of cores", self.cores),
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
                f"({self.memorymb} MB). Files in /dev/shm count as memory of the job: ask "
                "for a smaller /dev/shm or for more memory."
            )
        self.rule.check()
        if self.name is not None and taken_name(self.name) != self.name:
            raise RefusedError(
                f"{self.name[:_NAME_LENGTH]!r} cannot be the name of a job. It may have "
                f"{_NAME_LENGTH} characters, no control characters and no secret."
            )
        run_script(self.command)

    def request(self, bucket: str, name: str) -> JobRequest:
        """Return the request for the service; the files are in `bucket`.

        `name` is the name of the folder.
        """
        from leruli.service.queue_client import JobRequest

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
            self.share_container,
            rule=self.rule,
        )


def join_command(command: Command) -> str:
    """Return the line of bash for a command: words are joined with spaces, not quoted."""
    return command if isinstance(command, str) else " ".join(command)


def job_name(directory: str) -> str:
    """Return the name of a folder's job: that of the folder, as far as the service accepts it."""
    name = os.path.basename(os.path.abspath(directory))  # noqa: PTH100, PTH119
    return taken_name(name) or "default"


def taken_name(name: str) -> str:
    """Return a name as the service accepts it."""
    return redact(_NOT_IN_NAMES.sub("_", name))[:_NAME_LENGTH]


@dataclass(frozen=True)
class Prepared:
    """A checked folder that can be sent."""

    folder: JobFolder
    inventory: Inventory
    spec: JobSpec
    leftovers: Leftovers


def prepare(
    directory: str,
    spec: JobSpec,
    *,
    with_results: bool = False,
    leave_out: Collection[str] = (),
) -> Prepared:
    """Check a folder and list its input. Changes nothing.

    Unchanged results of earlier jobs are input only if `with_results` is given, files in
    `leave_out` never. Raises NotFoundError and RefusedError. For a submitted folder the error says
    whether it is a copy or was edited.
    """
    folder = JobFolder(directory)
    provenance = provenance_of(directory)
    provenance.check_own(directory)
    if provenance.edited and folder.job() is not None:
        provenance.check_sound(directory)
    folder.check()
    leftovers = leftovers_of(directory, read_record(directory))
    # The logs are never input: each job writes its own.
    left_out = [name for name in leftovers.stale if not with_results or name in RESERVED]
    inventory = take_inventory(directory, frozenset([*left_out, *leave_out]), leftovers.made)
    return Prepared(folder, inventory, spec, leftovers)


@dataclass(frozen=True)
class Packed:
    """A folder with its bucket, ready to be uploaded."""

    prepared: Prepared
    bucket: str
    lock: IO[bytes]  #: of the folder; closed when leruli.job is written
    is_resumed: bool  #: the bucket comes from an interrupted submission
    archive: bytes | None  #: None if it is too large for memory
    inputs: Mapping[str, FileState]  #: the files in `archive`

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
    """Claim and lock the folder, pack it if it is small, and write its record.

    Needs no storage. `advance` gets the number of bytes packed.
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
        # After an interruption the record may describe an accepted job. Do not overwrite it yet.
        if not is_resumed:
            packed.record(inputs)
    except BaseException:
        lock.close()
        raise
    return packed


def upload(
    store: Store,
    service: QueueClient,
    packed: Packed,
    advance: Callable[[int], None] = lambda _: None,
    notice: Callable[[str], None] = lambda _: None,
) -> str | None:
    """Upload the input. If the job was accepted earlier, upload nothing and return its id.

    `advance` gets the number of bytes packed, for a folder that is packed during the upload.
    `notice` gets a sentence about a submission that was interrupted.
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


def _accepted_job(store: Store, service: QueueClient, bucket: str) -> str | None:
    """Return the job that was submitted with a bucket, None without one.

    Raises RefusedError for a bucket with results and no known job, to keep these results.
    """
    # List first. Then the service already knows the job of any results that are found.
    try:
        has_results = any(
            item.name != ARCHIVE and not item.name.startswith(LIVE_PREFIX)
            for item in store.list(bucket)
        )
    except BucketMissingError:
        has_results = False
    why = "the queue knows no job of yours with it"
    try:
        [jobid] = service.find_jobs([bucket])
    except UnknownCallError:
        jobid = None
        why = "the queue, which is older than this client, cannot say which job they are of"
    if jobid is None and has_results:
        raise RefusedError(
            f"The bucket of this folder ({bucket}) holds results, and {why}. Nothing was "
            "submitted. To submit the folder again, delete leruli.bucket and leruli.job."
        )
    return jobid


def check_image(store: Store, service: QueueClient, spec: JobSpec) -> None:
    """Check secret and image before the upload.

    Raises SecretRefusedError for an invalid secret, NotFoundError for an unpublished image.
    """
    from leruli.images.published import ImageTokens, check_published

    tokens = ImageTokens(service, is_submitting=True)
    check_published(store, tokens, spec.code, spec.version)


def submit(
    store: Store,
    service: QueueClient,
    prepared: Prepared,
    advance: Callable[[int], None] = lambda _: None,
    notice: Callable[[str], None] = lambda _: None,
    batchid: str | None = None,
) -> tuple[str, str]:
    """Upload a folder and submit it; returns the job id and the bucket.

    With `batchid` the job makes a batch of its own, which has the name of the job.
    """
    packed = pack(prepared, advance)
    bucket, folder = packed.bucket, prepared.folder
    with packed.lock:
        jobid = upload(store, service, packed, advance, notice)
        if jobid is None:
            request = prepared.spec.request(bucket, job_name(folder.directory))
            batch = None if batchid is None else (batchid, request.name)
            jobid = service.submit(replace(request, batch=batch))
        folder.record_job(jobid)
    return jobid, bucket
