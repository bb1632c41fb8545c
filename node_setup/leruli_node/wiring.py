"""Builds all parts of the agent, each with what it needs. Nothing runs yet."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from leruli_node import logs
from leruli_node.attempts.cleanup import Cleanup
from leruli_node.attempts.leased_upload import LeasedUpload
from leruli_node.attempts.receipts import Receipts
from leruli_node.attempts.settle import Settlement
from leruli_node.attempts.stage_in import StageIn
from leruli_node.attempts.stage_out import StageOut
from leruli_node.attempts.stage_socket import StageServer
from leruli_node.attempts.store import AttemptStore
from leruli_node.attempts.sweep import Sweeper
from leruli_node.attempts.watcher import Watcher
from leruli_node.container.disk_use import DiskMeter, Disks, DiskUse
from leruli_node.container.docker_engine import DockerEngine
from leruli_node.container.own_containers import OwnContainers
from leruli_node.container.readiness import DockerReadiness
from leruli_node.container.rundir_access import RundirAccess
from leruli_node.errors import EXIT_UNAVAILABLE, AgentError
from leruli_node.fair_pool import FairPool
from leruli_node.files.trash import Trash
from leruli_node.files.unpack import InputLimits
from leruli_node.files.upload import Uploader
from leruli_node.folders import Folders, lock_root, make_folders, remove_unfinished, runtime_dir
from leruli_node.identity import NodeIdentity
from leruli_node.images.cache import ImageCache
from leruli_node.images.images import Images
from leruli_node.images.loading import ImageLoader, load_lock_folder
from leruli_node.images.store import ImageStore
from leruli_node.lifetime import Lifetime
from leruli_node.machine import Machine, this_machine
from leruli_node.model import AttemptId
from leruli_node.node_facts import NodeFacts, read_node
from leruli_node.nomad.certificate import NodeTls
from leruli_node.nomad.client_process import NomadClient
from leruli_node.objects.object_store import ObjectStore
from leruli_node.objects.store_watch import StoreWatch
from leruli_node.reporter import Reporter, Subject, nomad_version
from leruli_node.service.service_api import ServiceApi
from leruli_node.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Base:
    """What the other parts are built on."""

    settings: Settings
    folders: Folders
    # Held open for as long as the agent runs: no other agent may use the folder.
    lock: int
    machine: Machine
    # Of an earlier run; empty on a copy of its disk, which is a new node.
    facts: NodeFacts
    # The node's id in the folder, whichever machine wrote it.
    former_nodeid: str | None
    identity: NodeIdentity
    lifetime: Lifetime
    api: ServiceApi
    engine: DockerEngine
    readiness: DockerReadiness
    access: RundirAccess
    containers: OwnContainers
    store: AttemptStore
    trash: Trash
    objects: ObjectStore
    image_store: ImageStore
    image_cache: ImageCache
    disks: Disks
    store_watch: StoreWatch
    # Set to have the next report sent at once.
    report_soon: threading.Event


@dataclass(frozen=True)
class Parts:
    """All parts of one agent, in the order in which they need each other."""

    base: Base
    driver_program: Path
    tls: NodeTls
    nomad: NomadClient
    sweeper: Sweeper
    stage_in: StageIn
    receipts: Receipts
    stage_out: StageOut
    watcher: Watcher
    server: StageServer
    reporter: Reporter


def build(settings: Settings) -> Parts:
    """Build an agent.

    Raises AgentError where a program is missing, or the folder cannot be used or is in use.
    """
    nomad_program = _must_run(settings.nomad, "nomad", "LERULI_NODE_NOMAD")
    # Without it Nomad would run, but get no job.
    driver_program = _must_run(settings.driver, "leruli-driver", "LERULI_NODE_DRIVER")
    base = _base(settings)
    stage_in = _stage_in(base)
    cleanup = Cleanup(base.folders, base.store, base.containers, base.trash)
    receipts = Receipts(base.folders.receipts, base.api, cleanup.clean_up_again)
    stage_out = _stage_out(base, receipts, cleanup, stage_in)
    watcher = Watcher(
        base.store,
        base.engine,
        base.identity,
        settings.grace_seconds,
        stage_out.finish,
        DiskUse(DiskMeter(base.engine, base.access, base.folders), base.disks),
        base.disks,
    )
    tls = NodeTls(base.folders.tls)
    nomad = NomadClient(nomad_program, base.folders)

    def cancel(attempt: AttemptId) -> None:
        # What does not run yet ends now; of what runs, Nomad has been told.
        stage_in.abort(attempt)
        watcher.cancel(attempt)

    subject = Subject(
        settings.node_dir,
        base.store,
        receipts.undelivered,
        base.engine,
        nomad_version(nomad_program),
        base.disks,
    )
    return Parts(
        base,
        driver_program,
        tls,
        nomad,
        Sweeper(base.folders, base.store, base.engine, base.trash, base.image_cache),
        stage_in,
        receipts,
        stage_out,
        watcher,
        StageServer(base.folders.socket, stage_in, stage_out),
        _reporter(base, tls, subject, stage_out.drop, cancel, nomad.reload),
    )


def _base(settings: Settings) -> Base:
    folders = make_folders(settings.node_dir)
    lock = lock_root(settings.node_dir)
    remove_unfinished(folders)
    kept = read_node(folders.node_file)
    machine = this_machine()
    facts = _facts_of_this_machine(kept, machine)
    identity = NodeIdentity(facts.nodeid, facts.imageprefix)
    engine = DockerEngine(settings.docker_socket)
    readiness = DockerReadiness(engine, settings.docker_socket)
    access = RundirAccess(settings.docker_socket, readiness.is_rootless)
    store = AttemptStore(folders.attempts)
    objects = ObjectStore(
        settings.s3_server, settings.s3_access, settings.s3_secret, settings.s3_region
    )
    image_store = ImageStore(objects, logs.hide)
    image_cache = ImageCache(
        engine, identity, folders.images_file, store.images, settings.image_free_mb
    )
    report_soon = threading.Event()
    return Base(
        settings=settings,
        folders=folders,
        lock=lock,
        machine=machine,
        facts=facts,
        former_nodeid=kept.nodeid,
        identity=identity,
        lifetime=Lifetime(store),
        api=ServiceApi(settings.base_url),
        engine=engine,
        readiness=readiness,
        access=access,
        containers=OwnContainers(engine, identity),
        store=store,
        trash=Trash(folders.trash, access.take),
        objects=objects,
        image_store=image_store,
        image_cache=image_cache,
        disks=Disks(settings.node_dir, image_cache.images_folder, settings.disk_free_mb),
        store_watch=StoreWatch(
            objects,
            lambda: image_store.newest(f"code-{settings.group_token}"),
            report_soon.set,
        ),
        report_soon=report_soon,
    )


def _facts_of_this_machine(kept: NodeFacts, machine: Machine) -> NodeFacts:
    if not machine.is_another_than(Machine(kept.machine, tuple(kept.cards))):
        return kept
    log.warning(
        "this folder was made on another machine, which may still be the node %s: joining "
        "as a new node",
        kept.nodeid,
    )
    return NodeFacts()


def _stage_in(base: Base) -> StageIn:
    settings = base.settings
    loader = ImageLoader(
        base.engine,
        base.image_store,
        base.image_cache,
        base.folders.downloads,
        load_lock_folder(runtime_dir(), settings.docker_socket),
    )
    images = Images(
        base.engine,
        base.image_store,
        settings.group_token,
        loader,
        base.image_cache,
        settings.patience_seconds,
    )
    return StageIn(
        base.folders,
        base.store,
        base.identity,
        base.api,
        images,
        base.objects,
        base.store_watch,
        base.trash,
        settings.patience_seconds,
        InputLimits(settings.input_max_files, settings.input_max_mb * 2**20),
        FairPool(settings.unpack_parallel),
        base.lifetime.stop,
        base.lifetime.draining,
    )


def _stage_out(base: Base, receipts: Receipts, cleanup: Cleanup, stage_in: StageIn) -> StageOut:
    settings, stop = base.settings, base.lifetime.stop
    settlement = Settlement(
        base.folders,
        base.store,
        base.engine,
        base.containers,
        base.access,
        settings.grace_seconds,
        stop,
        is_disk_full=base.disks.is_full,
    )
    uploader = Uploader(
        settings.upload_parallel,
        settings.upload_patience_seconds,
        settings.output_max_mb * 2**20,
        settings.output_max_files,
        settings.upload_memory_mb * 2**20,
    )
    return StageOut(
        base.store,
        base.containers,
        settlement,
        LeasedUpload(base.folders, base.api, base.objects, uploader, stop),
        receipts,
        cleanup,
        stop,
        stage_in.abort,
    )


def _reporter(
    base: Base,
    tls: NodeTls,
    subject: Subject,
    drop: Callable[[AttemptId], None],
    cancel: Callable[[AttemptId], None],
    reload_nomad: Callable[[], None],
) -> Reporter:
    return Reporter(
        base.api,
        tls,
        base.identity,
        subject,
        base.image_store,
        base.store_watch,
        drop,
        cancel,
        reload_nomad,
        base.lifetime.expel,
        base.settings.refused_seconds,
        base.report_soon,
    )


def _must_run(program: Path | None, name: str, variable: str) -> Path:
    """The program. Raises AgentError where there is none."""
    if program is None or not os.access(program, os.X_OK):
        raise AgentError(
            f"the {name} program was not found; set {variable} to its path.", EXIT_UNAVAILABLE
        )
    return program
