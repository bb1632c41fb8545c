"""Start the parts in order, keep them running, end them in reverse."""

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
from leruli_queue.embedded.kept import Kept, choose_ports, load_kept
from leruli_queue.embedded.processes import Part, end_left_overs, note_started
from leruli_queue.embedded.programs import Programs
from leruli_queue.embedded.progress import Progress
from leruli_queue.errors import SetupError

_RESTARTS_WITHIN_S = 60.0
_MOST_RESTARTS = 5


@dataclass
class _Running:
    part: Part
    restarts: list[float]
    # Ended for good; said once.
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
        self.kept: Kept = Kept()

    def start(self, *, service_port: int | None = None) -> None:
        """Start everything; what an earlier start made is used again.

        Raises
        ------
        SetupError
            When a part does not come up. The parts that did are left to :meth:`stop`.
        """
        folders, programs = self._folders, self._programs
        for name in end_left_overs(folders.started):
            self._progress.note(f"ended {name}, left over by a stack that was killed")
        for note in programs.docker_notes:
            self._progress.note(note)
        self.kept = kept = load_kept(folders.secrets)
        kept.address = self._address
        for note in choose_ports(kept, wanted_service_port=service_port):
            self._progress.note(note)
        kept.save(folders.secrets)

        with self._progress.step("PostgreSQL", "on a unix socket"):
            url = postgres.database_url(folders, kept)
            postgres.make_cluster(folders, kept, programs)
            self._launch(postgres.postgres_part(folders, programs), lambda: postgres.answers(url))
            settings = service.service_settings(folders, kept)
            for note in prepare_database(folders, kept, settings):
                self._progress.note(note)
        with self._progress.step("object store", object_store.url(kept)):
            self._launch(
                object_store.part(folders, kept, programs),
                lambda: object_store.answers(kept),
            )
            object_store.make_code_bucket(kept)
        with self._progress.step("Nomad server", nomad_server.address(kept)):
            nomad_server.write_configuration(folders, kept)
            self._launch(
                nomad_server.server_part(folders, programs),
                lambda: nomad_server.has_leader(folders, kept),
            )
            nomad_server.prepare_access(folders, kept)
            kept.save(folders.secrets)
        with self._progress.step("service", service_url(kept)):
            self._launch(service.serve_part(folders, kept), lambda: service.is_ready(kept))
        with self._progress.step("dispatcher", ""):
            self._launch(service.dispatch_part(folders, kept), lambda: True)
        if self._node:
            with self._progress.step("node", "this machine"):
                self._launch(
                    service.node_part(folders, kept, programs),
                    lambda: service.node_is_ready(folders, kept),
                )
        write_shell_files(folders, kept)

    def watch(self) -> None:
        """Start again whatever part ended by itself; call it every now and then.

        Raises
        ------
        SetupError
            When a part ends again and again.
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
        """End everything, the last started first."""
        while self._running:
            part = self._running[-1].part
            with self._progress.step(part.name, "", verb="stopping"):
                part.stop()
            self._running.pop()
        self._folders.started.unlink(missing_ok=True)
        self._folders.remove_sockets()

    def _launch(self, part: Part, ready: Callable[[], bool]) -> None:
        part.start()
        self._running.append(_Running(part, []))
        note_started(self._folders.started, [running.part for running in self._running])
        part.wait_until(ready, seconds=60)
