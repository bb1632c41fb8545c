"""The agent as a whole: the order in which its parts start."""

from __future__ import annotations

import logging
import os
import threading

from leruli_node import __version__
from leruli_node.errors import EXIT_REFUSED, AgentError, StoppedError
from leruli_node.folders import make_ballast
from leruli_node.node_facts import NodeFacts, write_node
from leruli_node.nomad import orphans
from leruli_node.nomad.client_config import link_driver, write_config
from leruli_node.nomad.reachability import check_servers
from leruli_node.service.join import join
from leruli_node.service.membership import Membership
from leruli_node.settings import Settings
from leruli_node.shutdown import Shutdown
from leruli_node.wiring import build

log = logging.getLogger(__name__)


class Agent:
    """One node agent. `run` blocks until a signal ends it."""

    def __init__(self, settings: Settings) -> None:
        self._parts = build(settings)
        self._base = self._parts.base

    def run(self) -> int:
        """Run until TERM or INT. Return the exit code of the process."""
        lifetime = self._base.lifetime
        lifetime.obey_signals()
        if not orphans.become_subreaper():
            log.warning("this kernel has no child subreaper; Nomad's helpers may outlive the agent")
        log.info("leruli-node %s starts", __version__, extra={"pid": os.getpid()})
        orphans.raise_file_limit()
        make_ballast(self._base.folders.root)
        self._base.trash.start()
        try:
            self._start()
        except StoppedError:
            pass
        except AgentError:
            self._parts.receipts.stop()
            raise
        if not lifetime.draining.is_set():
            lifetime.draining.wait()
        Shutdown(self._parts).run()
        if lifetime.expelled is not None:
            raise AgentError(
                f"the service gives this node no jobs: {lifetime.expelled}.", EXIT_REFUSED
            )
        return 0

    def _start(self) -> None:
        base, parts = self._base, self._parts
        draining = base.lifetime.draining
        # Running attempts come first: the service may be away for long.
        is_first_join = base.identity.nodeid is None
        if not is_first_join:
            self._start_attempt_threads()
        parts.reporter.unenforced = base.readiness.wait(draining)
        joined = join(base.settings, base.api, base.facts, parts.tls.request(), draining)
        self._become(joined)
        if is_first_join:
            self._start_attempt_threads()
        # Attempts that another node has now end here before Nomad starts new jobs.
        parts.reporter.period = joined.report_seconds
        base.store_watch.start(base.lifetime.stop)
        parts.reporter.first(draining)
        check_servers(joined.servers, base.folders)
        parts.nomad.start()
        parts.reporter.start()
        threading.Thread(
            target=parts.sweeper.run,
            args=(joined.nodeid, base.lifetime.stop),
            name="sweep",
            daemon=True,
        ).start()

    def _start_attempt_threads(self) -> None:
        self._parts.receipts.start()
        self._parts.server.start()
        self._parts.watcher.start()

    def _become(self, joined: Membership) -> None:
        """Store the identity that the service gave, for this run and the next."""
        base = self._base
        if base.former_nodeid not in (None, joined.nodeid):
            self._forget_all(str(base.former_nodeid))
        link_driver(base.folders, self._parts.driver_program)
        port = write_config(
            base.settings, base.folders, self._parts.tls, joined, base.facts.nomad_port
        )
        facts = NodeFacts(
            joined.nodeid, joined.imageprefix, port, base.machine.name, base.machine.cards
        )
        write_node(base.folders.node_file, facts)
        base.identity.learn(joined.nodeid, joined.imageprefix)
        base.image_store.learn(joined.imagetokens)

    def _forget_all(self, nodeid: str) -> None:
        """Forget all attempts.

        They belong to the node's former id, which the service has replaced.
        """
        for state in self._base.store.all():
            self._base.store.remove(state.id)
        self._parts.sweeper.sweep(nodeid)
