"""The agent as a whole: what starts when, and how it ends."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from pathlib import Path
from types import FrameType

from leruli_node import __version__, logs
from leruli_node.attempts.receipts import Receipts
from leruli_node.attempts.stage_in import StageIn
from leruli_node.attempts.stage_out import StageOut
from leruli_node.attempts.stage_socket import StageServer
from leruli_node.attempts.store import AttemptStore
from leruli_node.attempts.sweep import sweep
from leruli_node.attempts.watcher import Watcher
from leruli_node.container.disk_use import DiskMeter, Disks, DiskUse
from leruli_node.container.docker_engine import (
    DockerEngine,
    DockerRefusedError,
    DockerUnavailableError,
)
from leruli_node.container.rundir_access import RundirAccess
from leruli_node.errors import EXIT_REFUSED, EXIT_UNAVAILABLE, AgentError, StoppedError
from leruli_node.fair_pool import FairPool
from leruli_node.files.trash import Trash
from leruli_node.files.unpack import InputLimits
from leruli_node.files.upload import Uploader
from leruli_node.folders import (
    lock_root,
    make_ballast,
    make_folders,
    remove_unfinished,
    runtime_dir,
)
from leruli_node.images.cache import ImageCache
from leruli_node.images.images import Images
from leruli_node.images.loading import ImageLoader, load_lock_folder
from leruli_node.images.store import ImageStore
from leruli_node.machine import Machine, this_machine
from leruli_node.model import AttemptId
from leruli_node.node_facts import NodeFacts, read_node, write_node
from leruli_node.nomad import orphans
from leruli_node.nomad.certificate import NodeTls
from leruli_node.nomad.client_process import (
    NomadClient,
    link_driver,
    remove_allocations,
    write_config,
)
from leruli_node.nomad.reachability import check_servers
from leruli_node.objects.object_store import ObjectStore
from leruli_node.objects.store_watch import StoreWatch
from leruli_node.reporter import Reporter, Subject, nomad_version
from leruli_node.retry import Backoff
from leruli_node.service.join import join
from leruli_node.service.service_api import ServiceApi, ServiceError
from leruli_node.settings import Settings

log = logging.getLogger(__name__)

_LEAVE_RETRY_FOR_S = 8.0
_SWEEP_PERIOD = 300.0


class Agent:
    """One node agent. `run` blocks until a signal ended it."""

    def __init__(self, settings: Settings) -> None:
        self._nomad_program = _must_run(settings.nomad, "nomad", "LERULI_NODE_NOMAD")
        # Without it Nomad would run, but get no job.
        self._driver_program = _must_run(settings.driver, "leruli-driver", "LERULI_NODE_DRIVER")
        self._settings = settings
        self.folders = make_folders(settings.node_dir)
        self._lock = lock_root(settings.node_dir)
        remove_unfinished(self.folders)
        # draining: no new attempts. stop: everything that waits gives up.
        self._draining = threading.Event()
        self._hurry = threading.Event()
        self._signals = 0
        self._stop = threading.Event()
        self._facts = read_node(self.folders.node_file)
        self._former_nodeid = self._facts.nodeid
        self._machine = this_machine()
        if self._machine.is_another_than(Machine(self._facts.machine, tuple(self._facts.cards))):
            log.warning(
                "this folder was made on another machine, which may still be the node %s: joining "
                "as a new node",
                self._former_nodeid,
            )
            self._facts = NodeFacts()
        self._api = ServiceApi(settings.base_url)
        self._engine = DockerEngine(settings.docker_socket)
        self._rootless: bool | None = None
        self._access = RundirAccess(settings.docker_socket, self._is_rootless)
        self._trash = Trash(self.folders.trash, self._access.take)
        self._store = AttemptStore(self.folders.attempts)
        objects = ObjectStore(
            settings.s3_server, settings.s3_access, settings.s3_secret, settings.s3_region
        )
        self._image_store = ImageStore(objects, logs.hide)
        self._watch = StoreWatch(
            objects,
            lambda: self._image_store.newest(f"code-{settings.group_token}"),
            lambda: self._reporter.soon(),
        )
        self._image_cache = ImageCache(
            self._engine, self.folders.images_file, self._store.images, settings.image_free_mb
        )
        disks = Disks(settings.node_dir, self._image_cache.images_folder, settings.disk_free_mb)
        images = Images(
            self._engine,
            self._image_store,
            settings.group_token,
            ImageLoader(
                self._engine,
                self._image_store,
                self._image_cache,
                self.folders.downloads,
                load_lock_folder(runtime_dir(), settings.docker_socket),
            ),
            self._image_cache,
            settings.patience_seconds,
        )
        self._stage_in = StageIn(
            self.folders,
            self._store,
            self._api,
            images,
            objects,
            self._watch,
            self._trash,
            settings.patience_seconds,
            InputLimits(settings.input_max_files, settings.input_max_mb * 2**20),
            FairPool(settings.unpack_parallel),
            self._stop,
            self._draining,
        )
        self._receipts = Receipts(self.folders.receipts, self._api, self._clean_up_again)
        self._stage_out = StageOut(
            self.folders,
            self._store,
            self._api,
            self._engine,
            self._access,
            objects,
            self._trash,
            Uploader(
                settings.upload_parallel,
                settings.upload_patience_seconds,
                settings.output_max_mb * 2**20,
                settings.output_max_files,
                settings.upload_memory_mb * 2**20,
            ),
            self._receipts,
            settings.grace_seconds,
            self._stop,
            self._stage_in.abort,
            is_disk_full=disks.is_full,
        )
        self._watcher = Watcher(
            self._store,
            self._engine,
            settings.grace_seconds,
            self._stage_out.finish,
            DiskUse(DiskMeter(self._engine, self._access, self.folders), disks),
            disks,
        )
        self._server = StageServer(self.folders.socket, self._stage_in, self._stage_out)
        self._tls = NodeTls(self.folders.tls)
        self._nomad: NomadClient | None = None
        self._reporter = Reporter(
            self._api,
            self._tls,
            Subject(
                settings.node_dir,
                self._store,
                self._receipts.undelivered,
                self._engine,
                nomad_version(self._nomad_program),
                disks,
            ),
            self._image_store,
            self._watch,
            self._stage_out.drop,
            self._cancel,
            self._reload_nomad,
            self._expel,
            settings.refused_seconds,
        )
        # Why the service gives this node no job any more, once it said so.
        self._expelled: str | None = None

    def run(self) -> int:
        """Run until TERM or INT; the process's exit code."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        if not orphans.become_subreaper():
            log.warning("this kernel has no child subreaper; Nomad's helpers may outlive the agent")
        log.info("leruli-node %s starts", __version__, extra={"pid": os.getpid()})
        orphans.raise_file_limit()
        make_ballast(self.folders.root)
        self._trash.start()
        try:
            self._start()
        except StoppedError:
            pass
        except AgentError:
            self._receipts.stop()
            raise
        if not self._draining.is_set():
            self._draining.wait()
        self._shut_down()
        if self._expelled is not None:
            raise AgentError(
                f"the service gives this node no jobs: {self._expelled}.", EXIT_REFUSED
            )
        return 0

    def _start(self) -> None:
        # What runs here already is looked after first: the service may be away for long.
        self._know_node(self._facts)
        if self._facts.nodeid is not None:
            self._receipts.start()
            self._server.start()
            self._watcher.start()
        self._wait_for_docker()
        joined = join(self._settings, self._api, self._facts, self._tls.request(), self._draining)
        first = self._facts.nodeid is None
        if self._former_nodeid not in (None, joined.nodeid):
            self._forget_all(str(self._former_nodeid))
        link_driver(self.folders, self._driver_program)
        port = write_config(self._settings, self.folders, self._tls, joined, self._facts.nomad_port)
        self._facts = NodeFacts(
            joined.nodeid, joined.imageprefix, port, self._machine.name, self._machine.cards
        )
        write_node(self.folders.node_file, self._facts)
        self._know_node(self._facts)
        self._image_store.learn(joined.imagetokens)
        if first:
            self._receipts.start()
            self._server.start()
            self._watcher.start()
        # What was given to another node meanwhile ends here before Nomad brings new jobs.
        self._reporter.period = joined.report_seconds
        self._watch.start(self._stop)
        self._reporter.first(self._draining)
        check_servers(joined.servers, self.folders)
        self._nomad = NomadClient(self._nomad_program, self.folders)
        self._nomad.start()
        self._reporter.start()
        threading.Thread(target=self._sweep_for_ever, name="sweep", daemon=True).start()

    def _know_node(self, facts: NodeFacts) -> None:
        self._stage_in.image_prefix = facts.imageprefix
        self._image_cache.prefix = facts.imageprefix
        self._stage_out.nodeid = facts.nodeid
        self._watcher.nodeid = facts.nodeid
        self._reporter.image_prefix = facts.imageprefix or ""

    def _clean_up_again(self, attempt: AttemptId) -> None:
        # Without a state it was cleaned up, but for what the sweep takes. A Docker that hangs would
        # hold up the start for a minute a receipt.
        if self._store.get(attempt) is not None:
            self._stage_out.clean_up(attempt)

    def _cancel(self, attempt: AttemptId) -> None:
        """What does not run yet ends now; of what runs, Nomad has been told."""
        self._stage_in.abort(attempt)
        self._watcher.cancel(attempt)

    def _reload_nomad(self) -> None:
        if self._nomad is not None:
            self._nomad.reload()

    def _expel(self, reason: str) -> None:
        """The service gives this node no job any more: end once nothing runs here."""
        if self._expelled is None:
            self._expelled = reason
            log.warning("ending when the %d attempts here are over", len(self._store.all()))
        if not self._store.all():
            self._draining.set()

    def _wait_for_docker(self) -> None:
        """Nomad started before Docker would fail the jobs that it takes up again."""
        backoff = Backoff(self._draining, longest=5.0)
        told = False
        while True:
            try:
                self._engine.ping()
                self._rootless = self._engine.is_rootless()
                self._warn_of_missing_limits()
                break
            except (DockerUnavailableError, DockerRefusedError) as error:
                if not told:
                    log.error(
                        "Docker does not answer at %s (%s); waiting for it",
                        self._settings.docker_socket,
                        error,
                    )
                    told = True
                backoff.pause()
        if not self._rootless and os.getuid() != 0:
            raise AgentError(
                f"the Docker at {self._settings.docker_socket} is not rootless and the agent is "
                f"not root, so it could not read what jobs write; use rootless Docker or be root.",
                EXIT_UNAVAILABLE,
            )

    def _warn_of_missing_limits(self) -> None:
        missing = self._reporter.unenforced = self._engine.missing_limits()
        if missing:
            log.warning(
                "this Docker does not enforce the limits of jobs on %s: a job can take more than "
                "it asked for. With rootless Docker this needs cgroup v2 and delegated "
                "controllers; see the README of the node agent",
                ", ".join(missing),
            )

    def _is_rootless(self) -> bool:
        if self._rootless is None:
            try:
                self._rootless = self._engine.is_rootless()
            except (DockerUnavailableError, DockerRefusedError):
                # An agent that is not root only ever works with a rootless one.
                return os.getuid() != 0
        return self._rootless

    def _forget_all(self, nodeid: str) -> None:
        """The service knows this node under a new id: what the old one had is of no use."""
        for state in self._store.all():
            self._store.remove(state.id)
        self._sweep(nodeid)

    def _sweep_for_ever(self) -> None:
        while True:
            self._sweep(str(self._facts.nodeid))
            if self._stop.wait(_SWEEP_PERIOD):
                return

    def _sweep(self, nodeid: str) -> None:
        try:
            make_ballast(self.folders.root)
            sweep(nodeid, self.folders, self._store, self._engine, self._trash)
            self._image_cache.sweep()
        except (DockerUnavailableError, DockerRefusedError) as error:
            log.warning("left-overs stay for now: %s", type(error).__name__)
        except Exception:
            # Nothing that a job leaves may end the thread that removes left-overs.
            log.exception("left-overs stay for now")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        # Setting an event takes its lock, which the main thread, where this runs, may just hold.
        self._signals += 1
        threading.Thread(target=self._obey, args=(self._signals,), daemon=True).start()

    def _obey(self, signals: int) -> None:
        self._draining.set()
        if signals > 1:
            self._hurry.set()

    def _shut_down(self) -> None:
        deadline = time.monotonic() + self._settings.drain_seconds
        log.info("shutting down; a second signal does it at once")
        if self._facts.nodeid is not None:
            if not self._leave(min(deadline, time.monotonic() + _LEAVE_RETRY_FOR_S)):
                self._end_running()
            self._wait_idle(deadline)
        kill_after_s = 1.0 if self._hurry.is_set() else 15.0
        self._reporter.stop()
        self._watcher.stop()
        self._stop.set()
        self._server.stop()
        if self._nomad is not None:
            self._nomad.stop(kill_after_s)
        ended = orphans.end_children(set(), 2.0)
        if ended:
            log.info("ended processes that Nomad left", extra={"count": ended})
        self._requeue_running()
        if self._nomad is not None and not self._store.all():
            remove_allocations(self.folders.nomad_data)
        self._receipts.wait_empty(1.0 if self._hurry.is_set() else 5.0)
        self._receipts.stop()
        self._trash.stop(1.0 if self._hurry.is_set() else 5.0)
        self._api.close()
        log.info("ended")

    def _leave(self, deadline: float) -> bool:
        """Tell the service, so that the node is drained; whether it was told."""
        while not self._hurry.is_set():
            try:
                running = self._api.leave()
                log.info("left the service", extra={"running": running})
                return True
            except ServiceError as error:
                if time.monotonic() >= deadline or not self._store.all():
                    log.warning("could not tell the service: %s", error)
                    return False
                self._hurry.wait(0.5)
        return False

    def _end_running(self) -> None:
        """Nobody else tells the jobs to end; so they get what a drain would send them."""
        now = time.time()
        for state in self._store.all():
            try:
                self._store.update(state.id, stopped_at=now)
            except OSError:
                self._store.update(state.id, durable=False, stopped_at=now)
        try:
            for container in self._engine.list_own(str(self._facts.nodeid)):
                if container.state == "running":
                    self._engine.signal(container.id, "TERM")
        except (DockerUnavailableError, DockerRefusedError) as error:
            log.warning("the containers could not be told: %s", error)

    def _wait_idle(self, deadline: float) -> None:
        told = 0
        while self._store.all() and not self._hurry.is_set():
            if time.monotonic() >= deadline:
                log.warning("not waiting any longer", extra={"active": len(self._store.all())})
                return
            if len(self._store.all()) != told:
                told = len(self._store.all())
                log.info("waiting for attempts to be staged out", extra={"active": told})
            self._hurry.wait(0.2)

    def _requeue_running(self) -> None:
        """End what still runs: its jobs go back to the queue.

        Attempts whose container has ended keep state and folder; the next agent uploads them.
        """
        nodeid = self._facts.nodeid
        if nodeid is None:
            return
        try:
            containers = self._engine.list_own(nodeid)
        except (DockerUnavailableError, DockerRefusedError) as error:
            log.warning("containers are left: %s", error)
            return
        # Docker's word, not the watcher's note: a short job has ended before it is noted.
        running = {c.attempt_key for c in containers if c.state in ("running", "paused")}
        ran = {c.attempt_key for c in containers if c.state != "created"}
        for state in self._store.all():
            key = state.id.key
            noted = state.decision is not None or state.started_at is not None
            try:
                if key in running or (key not in ran and not noted):
                    self._stage_out.requeue(
                        state.id, "the node was shut down before the job had ended"
                    )
                else:
                    self._stage_out.settle(state.id)
            except Exception:
                # A full disk, for instance. The others end in order all the same.
                log.exception("left to the next agent", extra={"attempt": key})
        self._sweep(nodeid)


def _must_run(program: Path | None, name: str, variable: str) -> Path:
    """The program. Raises AgentError where there is none."""
    if program is None or not os.access(program, os.X_OK):
        raise AgentError(
            f"the {name} program was not found; set {variable} to its path.", EXIT_UNAVAILABLE
        )
    return program
