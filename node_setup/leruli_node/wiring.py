"""Builds all parts of the agent. Nothing runs yet."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from leruli_node.attempts.cancelling import Cancelling
from leruli_node.attempts.cleanup import Cleanup
from leruli_node.attempts.input_fetcher import InputFetcher
from leruli_node.attempts.leased_upload import LeasedUpload
from leruli_node.attempts.receipts import Receipts
from leruli_node.attempts.settle import Ended, Settlement
from leruli_node.attempts.stage_in import StageIn
from leruli_node.attempts.stage_out import StageOut
from leruli_node.attempts.stage_socket import StageServer
from leruli_node.attempts.sweep import Sweeper
from leruli_node.attempts.watcher import Watcher
from leruli_node.base import Base, build_base
from leruli_node.container.disk_use import DiskMeter, DiskUse
from leruli_node.errors import EXIT_UNAVAILABLE, AgentError
from leruli_node.fair_pool import FairPool
from leruli_node.files.unpack import InputLimits
from leruli_node.files.upload import Uploader
from leruli_node.folders import runtime_dir
from leruli_node.images.images import Images
from leruli_node.images.loading import ImageLoader, load_lock_folder
from leruli_node.live.live_output import LiveOutput
from leruli_node.live.places import Places
from leruli_node.model import AttemptId
from leruli_node.nomad.certificate import NodeTls
from leruli_node.nomad.client_process import NomadClient
from leruli_node.objects.upload_lease import HeldLeases
from leruli_node.reporter import Reporter, Subject, nomad_version
from leruli_node.settings import Settings
from leruli_node.slots.asking import NextAttempts
from leruli_node.slots.fresh import FreshContainers
from leruli_node.slots.granting import Granting
from leruli_node.slots.parts import SlotParts
from leruli_node.slots.record import SlotRecords
from leruli_node.slots.shared import SharedContainers
from leruli_node.slots.shared_limits import SharedLimits, SharedMeter
from leruli_node.slots.slots import Slots

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """All parts of one agent, in the order of their dependencies."""

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
    shared: SharedContainers


def build(settings: Settings) -> Parts:
    """Build an agent.

    Raises
    ------
    AgentError
        A program is missing, or the folder cannot be used or is in use.
    """
    nomad_program = _must_run(settings.nomad, "nomad", "LERULI_NODE_NOMAD")
    # Without the driver Nomad would run, but get no jobs.
    driver_program = _must_run(settings.driver, "leruli-driver", "LERULI_NODE_DRIVER")
    runner = _must_run(settings.runner, "leruli-runner", "LERULI_NODE_RUNNER")
    base = build_base(settings)
    leases = HeldLeases()
    stage_in = _stage_in(base, leases)
    cleanup = Cleanup(base.folders, base.store, base.containers, base.trash, base.sweep_soon)
    receipts = Receipts(base.folders.receipts, base.api, cleanup.clean_up_again)
    shared = _shared(base, runner)
    live = LiveOutput(
        base.store,
        base.objects,
        Places(base.folders, base.store, shared.rundir_of),
        base.lifetime.stop,
    )
    stage_out = _stage_out(base, receipts, cleanup, stage_in, shared, leases, live)
    watcher = Watcher(
        base.store,
        base.engine,
        base.identity,
        settings.grace_seconds,
        stage_out.finish,
        DiskUse(DiskMeter(base.engine, base.access, base.folders), base.disks),
        base.disks,
        is_in_slot=lambda state: state.slot is not None and slots.is_open(state.slot),
    )
    parts = _slot_parts(base, stage_in, stage_out, receipts, shared, leases)
    tls = NodeTls(base.folders.tls)
    nomad = NomadClient(nomad_program, base.folders)

    def what_ends() -> set[AttemptId] | None:
        return reporter.ask()

    slots = Slots(parts, base.engine, base.containers, what_ends)

    def sweep_slots(nodeid: str) -> None:
        slots.sweep()
        shared.sweep(parts.records.keys(), nodeid)

    cancelling = Cancelling(base.store, base.engine, base.identity, base.lifetime.stop)

    def cancel(attempt: AttemptId) -> None:
        # Stage-in ends now, and the command of a first attempt. Its slot ends that of a further
        # one; the watcher does so if they do not.
        stage_in.abort(attempt)
        cancelling.cancel(attempt)
        slots.cancel(attempt)
        watcher.cancel(attempt)

    subject = Subject(
        settings.node_dir,
        base.store,
        receipts.undelivered,
        base.engine,
        nomad_version(nomad_program),
        base.disks,
    )
    reporter = _reporter(base, tls, subject, slots.drop, cancel, nomad.reload, live)
    return Parts(
        base,
        driver_program,
        tls,
        nomad,
        Sweeper(
            base.folders,
            base.store,
            base.engine,
            base.trash,
            base.image_cache,
            sweep_slots,
            base.sweep_soon,
        ),
        stage_in,
        receipts,
        stage_out,
        watcher,
        StageServer(base.folders.socket, stage_in, slots.bring_out, slots.end),
        reporter,
        shared,
    )


def _slot_parts(
    base: Base,
    stage_in: StageIn,
    stage_out: StageOut,
    receipts: Receipts,
    shared: SharedContainers,
    leases: HeldLeases,
) -> SlotParts:
    lifetime = base.lifetime
    records = SlotRecords(base.folders.slots)
    asking = NextAttempts(base.api, receipts, lifetime.stop)
    fresh = FreshContainers(base.folders, base.store, base.engine)
    return SlotParts(
        records,
        base.store,
        stage_in,
        stage_out,
        receipts,
        Granting(records, base.store, receipts.undelivered, asking, lifetime.stop, leases),
        [fresh, shared],
        lambda state: shared if shared.serves(state) else fresh,
        asking.tell_running,
        base.report_soon.set,
        base.settings.grace_seconds,
        lifetime.stop,
        lifetime.draining,
    )


def _shared(base: Base, runner: Path) -> SharedContainers:
    meter = SharedMeter(DiskMeter(base.engine, base.access, base.folders), base.engine)
    limits = SharedLimits(base.store, meter, base.disks, base.settings.grace_seconds)
    return SharedContainers(
        base.folders,
        base.store,
        base.engine,
        base.access,
        base.trash,
        limits,
        runner,
        base.settings.node_name,
    )


def _stage_in(base: Base, leases: HeldLeases) -> StageIn:
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
    inputs = InputFetcher(
        base.folders,
        base.store,
        base.objects,
        base.store_watch,
        base.trash,
        settings.patience_seconds,
        InputLimits(settings.input_max_files, settings.input_max_mb * 2**20),
        FairPool(settings.unpack_parallel),
        settings.node_name,
    )
    return StageIn(
        base.folders,
        base.store,
        base.identity,
        base.api,
        images,
        inputs,
        base.store_watch,
        settings.patience_seconds,
        base.lifetime.stop,
        base.lifetime.draining,
        leases,
    )


def _stage_out(
    base: Base,
    receipts: Receipts,
    cleanup: Cleanup,
    stage_in: StageIn,
    shared: SharedContainers,
    leases: HeldLeases,
    live: LiveOutput,
) -> StageOut:
    settings, stop = base.settings, base.lifetime.stop

    def end_in_shared(attempt: AttemptId) -> Ended | None:
        return shared.settle(attempt, settings.grace_seconds)

    settlement = Settlement(
        base.folders,
        base.store,
        base.engine,
        base.containers,
        base.access,
        settings.grace_seconds,
        stop,
        is_disk_full=base.disks.is_full,
        end_in_shared=end_in_shared,
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
        LeasedUpload(base.folders, base.api, base.objects, uploader, stop, held=leases),
        receipts,
        cleanup,
        stop,
        stage_in.abort,
        live.end,
    )


def _reporter(
    base: Base,
    tls: NodeTls,
    subject: Subject,
    drop: Callable[[AttemptId], None],
    cancel: Callable[[AttemptId], None],
    reload_nomad: Callable[[], None],
    live: LiveOutput,
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
        live.follow,
    )


def _must_run(program: Path | None, name: str, variable: str) -> Path:
    """Return the program. Raises AgentError if it is missing."""
    if program is None or not os.access(program, os.X_OK):
        raise AgentError(
            f"the {name} program was not found; set {variable} to its path.", EXIT_UNAVAILABLE
        )
    return program
