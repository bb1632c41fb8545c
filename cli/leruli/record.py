"""leruli.folder: the record that a folder keeps of the submission of its job.

It lies beside leruli.job and leruli.bucket and is written before anything leaves the machine. It
says which bucket it is about, which folder it was written in, what was submitted, and what each
file was: the inputs when they were packed, the results when they were fetched. `leruli.standing`
tells from it whether a folder holds its own job, and whether its input was edited since.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from leruli.errors import RefusedError
from leruli.jobfolder import RECORD_FILE, replacing

_FORMAT = 1
_READ_SIZE = 1024 * 1024

# Bytes of a record that are written at once.
_AT_ONCE = 64 * 1024


@dataclass(frozen=True)
class FileState:
    """What a file was at one moment."""

    size: int  #: bytes
    mtime_ns: int  #: nanoseconds since 1970
    sha256: str  #: of its content, as hexadecimal digits

    @classmethod
    def of(cls, path: str, advance: Callable[[int], None] = lambda _: None) -> FileState:
        """Read a file; `advance` is called with 0 meanwhile. Raises OSError."""
        digest = hashlib.sha256()
        with Path(path).open("rb") as file:
            while data := file.read(_READ_SIZE):
                digest.update(data)
                advance(0)
            found = os.fstat(file.fileno())
        return cls(found.st_size, found.st_mtime_ns, digest.hexdigest())

    def is_at(self, path: str, advance: Callable[[int], None] = lambda _: None) -> bool:
        """Whether the file at `path` still has this content. Raises OSError but for no file.

        A file of the same size and time counts as unchanged; else its content is compared.
        """
        try:
            found = Path(path).stat()
        except FileNotFoundError:
            return False
        if found.st_size != self.size:
            return False
        if found.st_mtime_ns == self.mtime_ns:
            return True
        return FileState.of(path, advance).sha256 == self.sha256


@dataclass(frozen=True)
class Place:
    """Which folder it is: by its path, and by its number on the disk, which a move keeps."""

    path: str  #: absolute, without links
    device: int
    inode: int

    @classmethod
    def of(cls, directory: str) -> Place:
        """Return the place of a folder. Raises OSError."""
        # Not Path.resolve, which looks at every part of the path again, for each folder of a batch.
        parent, name = os.path.split(os.path.abspath(directory))  # noqa: PTH100
        path = os.path.join(_real(parent), name)  # noqa: PTH118
        found = Path(directory).stat()
        # The folder is a link, or a link above it leads elsewhere than when it was looked at.
        if not _is_there(path, found):
            path = os.path.realpath(directory)
        return cls(path, found.st_dev, found.st_ino)

    def is_same(self, other: Place) -> bool:
        """Whether both are one folder, which may have been moved or restored from a backup."""
        return self.path == other.path or ((self.device, self.inode) == (other.device, other.inode))


@dataclass(frozen=True)
class Record:
    """What a folder knows of the last submission that was made in it."""

    bucket: str
    place: Place
    #: The fields of `leruli.submitting.JobSpec`.
    spec: Mapping[str, Any]
    #: Name, with / between the parts: the file as it was packed.
    inputs: Mapping[str, FileState] = field(default_factory=dict)
    #: Name in the folder: the file as task-get wrote it, or found it there with that content.
    results: Mapping[str, FileState] = field(default_factory=dict)
    #: Names among `results` of files that earlier jobs left and that are still in the folder.
    carried: tuple[str, ...] = ()
    #: Names of the folders in it that were packed.
    folders: tuple[str, ...] = ()
    #: Whether all results came into the folder after the job was over.
    is_fetched: bool = False

    def with_results(self, results: Mapping[str, FileState], *, are_all: bool) -> Record:
        """Return it with these results beside those that it has; `are_all`: none is missing."""
        return replace(
            self,
            results={**self.results, **results},
            is_fetched=self.is_fetched or are_all,
        )


def read_record(directory: str) -> Record | None:
    """Return the record of a folder, None if it has none, as after the published client.

    Raises RefusedError for a file that is there and is no record.
    """
    path = _path(directory)
    try:
        with Path(path).open("rb") as file:
            content = file.read()
        # A machine that stopped while it was written left it empty.
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
    # Not asdict, which copies each value: of many small folders that is half of the work.
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
    }
    content = json.dumps(document, separators=(",", ":")).encode()
    try:
        # A file of its own to be renamed costs a third of all that is done for a small folder. One
        # write of little is done whole, or not at all.
        if len(content) > _AT_ONCE or not _write_new(path, content):
            with replacing(path) as part:
                _write_new(part, content)
    except OSError as error:
        raise RefusedError(f"Cannot write {path}: {error.strerror}.") from error


def add_results(
    directory: str, bucket: str, results: Mapping[str, FileState], *, are_all: bool = False
) -> None:
    """Note files that were fetched from `bucket`, if the record is about that bucket.

    `are_all`: the job is over and all of its results are in the folder. Raises RefusedError.
    """
    record = read_record(directory)
    if record is None or record.bucket != bucket:
        return
    changed = record.with_results(results, are_all=are_all)
    if results or changed.is_fetched != record.is_fetched:
        write_record(directory, changed)


def _write_new(path: str, content: bytes) -> bool:
    """Write a file; returns False if it is there already. Raises OSError, and leaves none then."""
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


# A batch has its folders in few others.
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
    )


def _states(found: Mapping[str, Any]) -> dict[str, FileState]:
    return {name: FileState(**state) for name, state in found.items()}
