"""The two files by which a folder remembers its job: leruli.bucket and leruli.job.

leruli.bucket is written before anything leaves the machine, leruli.job once the job is accepted.
A folder with only leruli.bucket was interrupted. Submitting it again uses the same bucket, and for
one bucket the service always answers the same job. While a folder is submitted, leruli.bucket is
locked, so that two submissions do not become one job.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from leruli.errors import AlreadySubmittedError, LeruliError, NotFoundError, RefusedError

JOB_FILE = "leruli.job"
BUCKET_FILE = "leruli.bucket"

#: The record of the last submission; see `leruli.folder.record`.
RECORD_FILE = "leruli.folder"

#: The names of journals (`leruli.folder.journal`) begin with this.
JOURNAL_PREFIX = "leruli.batch-"

#: Names of files that the node makes; not allowed in a job folder.
RESERVED = frozenset({"run.sh", "joblog.txt", "joberr.txt"})

#: Holds the files of earlier jobs, a folder per job.
HISTORY = "leruli.history"

#: Objects of a bucket below this hold live output of a running job. They are no files of the job.
LIVE_PREFIX = ".leruli/live/"

#: Files being written carry this prefix until they are complete and renamed.
PART_PREFIX = ".leruli-part-"

_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@contextlib.contextmanager
def replacing(path: str) -> Iterator[str]:
    """Yield a temporary name beside `path` to write to; it becomes `path` if the block succeeds."""
    part = os.path.join(os.path.dirname(path), PART_PREFIX + secrets.token_hex(6))
    try:
        yield part
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise


@dataclass(frozen=True)
class JobFolder:
    """A folder of input files, with its job and bucket."""

    directory: str

    def check(self) -> None:
        """Raise NotFoundError or RefusedError unless the folder can be submitted."""
        if not os.path.isdir(self.directory):
            raise NotFoundError(f"{self.directory} is not a folder.")
        if os.path.lexists(self._path(JOB_FILE)):
            raise AlreadySubmittedError(
                f"This folder was already submitted: {self._path(JOB_FILE)} is there. To run it "
                "again, use `leruli task-resubmit`, which keeps the files of the last job. If it "
                "is a copy of another folder, add --new to `leruli task-submit`."
            )

    def job(self) -> str | None:
        """Return the job id, None if the folder was not submitted completely."""
        return self._read(JOB_FILE)

    def bucket(self) -> str | None:
        """Return the name of the bucket, None before a submission and after a purge."""
        name = self._read(BUCKET_FILE)
        if name is not None and not _BUCKET_NAME.fullmatch(name):
            raise RefusedError(
                f"{self._path(BUCKET_FILE)} does not hold the name of a bucket. Delete it; if the "
                "folder was submitted, ask an admin of your group for the job's bucket."
            )
        return name

    def claim_bucket(self) -> tuple[str, bool]:
        """Return the bucket to submit with, and whether an interrupted submission left it.

        Two processes that claim at the same time get the same name.
        """
        name = self.bucket()
        if name is not None:
            return name, True
        name = str(uuid.uuid4())
        path = self._path(BUCKET_FILE)
        part = self._path(PART_PREFIX + name)
        try:
            _write(part, name)
            try:
                os.link(part, path)
            except FileExistsError:
                found = self.bucket()
                if found is not None:
                    return found, True
                os.replace(part, path)  # empty: the machine stopped during the write
            except OSError:
                os.replace(part, path)  # a file system without hard links
        except OSError as error:
            raise RefusedError(f"Cannot write {path}: {error.strerror}.") from error
        finally:
            with contextlib.suppress(OSError):
                os.unlink(part)
        return name, False

    def hold(self, bucket: str) -> IO[bytes]:
        """Lock the folder against other submissions until the returned file is closed.

        The lock is on leruli.bucket, which `claim_bucket` wrote. Raises RefusedError when another
        process holds it, AlreadySubmittedError when that process has submitted the folder
        meanwhile. A file system without locks locks nothing.
        """
        path = self._path(BUCKET_FILE)
        try:
            file = _open_to_lock(path)
        except OSError as error:
            raise RefusedError(f"Cannot read {path}: {error.strerror}.") from error
        try:
            _lock(file)
            self.check()
            if self.bucket() != bucket:
                raise BlockingIOError
        except BlockingIOError:
            file.close()
            raise RefusedError(
                "Another leruli is submitting this folder at the same time. Nothing was sent. "
                "`leruli task-status` shows what the other one submitted."
            ) from None
        except LeruliError:
            file.close()
            raise
        return file

    def record_job(self, jobid: str) -> None:
        """Write the id of the accepted job into the folder."""
        try:
            self._replace(JOB_FILE, jobid)
        except RefusedError as error:
            raise RefusedError(
                f"Job {jobid} was accepted, but: {error} Write the job id into it yourself, or "
                "submit again: the queue answers with the same job."
            ) from error

    def restore(self, bucket: str, job: str | None) -> None:
        """Write the two files again if a crash left them missing or empty.

        Does nothing if the folder has another bucket by now. Raises RefusedError.
        """
        if self.bucket() is None:
            self._replace(BUCKET_FILE, bucket)
        if job is not None and self.bucket() == bucket:
            self.record_job(job)

    def check_job(self, expected: str | None) -> None:
        """Raise RefusedError if the folder has another job: another process works on the folder."""
        if self.job() != expected:
            raise RefusedError("Another leruli is giving it another job at the same time.")

    def forget(self, job: str | None, bucket: str | None) -> None:
        """Delete leruli.bucket, then leruli.job, if they name this bucket and this job.

        Raises RefusedError, also if they name others by now or the folder is being submitted.
        """
        try:
            with contextlib.ExitStack() as locks:
                if bucket is not None:
                    _lock(locks.enter_context(_open_to_lock(self._path(BUCKET_FILE))))
                if self.bucket() != bucket:
                    raise BlockingIOError
                self.check_job(job)
                for name in (BUCKET_FILE, JOB_FILE):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(self._path(name))
        except (BlockingIOError, FileNotFoundError):
            raise RefusedError("Another leruli is submitting it at the same time.") from None
        except OSError as error:
            raise RefusedError(
                f"Cannot delete {self._path(BUCKET_FILE)} and {self._path(JOB_FILE)}: "
                f"{error.strerror}."
            ) from error

    def set_aside(self, chosen: str | None) -> None:
        """Move leruli.bucket, leruli.job and the logs of the last job to leruli.history/JOBID.

        leruli.job is moved last, so this may be interrupted anywhere and repeated. Raises
        RefusedError, also if the folder has another job than `chosen` (None: its files were moved
        before). Then another process works on the folder.
        """
        self.check_job(chosen)
        job = self.job()
        if job is None:
            return
        target = Path(self._path(HISTORY), job)
        try:
            target.mkdir(parents=True, exist_ok=True)
            for name in (*sorted(RESERVED), BUCKET_FILE, JOB_FILE):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(self._path(name), target / name)
        except OSError as error:
            raise RefusedError(
                f"Cannot move the files of the last job to {target}: {error.strerror}."
            ) from error

    def was_set_aside(self) -> bool:
        """Whether the last job of the folder was moved to the history."""
        return self.job() is None and os.path.isdir(self._path(HISTORY))

    def has_traces(self) -> bool:
        """Whether one of the two files exists, even if empty."""
        return any(os.path.lexists(self._path(name)) for name in (JOB_FILE, BUCKET_FILE))

    def forget_bucket(self, bucket: str) -> None:
        """Delete leruli.bucket if it names `bucket`."""
        if self._read(BUCKET_FILE) == bucket:
            os.unlink(self._path(BUCKET_FILE))

    def _replace(self, name: str, line: str) -> None:
        path = self._path(name)
        try:
            with replacing(path) as part:
                _write(part, line)
        except OSError as error:
            raise RefusedError(f"Cannot write {path}: {error.strerror}.") from error

    def _path(self, name: str) -> str:
        return name if self.directory == os.curdir else os.path.join(self.directory, name)

    def _read(self, name: str) -> str | None:
        path = self._path(name)
        try:
            with open(path, encoding="utf-8") as file:
                return file.read(4096).strip() or None
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise RefusedError(f"Cannot read {path}: {error}.") from error


def _open_to_lock(path: str) -> IO[bytes]:
    try:
        return open(path, "r+b", buffering=0)  # over NFS a lock needs a writable file
    except PermissionError:
        return open(path, "rb", buffering=0)


def _lock(file: IO[bytes]) -> None:
    """Raise BlockingIOError when another process has the lock."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        pass  # a file system without locks


def _write(path: str, line: str) -> None:
    # Not open(): its layers cost a tenth of the work with many small folders.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)
