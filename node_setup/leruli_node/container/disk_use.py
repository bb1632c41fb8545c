"""Measures how much disk a job uses and how full the disks are, without blocking the caller.

A job's use is what `du` counts in blocks: a sparse file counts its occupied blocks, a file with
several names counts once. `du` runs in a thread. The longer it took, the longer the pause before
the next run: a job with millions of files costs the node a few per cent of a core.
"""

from __future__ import annotations

import logging
import os
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from leruli_node.clock import boottime
from leruli_node.container.docker_engine import (
    DockerEngine,
    DockerRefusedError,
    DockerUnavailableError,
)
from leruli_node.container.rundir_access import RundirAccess
from leruli_node.folders import Folders

log = logging.getLogger(__name__)

# Seconds between two measurements of a job: the least, and the most while little is written.
_SOONEST = 5.0
_LATEST = 60.0
# The pause after a measurement is this many times its duration; half of that while much is written.
_PAUSE = 20.0
# Timeout of a measurement in seconds.
_DU_TAKES = 900.0
_AT_ONCE = 2
# A disk with less free space (bytes) counts as full. A job writes about this much between two
# ticks.
_FULL = 128 * 2**20
MOST_FREE_MB = 5_120
_PART_FREE = 20
# The node takes jobs again when the free space is larger by this part.
_PART_MORE = 4


class DiskMeter:
    """Measures the disk space of a container and its job's folder."""

    def __init__(self, engine: DockerEngine, access: RundirAccess, folders: Folders) -> None:
        self._engine = engine
        self._access = access
        self._folders = folders

    def measure(self, attempt_key: str, container: str) -> int | None:
        """Return the bytes on disk, None if they could not be counted completely."""
        paths = [str(self._folders.job(attempt_key))]
        try:
            layer = self._engine.layer_folder(container)
            counted = 0 if layer is not None else self._engine.layer_bytes(container)
        except (DockerUnavailableError, DockerRefusedError):
            return None
        found = self.du(paths if layer is None else [*paths, layer])
        return None if found is None else counted + found

    def du(self, paths: list[str]) -> int | None:
        """Return the bytes that paths take, None if they could not be counted completely."""
        command = self._access.inside("nice", "-n", "19", "du", "-skx", "--", *paths)
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                # du reports each file that vanishes while it counts.
                stderr=subprocess.DEVNULL,
                timeout=_DU_TAKES,
                check=False,
            )
        except (OSError, subprocess.SubprocessError) as error:
            log.warning("the disk use of a job cannot be measured: %s", type(error).__name__)
            return None
        lines = [line.split(b"\t", 1)[0] for line in done.stdout.splitlines()]
        if len(lines) != len(paths) or not all(line.isdigit() for line in lines):
            return None
        return sum(int(line) for line in lines) * 1024


@dataclass
class _Measured:
    """The latest measurement of an attempt, in bytes and seconds.

    `written` is the use of all disks at that time.
    """

    size: int | None = None
    took: float = 0.0
    ended: float = 0.0
    written: int = 0
    is_under_way: bool = False


class Meter(Protocol):
    """Measures the disk space of an attempt."""

    def measure(self, attempt_key: str, container: str) -> int | None:
        """Return the bytes on disk, None if they could not be counted completely."""


class DiskUse:
    """The disk use of all running attempts, as far as it was measured."""

    def __init__(self, meter: Meter, disks: Disks) -> None:
        self._meter = meter
        self._disks = disks
        self._latest: dict[str, _Measured] = {}
        self._free = threading.BoundedSemaphore(_AT_ONCE)

    def of(self, attempt_key: str, container: str, limit: int) -> int | None:
        """Return the bytes that an attempt used at its latest measurement, None before that."""
        latest = self._latest.setdefault(attempt_key, _Measured())
        if not latest.is_under_way and self._is_due(latest, limit) and self._free.acquire(False):
            latest.is_under_way = True
            try:
                threading.Thread(
                    target=self._measure, args=(latest, attempt_key, container), daemon=True
                ).start()
            except RuntimeError:  # the machine can run no more threads now
                latest.is_under_way = False
                self._free.release()
        return latest.size

    def forget_all_but(self, keys: set[str]) -> None:
        """Forget attempts that are over."""
        for key in [key for key in self._latest if key not in keys]:
            del self._latest[key]

    def _is_due(self, latest: _Measured, limit: int) -> bool:
        if latest.ended == 0.0:
            return True
        age = boottime() - latest.ended
        if age < max(_SOONEST, latest.took * _PAUSE / 2):
            return False
        grown = self._disks.used() - latest.written
        near = grown > (limit - (latest.size or 0)) / 10
        return near or age >= max(_LATEST, latest.took * _PAUSE)

    def _measure(self, latest: _Measured, attempt_key: str, container: str) -> None:
        began = boottime()
        try:
            written = self._disks.used()
            size = self._meter.measure(attempt_key, container)
            if size is not None:
                latest.size, latest.written = size, written
        except Exception:
            log.exception("the disk use of a job was not measured", extra={"attempt": attempt_key})
        finally:
            latest.ended = boottime()
            latest.took = latest.ended - began
            latest.is_under_way = False
            self._free.release()


class Disks:
    """The file systems that jobs write to: the agent's and Docker's, which may be the same.

    Below `least_free_mb` of free space the node takes no jobs. The default is a twentieth of the
    disk, at most MOST_FREE_MB. The node takes jobs again when a quarter more is free: at each
    change the service requeues what is unplaced for the group's nodes.
    """

    def __init__(
        self,
        folder: Path,
        images_folder: Callable[[], Path],
        least_free_mb: int | None = None,
    ) -> None:
        self._folder = folder
        self._images_folder = images_folder
        self._least_free_mb = least_free_mb
        self._is_low = False

    def used(self) -> int:
        """Return the used bytes on all of them."""
        return sum((one.f_blocks - one.f_bfree) * one.f_frsize for one in self._all())

    def is_full(self) -> bool:
        """Return whether one of them has no more space or inodes."""
        return any(
            one.f_bavail * one.f_frsize < _FULL or (one.f_files > 0 and one.f_favail == 0)
            for one in self._all()
        )

    def trouble(self) -> str | None:
        """Return why the node takes no new jobs, in a sentence, or None."""
        for one in self._all():
            free, total = one.f_bavail * one.f_frsize >> 20, one.f_blocks * one.f_frsize >> 20
            least = self._least_free_mb
            if least is None:
                least = min(MOST_FREE_MB, total // _PART_FREE)
            again = least + least // _PART_MORE
            if free < (again if self._is_low else least):
                self._is_low = True
                return (
                    f"its disk has {free} MB free; it takes new jobs from {again} MB on "
                    "(LERULI_NODE_DISK_FREE_MB and a quarter)"
                )
        self._is_low = False
        return None

    def _all(self) -> list[os.statvfs_result]:
        found = {}
        for folder in (self._folder, self._where_images_are()):
            try:
                found[os.stat(folder).st_dev] = os.statvfs(folder)
            except OSError as error:
                log.warning("the free space of a disk cannot be read: %s", error.strerror)
        return list(found.values())

    def _where_images_are(self) -> Path:
        try:
            return self._images_folder()
        except (DockerUnavailableError, DockerRefusedError):
            return self._folder
