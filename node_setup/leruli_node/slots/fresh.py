"""Fresh containers: each further attempt has a container of its own, made as the first one's."""

from __future__ import annotations

from pathlib import Path

from leruli_node.attempts.settle import Ended, ended_container
from leruli_node.attempts.store import AttemptStore
from leruli_node.container.docker_engine import DockerEngine
from leruli_node.container.own_containers import container_name
from leruli_node.folders import Folders
from leruli_node.model import AttemptId, AttemptState
from leruli_node.slots.container import GoneError
from leruli_node.slots.made import container_for, own_folders
from leruli_node.slots.record import SlotRecord


class FreshContainers:
    """Implements AttemptContainer. Stage-out removes the containers.

    A container is named by its attempt. So no list of Docker's is needed to find it, and a second
    one of the same attempt cannot be made.
    """

    def __init__(self, folders: Folders, store: AttemptStore, engine: DockerEngine) -> None:
        self._folders = folders
        self._store = store
        self._engine = engine
        # Made by this agent and not started: they cannot have begun.
        self._unstarted: set[str] = set()

    def has_ready(self, slot: SlotRecord, state: AttemptState) -> bool:
        """Return False: each attempt has a container of its own."""
        return False

    def prepare(self, slot: SlotRecord, attempt: AttemptId) -> None:
        """Create the container; one that an agent before created stays."""
        state = self._store.get(attempt)
        if state is None or state.grant is None:
            raise GoneError
        name = container_name(attempt)
        if name in self._unstarted:
            return
        described = container_for(slot.container, slot.first, attempt, state.grant.image)
        for folder in own_folders(described, self._folders.job(attempt.key)):
            _make_open(folder)
        if self._engine.create(name, described):
            self._unstarted.add(name)
        if self._store.get(attempt) is None:
            # Dropped meanwhile, and cleaned up before this container existed.
            self._unstarted.discard(name)
            self._engine.remove(name)
            raise GoneError

    def start(self, slot: SlotRecord, attempt: AttemptId) -> None:
        """Start the container, unless it began before."""
        name = container_name(attempt)
        if name in self._unstarted or not self.has_begun(slot, attempt):
            self._unstarted.discard(name)
            self._engine.start(name)

    def has_begun(self, slot: SlotRecord, attempt: AttemptId) -> bool:
        """Return whether the attempt's container was started."""
        inspected = self._engine.inspect(container_name(attempt))
        return inspected is not None and inspected["State"].get("Status") != "created"

    def wait(self, slot: SlotRecord, attempt: AttemptId, seconds: float) -> bool:
        """Wait for the end of the container."""
        return self._engine.wait(container_name(attempt), seconds)

    def signal(self, slot: SlotRecord, attempt: AttemptId, name: str) -> None:
        """Send a signal to the container's first process, which passes it on."""
        self._engine.signal(container_name(attempt), name)

    def ended(self, slot: SlotRecord, attempt: AttemptId) -> Ended | None:
        """Return Docker's word. None where Docker does not answer, or the container runs."""
        inspected = self._engine.inspect(container_name(attempt))
        if inspected is None or inspected["State"].get("Running"):
            return None
        return ended_container(self._engine, inspected)

    def close(self, slot: SlotRecord) -> None:
        """Nothing is kept from one attempt to the next."""


def _make_open(folder: Path) -> None:
    """Make a folder that any user of an image may write to, as the task driver does."""
    if not folder.exists():
        folder.mkdir(parents=True)
        # The umask removed permissions that users of the image need.
        folder.chmod(0o777)
