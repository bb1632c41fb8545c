"""Shared containers: consecutive attempts of one user, image and resources run in one container.

The first process of a shared container is leruli-runner. A slot keeps a few of them, one for each
kind of attempt (shared_folder.py), as users take turns. One of them at a time runs a command.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from pathlib import Path

from leruli_node.attempts.settle import Ended
from leruli_node.attempts.store import AttemptStore
from leruli_node.clock import boottime
from leruli_node.container.docker_engine import (
    DockerEngine,
    DockerRefusedError,
    DockerUnavailableError,
)
from leruli_node.container.job_environment import job_environment
from leruli_node.container.rundir_access import RundirAccess
from leruli_node.files.trash import Trash
from leruli_node.folders import Folders
from leruli_node.model import AttemptId, AttemptState, ContainerFacts
from leruli_node.slots.container import GoneError
from leruli_node.slots.record import SlotRecord
from leruli_node.slots.runner_line import LineLostError
from leruli_node.slots.shared_container import SharedContainer
from leruli_node.slots.shared_folder import JobEnd, Kind, SharedFolder, SharedRecord
from leruli_node.slots.shared_limits import SharedLimits
from leruli_node.slots.shared_made import shared_container_for

log = logging.getLogger(__name__)

# Shared containers of one slot. An idle one holds some 4 MB.
_MOST = 4
# Seconds for which a kind whose container cannot be made has fresh ones.
_UNFIT_FOR_S = 300.0
# Seconds for which Docker is not asked again for the id of an image. Stage-in looks for a newer one
# as rarely.
_IMAGE_KNOWN_FOR_S = 2.0
_MOST_IMAGES = 1000
# Seconds between two looks at a command that runs.
_TICK_S = 1.0
# The exit code of a container that vanished with its job.
_VANISHED = 137
# Seconds in which processes end after KILL.
_DIES_IN_S = 10.0


class SharedContainers:
    """Implements AttemptContainer for attempts whose users let them share a container."""

    def __init__(
        self,
        folders: Folders,
        store: AttemptStore,
        engine: DockerEngine,
        access: RundirAccess,
        trash: Trash,
        limits: SharedLimits,
        runner: Path,
        node_name: str = "",
    ) -> None:
        self._folders = folders
        self._node_name = node_name
        self._store = store
        self._engine = engine
        self._access = access
        self._trash = trash
        self._limits = limits
        self._runner = runner.resolve()
        self._lock = threading.Lock()
        self._containers: list[SharedContainer] = []
        # The container of each prepared attempt, by the attempt's key.
        self._prepared: dict[str, SharedContainer] = {}
        # Docker's ids of images, and when it was asked.
        self._images: dict[str, tuple[str, float]] = {}
        # Since when a kind has fresh containers, by its user and image.
        self._unfit: dict[tuple[str, str], float] = {}
        for path in sorted(folders.shared.iterdir()):
            record = SharedRecord.read(path)
            if record is not None:
                self._containers.append(self._container(record))

    def serves(self, state: AttemptState) -> bool:
        """Return whether this attempt runs, or is to run, in a shared container."""
        with self._lock:
            is_prepared = state.id.key in self._prepared
        if is_prepared or self._running(state.id) is not None or self._end_of(state.id) is not None:
            return True
        if not state.share_container or not state.user or state.grant is None:
            return False
        since = self._unfit.get((state.user, state.grant.image))
        return since is None or time.monotonic() - since > _UNFIT_FOR_S

    def has_ready(self, slot: SlotRecord, state: AttemptState) -> bool:
        """Return whether a container of the attempt's kind runs; of an image as last looked up."""
        if state.grant is None:
            return False
        image, _ = self._images.get(state.grant.image, ("", 0.0))
        kind = Kind(slot.first.key, state.user, image, state.grant.cores, state.grant.memorymb)
        return self._fitting(kind) is not None

    def prepare(self, slot: SlotRecord, attempt: AttemptId) -> None:
        """Find or make the container for an attempt; it may run another one still."""
        state = self._store.get(attempt)
        if state is None or state.grant is None:
            raise GoneError
        with self._lock:
            prepared = self._prepared.get(attempt.key)
        if prepared is not None and not prepared.is_over:
            return
        grant, image = state.grant, self._image_id(state.grant.image)
        kind = Kind(slot.first.key, state.user, image, grant.cores, grant.memorymb)
        container = self._fitting(kind) or self._make(slot, kind, grant.image)
        with self._lock:
            self._prepared[attempt.key] = container

    def start(self, slot: SlotRecord, attempt: AttemptId) -> None:
        """Start the command in the container that was prepared for it."""
        state = self._store.get(attempt)
        if state is None or state.grant is None:
            raise GoneError
        grant, container = state.grant, self._running(attempt)
        if container is None:
            container = self._ready(slot, attempt)
        elif container.has_begun(attempt):
            return
        variables = job_environment(attempt, grant, self._node_name)
        environment = [f"{name}={value}" for name, value in variables.items()]
        self._limits.begins(attempt, container.folder.rundir)
        try:
            container.begin(attempt, environment)
        except (LineLostError, OSError) as error:
            container.is_over = True
            raise DockerRefusedError(f"a shared container fails: {error}") from None
        finally:
            with self._lock:
                self._prepared.pop(attempt.key, None)
        self._note_start(container)

    def has_begun(self, slot: SlotRecord, attempt: AttemptId) -> bool:
        """Return whether the command was started, by this agent or by one before it."""
        if self._end_of(attempt) is not None:
            return True
        container = self._running(attempt)
        return container is not None and container.has_begun(attempt)

    def wait(self, slot: SlotRecord, attempt: AttemptId, seconds: float) -> bool:
        """Wait for the command's end, and look at its limits meanwhile."""
        deadline = time.monotonic() + seconds
        container = self._running(attempt)
        if container is None:
            return True
        state = self._store.get(attempt)
        if state is not None and state.started_boottime is None:
            # An agent before this one started it.
            self._note_start(container)
        while True:
            state = self._store.get(attempt)
            until_limit = self._limits.left(state) if state is not None else _TICK_S
            left = deadline - time.monotonic()
            if container.wait(attempt, max(0.0, min(left, _TICK_S, max(until_limit, 0.01)))):
                return True
            self._limits.enforce(
                attempt, container.name, lambda name: container.signal(attempt, name)
            )
            if time.monotonic() >= deadline:
                return False

    def signal(self, slot: SlotRecord, attempt: AttemptId, name: str) -> None:
        """Send TERM or KILL to the processes of the command."""
        container = self._running(attempt)
        if container is not None:
            container.signal(attempt, name)

    def ended(self, slot: SlotRecord, attempt: AttemptId) -> Ended | None:
        """Return how the command ended. None: it never began, or its container vanished."""
        return self._ended(attempt)

    def running(self) -> set[str]:
        """Return the keys of the attempts that run."""
        current = [(one.record.current, one) for one in self._all() if not one.is_over]
        return {
            attempt.key
            for attempt, container in current
            if attempt is not None and self._is_in_use(container) and self._end_of(attempt) is None
        }

    def rundir_of(self, attempt: AttemptId) -> Path | None:
        """Return the folder with the attempt's files while its container has them."""
        container = self._running(attempt)
        return container.folder.rundir if container is not None else None

    def signal_running(self, name: str) -> None:
        """Send a signal to all commands that run."""
        keys = self.running()
        for container in self._all():
            attempt = container.record.current
            if attempt is not None and attempt.key in keys:
                container.signal(attempt, name)

    def settle(self, attempt: AttemptId, grace: float) -> Ended | None:
        """End the command if it runs still, and return how it ended.

        None: it has no shared container, or that vanished. Raises DockerUnavailableError.
        """
        container = self._running(attempt)
        if container is not None:
            steps = (("", 0.0), ("TERM", grace), ("KILL", _DIES_IN_S))
            for name, seconds in steps:
                if name:
                    log.warning("the command still runs; ending it", extra=attempt.log_fields)
                    self._note_stop(attempt)
                    container.signal(attempt, name)
                if container.wait(attempt, seconds):
                    break
            else:
                self._end_all([container])
        return self._ended(attempt)

    def end_all(self) -> None:
        """End all containers: the agent is being stopped."""
        self._end_all(self._all())

    def _note_stop(self, attempt: AttemptId) -> None:
        state = self._store.get(attempt)
        if state is not None and state.stopped_at is None and state.time_limit_at is None:
            self._store.update(attempt, stopped_at=time.time())

    def _ended(self, attempt: AttemptId) -> Ended | None:
        end = self._end_of(attempt)
        if end is None:
            return None
        self._store.update(
            attempt,
            durable=False,
            in_shared=True,
            started_at=end.started_at,
            started_boottime=end.started_boottime,
            cpu_seconds=round(end.cpu_s, 2),
            peak_memory_mb=-(-end.peak_bytes // 2**20) or None,
            peak_no_cache_mb=-(-end.peak_no_cache_bytes // 2**20) or None,
        )
        if end.exit_code is None and not end.is_out_of_memory:
            return None
        facts = ContainerFacts(
            exit_code=_VANISHED if end.exit_code is None else end.exit_code,
            oom_killed=end.is_out_of_memory,
            started_at=end.started_at,
            finished_at=end.started_at + end.wall_s,
        )
        return Ended(facts, end.is_signalled)

    def close(self, slot: SlotRecord) -> None:
        """End the containers of a slot that is over."""
        self._end_all([one for one in self._all() if one.record.kind.slot == slot.first.key])

    def sweep(self, slots: set[str], nodeid: str) -> None:
        """End containers of slots that are over, and those without a folder.

        `slots` has the keys of the first attempts of the slots that are not over. Raises
        DockerUnavailableError, DockerRefusedError.
        """
        self._end_all([one for one in self._all() if one.record.kind.slot not in slots])
        known = {one.record.id for one in self._all()}
        for container, id_ in self._engine.list_shared(nodeid):
            if id_ not in known:
                log.warning("removing a left-over shared container")
                self._engine.remove(container)
        for path in list(self._folders.shared.iterdir()):
            if path.name not in known:
                self._trash.put(path)

    def _image_id(self, name: str) -> str:
        """Return Docker's id of an image, which changes when the image is published again."""
        id_, asked_at = self._images.get(name, ("", float("-inf")))
        now = boottime()
        if now - asked_at > _IMAGE_KNOWN_FOR_S:
            found = self._engine.image_id(name)
            if found is None:
                raise DockerRefusedError("the image is not there any more")
            if len(self._images) > _MOST_IMAGES:
                self._images.clear()
            id_ = found
            self._images[name] = id_, now
        return id_

    def _ready(self, slot: SlotRecord, attempt: AttemptId) -> SharedContainer:
        """Return the container that was prepared; another one if it ended meanwhile."""
        for _ in range(2):
            with self._lock:
                container = self._prepared.get(attempt.key)
            if container is not None and container.is_ready():
                return container
            self.prepare(slot, attempt)
        raise DockerRefusedError("a shared container ends at once")

    def _make(self, slot: SlotRecord, kind: Kind, image: str) -> SharedContainer:
        of_slot = [one for one in self._all() if one.record.kind.slot == kind.slot]
        over = [one for one in of_slot if one.is_over and not self._is_in_use(one)]
        idle = [one for one in of_slot if not one.is_over and not self._is_in_use(one)]
        idle.sort(key=lambda one: one.last_used, reverse=True)
        self._end_all(over + idle[_MOST - 1 :])
        id_ = secrets.token_hex(8)
        container = self._container(SharedRecord(id_, kind))
        described = shared_container_for(slot.container, slot.first, id_, kind.image, self._runner)
        with self._lock:
            # Known before it exists, so that no sweep takes it for a left-over.
            self._containers.append(container)
        try:
            container.make(described)
        except (DockerRefusedError, OSError) as error:
            log.warning("no shared container can be made; the jobs have fresh ones: %s", error)
            self._unfit[kind.user, image] = time.monotonic()
            self._end_all([container])
            raise DockerRefusedError(f"no shared container can be made: {error}") from None
        log.info("a shared container runs", extra={"attempt": kind.slot})
        return container

    def _container(self, record: SharedRecord) -> SharedContainer:
        folder = SharedFolder(self._folders.shared / record.id, self._trash, self._access.take)
        return SharedContainer(record, folder, self._engine, self._folders.jobs)

    def _note_start(self, container: SharedContainer) -> None:
        record = container.record
        if record.current is not None:
            self._store.update(
                record.current,
                durable=False,
                in_shared=True,
                started_at=record.started_at or time.time(),
                started_boottime=record.started_boottime or boottime(),
            )

    def _fitting(self, kind: Kind) -> SharedContainer | None:
        fitting = [one for one in self._all() if one.record.kind == kind and not one.is_over]
        return fitting[0] if fitting else None

    def _running(self, attempt: AttemptId) -> SharedContainer | None:
        return next((one for one in self._all() if one.record.current == attempt), None)

    def _is_in_use(self, container: SharedContainer) -> bool:
        """Return whether an attempt is prepared for it, or runs in it."""
        with self._lock:
            # An attempt that was given back does not come here any more.
            gone = [key for key in self._prepared if not self._store.has(key)]
            for key in gone:
                del self._prepared[key]
            if any(one is container for one in self._prepared.values()):
                return True
        current = container.record.current
        if current is None or self._end_of(current) is not None:
            return False
        return self._store.get(current) is not None

    def _end_of(self, attempt: AttemptId) -> JobEnd | None:
        return JobEnd.read(self._folders.job(attempt.key))

    def _all(self) -> list[SharedContainer]:
        with self._lock:
            return list(self._containers)

    def _end_all(self, containers: list[SharedContainer]) -> None:
        for container in containers:
            try:
                container.end()
            except (DockerUnavailableError, DockerRefusedError, OSError) as error:
                # Its folder is gone or stays; the sweep removes the rest.
                log.warning("a shared container is not removed yet: %s", error)
            with self._lock:
                if container in self._containers:
                    self._containers.remove(container)
