"""Fetching the input of a job into a folder, as it was submitted.

The input comes from the archive in the bucket, which any member of the group may have written. Only
files and folders are unpacked, their names follow the rules for results, and no local file that a
person changed or made is replaced.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import shutil
import tarfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from leruli.cancellation import Advance, StopSwitch
from leruli.errors import NotFoundError, RefusedError
from leruli.folder.local_files import INPUT_KIND, LocalFiles
from leruli.folder.object_paths import make_place, split_name
from leruli.folder.part_files import part_in
from leruli.folder.record import add_results
from leruli.jobs.placing import Arrival, Fetched, Placing, count_arrival, set_mode_and_time
from leruli.jobs.submit import ARCHIVE

if TYPE_CHECKING:
    from leruli.storage.store import Store

_READ_SIZE = 256 * 1024

# Limits for the headers of one entry, which tarfile holds in memory, and for the entries.
_MOST_HEADER_BYTES = 256 * 1024
_MOST_ENTRIES = 1_000_000

_REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE)


def fetch_input(
    store: Store,
    local: LocalFiles,
    results: Collection[str],
    advance: Advance = lambda _: None,
) -> Fetched:
    """Fetch the input from the bucket of `local`.

    `results` are the names of the job's results. An input with the name of a result is put beside
    the result, with INPUT_KIND in its name. Raises NotFoundError for a bucket without an archive,
    RefusedError for an archive that cannot be unpacked.
    """
    found = [item for item in store.list(local.bucket) if item.name == ARCHIVE]
    if not found:
        raise NotFoundError("The bucket of the job does not hold its input any more.")
    switch = StopSwitch(advance)
    placing = Placing(local, switch.check_cancelled)
    try:
        with part_in(placing.root) as archive:
            store.download(local.bucket, found[0], archive, switch.advance)
            return _Unpacking(placing, results).unpack(archive)
    finally:
        add_results(local.directory, local.bucket, placing.states)


class _Unpacking:
    """Unpacks one archive into a folder."""

    def __init__(self, placing: Placing, results: Collection[str]) -> None:
        self._placing = placing
        self._results = results
        self._fetched = Fetched()
        self._free_bytes = shutil.disk_usage(placing.root).free

    def unpack(self, path: Path) -> Fetched:
        try:
            with gzip.open(path) as content:
                reader = _BoundedReader(content)
                with tarfile.open(
                    fileobj=cast("IO[bytes]", reader), mode="r|", bufsize=_READ_SIZE
                ) as archive:
                    self._take_all(archive, reader)
        except RefusedError:
            raise
        except (
            *(tarfile.TarError, zlib.error, EOFError, ValueError, RecursionError),
            *(OverflowError, gzip.BadGzipFile),
        ):
            raise RefusedError(
                "The input of the job cannot be unpacked: its archive is damaged. `leruli task-get "
                "--all` fetches the archive as it is."
            ) from None
        except OSError as error:
            raise RefusedError(
                f"The input of the job cannot be unpacked: {error.strerror or error}."
            ) from error
        return self._fetched

    def _take_all(self, archive: tarfile.TarFile, reader: _BoundedReader) -> None:
        for _ in range(_MOST_ENTRIES):
            reader.allow(_MOST_HEADER_BYTES)
            member = archive.next()
            if member is None:
                return
            archive.members.clear()  # type: ignore[attr-defined]  # tarfile keeps every member
            if not 0 <= member.size <= self._free_bytes:
                raise RefusedError(
                    "The input of the job is larger than the free space on this disk. Nothing was "
                    "lost. Free space, then run the same command again."
                )
            self._free_bytes -= member.size
            reader.allow(member.size)
            name = member.name.removeprefix("./") if member.name != "." else ""
            if name in ("", "run.sh"):  # the latter is the command, not input
                continue
            self._placing.check_cancelled()
            try:
                self._take(archive, member, name)
            except RefusedError as error:
                self._fetched.refused[name] = str(error)
            except OSError as error:
                self._fetched.refused[name] = f"{error.strerror or error}."
        raise RefusedError(f"The input of the job has more than {_MOST_ENTRIES} files.")

    def _take(self, archive: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> None:
        if member.isdir():
            make_place(self._placing.root, name + "/")
            return
        if member.type not in _REGULAR or member.issparse():
            raise RefusedError("It is neither a file nor a folder.")
        split_name(name)
        path = make_place(self._placing.root, name)
        record = self._placing.local.record
        submitted = record.inputs.get(name) if record is not None else None
        if submitted is not None and path.is_file() and submitted.is_at(str(path)):
            count_arrival(self._fetched, name, member.size, Arrival(name, is_new=False))
            return
        kind = INPUT_KIND if name in self._results else ""
        with part_in(path.parent) as part:
            sha256 = self._write(archive, member, part)
            mtime_ns = None
            with contextlib.suppress(ValueError, OverflowError):
                mtime_ns = int(member.mtime * 1e9)
            set_mode_and_time(part, member.mode, mtime_ns)
            arrival = self._placing.put(part, name, path, sha256, kind)
        count_arrival(self._fetched, name, member.size, arrival)

    def _write(self, archive: tarfile.TarFile, member: tarfile.TarInfo, part: Path) -> str:
        digest = hashlib.sha256()
        content = archive.extractfile(member)
        if content is None:
            raise RefusedError("It has no content.")
        with part.open("wb") as file:
            while data := content.read(_READ_SIZE):
                digest.update(data)
                file.write(data)
                self._placing.check_cancelled()
        return digest.hexdigest()


class _BoundedReader:
    """The input of tarfile, limited in bytes: tarfile holds headers of any length in memory."""

    def __init__(self, content: gzip.GzipFile) -> None:
        self._content = content
        self._delivered = 0
        self._allowed = _MOST_HEADER_BYTES + 2 * _READ_SIZE

    def allow(self, size: int) -> None:
        """Allow `size` bytes beyond those that were read or allowed before."""
        self._allowed = max(self._allowed, self._delivered) + size

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes. Raises RefusedError for more than was allowed."""
        data = self._content.read(size)
        self._delivered += len(data)
        if self._delivered > self._allowed:
            raise RefusedError("The input of the job has headers that are too long.")
        return data
