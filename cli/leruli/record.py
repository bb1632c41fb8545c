"""leruli.folder: the record that a folder keeps of the submission of its job.

It lies beside leruli.job and leruli.bucket and is written before anything leaves the machine. It
says which bucket it is about, which folder it was written in, what was submitted, and what each
file was: the inputs when they were packed, the results when they were fetched. `leruli.standing`
tells from it whether a folder holds its own job, and whether its input was edited since.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from leruli.errors import RefusedError
from leruli.jobfolder import replacing

RECORD_FILE = "leruli.folder"

_FORMAT = 1
_READ_SIZE = 1024 * 1024


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
        found = Path(directory).stat()
        return cls(os.path.realpath(directory), found.st_dev, found.st_ino)

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

    def with_results(self, results: Mapping[str, FileState]) -> Record:
        """Return it with these results beside those that it has."""
        return replace(self, results={**self.results, **results})


def read_record(directory: str) -> Record | None:
    """Return the record of a folder, None if it has none, as after the published client.

    Raises RefusedError for a file that is there and is no record.
    """
    path = _path(directory)
    try:
        with Path(path).open("rb") as file:
            return _from_document(json.load(file))
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
    document = {"format": _FORMAT, **asdict(record)}
    try:
        with replacing(path) as part:
            Path(part).write_text(json.dumps(document, separators=(",", ":")), encoding="utf-8")
    except OSError as error:
        raise RefusedError(f"Cannot write {path}: {error.strerror}.") from error


def add_results(directory: str, bucket: str, results: Mapping[str, FileState]) -> None:
    """Note files that were fetched from `bucket`, if the record is about that bucket.

    Raises RefusedError.
    """
    record = read_record(directory)
    if record is not None and record.bucket == bucket and results:
        write_record(directory, record.with_results(results))


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
    )


def _states(found: Mapping[str, Any]) -> dict[str, FileState]:
    return {name: FileState(**state) for name, state in found.items()}
