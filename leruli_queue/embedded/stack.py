"""Starts the parts in order, keeps them running, and ends them in reverse order."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from leruli_queue.embedded import nomad_server, object_store, postgres, service
from leruli_queue.embedded.folders import Folders
from leruli_queue.embedded.identities import (
    prepare_database,
    service_url,
    write_shell_files,
)
from leruli_queue.embedded.processes import Part, end_left_overs, note_started
from leruli_queue.embedded.programs import Programs
from leruli_queue.embedded.progress import Progress
from leruli_queue.embedded.state import StackState, choose_ports, load_state
from leruli_queue.errors import SetupError

_RESTARTS_WITHIN_S = 60.0
_MOST_RESTARTS = 5


@dataclass
class _Running:
    part: Part
    restarts: list[float]
    # It ended for good, and the person was told.
    is_over: bool = False


class Stack:
    """All parts of Leruli Queue on this machine."""

    def __init__(
        self, folders: Folders, programs: Programs, progress: Progress, *, address: str, node: bool
    ) -> None:
        self._folders = folders
        self._programs = programs
        self._progress = progress
        self._address = address
        self._node = node
        self._running: list[_Running] = []
        self.state: StackState = StackState()

    def start(self, *, service_port: int | None = None) -> None:
        """Start all parts, with the data of an earlier start if there was one.

        Raises
        ------
        SetupError
            When a part does not come up. :meth:`stop` must then end the parts that did.
        """
        folders, programs = self._folders, self._programs
        for name in end_left_overs(folders.started):
            self._progress.note(f"ended {name}, left over by a stack that was killed")
        for note in programs.docker_notes:
            self._progress.note(note)
        state = self._load_state(service_port)
        with self._progress.step("PostgreSQL", "on a unix socket"):
            url = postgres.database_url(folders, state)
            postgres.make_cluster(folders, state, programs)
            self._launch(postgres.postgres_part(folders, programs), lambda: postgres.answers(url))
            settings = service.service_settings(folders, state)
            for note in prepare_database(folders, state, settings):
                self._progress.note(note)
        with self._progress.step("object store", object_store.url(state)):
            self._launch(
                object_store.part(folders, state, programs),
                lambda: object_store.answers(state),
            )
            object_store.make_code_bucket(state)
        with self._progress.step("Nomad server", nomad_server.address(state)):
            nomad_server.write_configuration(folders, state)
            self._launch(
                nomad_server.server_part(folders, programs),
                lambda: nomad_server.has_leader(folders, state),
            )
            nomad_server.prepare_access(folders, state)
            state.save(folders.secrets)
        with self._progress.step("service", service_url(state)):
            self._launch(service.serve_part(folders, state), lambda: service.is_ready(state))
        with self._progress.step("dispatcher", ""):
            self._launch(service.dispatch_part(folders, state), lambda: True)
        if self._node:
            with self._progress.step("node", "this machine"):
                self._launch(
                    service.node_part(folders, state, programs),
                    lambda: service.node_is_ready(folders, state),
                )
        write_shell_files(folders, state)

    def watch(self) -> None:
        """Start parts again that ended by themselves; call it at intervals.

        Raises
        ------
        SetupError
            When a part ends too often.
        """
        for running in self._running:
            part = running.part
            if part.is_alive or running.is_over:
                continue
            if part.is_over:
                running.is_over = True
                self._progress.note(
                    f"{part.name} has ended, because the service refuses it ({part.log} says why). "
                    "The rest goes on; the next start of the stack makes it a node again"
                )
                continue
            now = time.monotonic()
            running.restarts = [t for t in running.restarts if t > now - _RESTARTS_WITHIN_S]
            if len(running.restarts) >= _MOST_RESTARTS:
                raise SetupError(
                    f"{part.name} ended {_MOST_RESTARTS} times within a minute. Its log: {part.log}"
                )
            running.restarts.append(now)
            part.start()
            note_started(self._folders.started, [other.part for other in self._running])
            self._progress.note(f"{part.name} had ended and was started again")

    def stop(self) -> None:
        """End all parts, the last started first."""
        while self._running:
            part = self._running[-1].part
            with self._progress.step(part.name, "", verb="stopping"):
                part.stop()
            self._running.pop()
        self._folders.started.unlink(missing_ok=True)
        self._folders.remove_sockets()

    def _load_state(self, service_port: int | None) -> StackState:
        self.state = load_state(self._folders.secrets)
        self.state.address = self._address
        for note in choose_ports(self.state, wanted_service_port=service_port):
            self._progress.note(note)
        self.state.save(self._folders.secrets)
        return self.state

    def _launch(self, part: Part, ready: Callable[[], bool]) -> None:
        part.start()
        self._running.append(_Running(part, []))
        note_started(self._folders.started, [running.part for running in self._running])
        part.wait_until(ready, seconds=60)
