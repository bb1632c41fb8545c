"""leruli.folder: the record that a folder keeps of its last submission.

It is written before anything leaves the machine. It holds:

- the bucket, and the folder in which the record was written;
- the image, the command and the limits of the job;
- the state of each input when it was packed, and of each result when it was fetched.

`leruli.folder.provenance` compares a folder with it: is the job its own, and was an input edited?
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from leruli.cancellation import CheckCancelled
from leruli.errors import RefusedError
from leruli.folder.job_folder import RECORD_FILE, replacing

_FORMAT = 1
_READ_SIZE = 1024 * 1024

# The most bytes of a record that one write takes.
_AT_ONCE = 64 * 1024


@dataclass(frozen=True)
class FileState:
    """Size, time and content of a file at one moment."""

    size: int  #: bytes
    mtime_ns: int  #: nanoseconds since 1970
    sha256: str  #: of its content, as hexadecimal digits

    @classmethod
    def of(cls, path: str, check_cancelled: CheckCancelled = lambda: None) -> FileState:
        """Read a file; `check_cancelled` is called after each block. Raises OSError."""
        digest = hashlib.sha256()
        with Path(path).open("rb") as file:
            while data := file.read(_READ_SIZE):
                digest.update(data)
                check_cancelled()
            found = os.fstat(file.fileno())
        return cls(found.st_size, found.st_mtime_ns, digest.hexdigest())

    def is_at(self, path: str, check_cancelled: CheckCancelled = lambda: None) -> bool:
        """Whether there is a file at `path` and it still has this content. Raises OSError.

        A file of the same size and time counts as unchanged. Otherwise its content is compared.
        """
        try:
            found = Path(path).stat()
        except FileNotFoundError:
            return False
        if found.st_size != self.size:
            return False
        if found.st_mtime_ns == self.mtime_ns:
            return True
        return FileState.of(path, check_cancelled).sha256 == self.sha256


@dataclass(frozen=True)
class Place:
    """The identity of a folder: its path, and its inode, which a move keeps."""

    path: str  #: absolute, without links
    device: int
    inode: int

    @classmethod
    def of(cls, directory: str) -> Place:
        """Return the place of a folder. Raises OSError."""
        # Not Path.resolve: it reads every part of the path again for each folder of a batch.
        parent, name = os.path.split(os.path.abspath(directory))  # noqa: PTH100
        path = os.path.join(_real(parent), name)  # noqa: PTH118
        found = Path(directory).stat()
        # The folder is a link, or a link above it has changed since it was cached.
        if not _is_there(path, found):
            path = os.path.realpath(directory)
        return cls(path, found.st_dev, found.st_ino)

    def is_same(self, other: Place) -> bool:
        """Whether both are the same folder, even if it was moved or restored from a backup."""
        return self.path == other.path or ((self.device, self.inode) == (other.device, other.inode))


@dataclass(frozen=True)
class Record:
    """The record of the last submission of a folder."""

    bucket: str
    place: Place
    #: The fields of `leruli.jobs.submit.JobSpec`.
    spec: Mapping[str, Any]
    #: Name, with / between the parts: the state of the file when it was packed.
    inputs: Mapping[str, FileState] = field(default_factory=dict)
    #: Name in the folder: the state of the file that task-get wrote, or found with that content.
    results: Mapping[str, FileState] = field(default_factory=dict)
    #: Names in `results` of files that earlier jobs left and that are still in the folder.
    carried: tuple[str, ...] = ()
    #: Names of the subfolders that were packed.
    folders: tuple[str, ...] = ()
    #: Whether all results were fetched after the job was over.
    is_fetched: bool = False
    #: Whether `leruli run` has told how the job ended, or has cancelled it.
    is_told: bool = False

    @property
    def is_seen(self) -> bool:
        """Whether a person has the results or knows how the job ended."""
        return self.is_told or self.is_fetched

    def with_results(self, results: Mapping[str, FileState], *, are_all: bool) -> Record:
        """Return the record with more results; `are_all`: no result is missing then."""
        return replace(
            self,
            results={**self.results, **results},
            is_fetched=self.is_fetched or are_all,
        )


def read_record(directory: str) -> Record | None:
    """Return the record of a folder, None without one: the published client writes none.

    Raises RefusedError for a file that is not a record.
    """
    path = _path(directory)
    try:
        with Path(path).open("rb") as file:
            content = file.read()
        # It is empty if the machine stopped during the write.
        return _from_document(json.loads(content)) if content else None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RefusedError(f"Cannot read {path}: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise RefusedError(
            f"{path} is not a record that this client can read. If a newer client wrote it, update "
            "this one. Otherwise delete it: without it the client cannot tell a copied folder or "
            "an edited input."
        ) from error


def write_record(directory: str, record: Record) -> None:
    """Write the record of a folder. Raises RefusedError."""
    path = _path(directory)
    # Not asdict: it copies each value, which is half of the work with many small folders.
    document = {
        "format": _FORMAT,
        "bucket": record.bucket,
        "place": vars(record.place),
        "spec": dict(record.spec),
        "inputs": {name: vars(state) for name, state in record.inputs.items()},
        "results": {name: vars(state) for name, state in record.results.items()},
        "carried": record.carried,
        "folders": record.folders,
        "fetched": record.is_fetched,
        "told": record.is_told,
    }
    content = json.dumps(document, separators=(",", ":")).encode()
    try:
        # Writing a temporary file and renaming it would cost a third of the time per small folder.
        # A single small write is done as a whole or not at all.
        if len(content) > _AT_ONCE or not _write_new(path, content):
            with replacing(path) as part:
                _write_new(part, content)
    except OSError as error:
        raise RefusedError(f"Cannot write {path}: {error.strerror}.") from error


def add_results(
    directory: str, bucket: str, results: Mapping[str, FileState], *, are_all: bool = False
) -> None:
    """Add files that were fetched from `bucket` to the record, if it is about that bucket.

    `are_all`: the job is over and all of its results are in the folder. Raises RefusedError.
    """
    record = read_record(directory)
    if record is None or record.bucket != bucket:
        return
    changed = record.with_results(results, are_all=are_all)
    if results or changed.is_fetched != record.is_fetched:
        write_record(directory, changed)


def mark_told(directory: str, bucket: str) -> None:
    """Note that `leruli run` has told how the job of `bucket` ended. Raises RefusedError."""
    record = read_record(directory)
    if record is not None and record.bucket == bucket and not record.is_told:
        write_record(directory, replace(record, is_told=True))


def _write_new(path: str, content: bytes) -> bool:
    """Write a new file; return False if it exists. On an OSError no file is left."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return False
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(descriptor, left) :]
    except OSError:
        Path(path).unlink()
        raise
    finally:
        os.close(descriptor)
    return True


# The folders of a batch have few distinct parents.
@functools.lru_cache(maxsize=128)
def _real(path: str) -> str:
    return os.path.realpath(path)


def _is_there(path: str, found: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.lstat(path), found)
    except OSError:
        return False


def _path(directory: str) -> str:
    return str(Path(directory, RECORD_FILE))


def _from_document(document: Any) -> Record:
    if document["format"] != _FORMAT:
        raise ValueError(document["format"])
    return Record(
        bucket=str(document["bucket"]),
        place=Place(**document["place"]),
        spec=dict(document["spec"]),
        inputs=_states(document["inputs"]),
        results=_states(document["results"]),
        carried=tuple(document.get("carried", ())),
        folders=tuple(document.get("folders", ())),
        is_fetched=bool(document.get("fetched")),
        is_told=bool(document.get("told")),
    )


def _states(found: Mapping[str, Any]) -> dict[str, FileState]:
    return {name: FileState(**state) for name, state in found.items()}
