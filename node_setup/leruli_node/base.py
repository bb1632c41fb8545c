"""The agent's folder, its stores and its connections, on which all other parts are built."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass

from leruli_node import logs
from leruli_node.attempts.store import AttemptStore
from leruli_node.container.disk_use import Disks
from leruli_node.container.docker_engine import DockerEngine
from leruli_node.container.own_containers import OwnContainers
from leruli_node.container.readiness import DockerReadiness
from leruli_node.container.rundir_access import RundirAccess
from leruli_node.files.trash import Trash
from leruli_node.folders import Folders, lock_root, make_folders, remove_unfinished
from leruli_node.identity import NodeIdentity
from leruli_node.images.cache import ImageCache
from leruli_node.images.store import ImageStore
from leruli_node.lifetime import Lifetime
from leruli_node.machine import Machine, this_machine
from leruli_node.node_facts import NodeFacts, read_node
from leruli_node.objects.object_store import ObjectStore
from leruli_node.objects.store_watch import StoreWatch
from leruli_node.service.service_api import ServiceApi
from leruli_node.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Base:
    """The parts on which the others are built."""

    settings: Settings
    folders: Folders
    # Open as long as the agent runs: no other agent may use the folder.
    lock: int
    machine: Machine
    # Facts of an earlier run. Empty on a copy of its disk, which is a new node.
    facts: NodeFacts
    # The node id in the folder, also if another machine wrote it.
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
    # Set it to have the next report sent at once.
    report_soon: threading.Event
    # Set when a container was not removed.
    sweep_soon: threading.Event


def build_base(settings: Settings) -> Base:
    """Take the agent's folder and build the parts that need only the settings.

    Raises
    ------
    AgentError
        The folder cannot be used, or another agent uses it.
    """
    folders = make_folders(settings.node_dir)
    lock = lock_root(settings.node_dir)
    remove_unfinished(folders)
    earlier = read_node(folders.node_file)
    machine = this_machine()
    facts = _facts_of_this_machine(earlier, machine)
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
        former_nodeid=earlier.nodeid,
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
        sweep_soon=threading.Event(),
    )


def _facts_of_this_machine(earlier: NodeFacts, machine: Machine) -> NodeFacts:
    if not machine.is_another_than(Machine(earlier.machine, tuple(earlier.cards))):
        return earlier
    log.warning(
        "this folder was made on another machine, which may still be the node %s: joining "
        "as a new node",
        earlier.nodeid,
    )
    return NodeFacts()
