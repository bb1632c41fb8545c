"""Telling the service about this node every few seconds, and doing what it says in turn.

The report is how the service knows that attempts are alive which Nomad does not hear of, and the
reply is how this node learns that it may not go on: an attempt was given to another node, the
compute secret was rotated, an admin removed the node. The certificate is renewed from here too.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from leruli_node import __version__
from leruli_node.attempts.store import AttemptStore
from leruli_node.container.disk_use import Disks
from leruli_node.container.docker_engine import (
    DockerEngine,
    DockerRefusedError,
    DockerUnavailableError,
)
from leruli_node.identity import NodeIdentity
from leruli_node.images.store import ImageStore
from leruli_node.model import AttemptId
from leruli_node.nomad.certificate import NodeTls
from leruli_node.objects.store_watch import StoreWatch
from leruli_node.retry import Backoff, Stop
from leruli_node.service.membership import Certificate
from leruli_node.service.service_api import RefusedError, ServiceApi, ServiceError

log = logging.getLogger(__name__)

_MOST_IMAGES = 1000
_MOST_HELD = 10_000
# Seconds for Docker to list images: a report must not be late because Docker hangs.
_DOCKER_TAKES = 10
# Standings with which this node gets no job any more, whatever it does.
_ENDED = ("outdated", "removed")


@dataclass(frozen=True)
class Subject:
    """What is reported on."""

    folder: Path
    store: AttemptStore
    # The attempts whose receipts wait to be delivered.
    undelivered: Callable[[], list[AttemptId]]
    engine: DockerEngine
    nomad_version: str
    disks: Disks


class Reporter:
    """One thread that reports, and renews the certificate when it is due.

    `drop` ends an attempt without its output, `cancel` one whose command does not run yet.
    `reload` has Nomad read its certificate. `expel` is called with a sentence when this node gets
    no job any more; more than once. A refusal is believed `certain_after` seconds after the first.
    `soon` is set by others when there is something to say.
    """

    def __init__(
        self,
        api: ServiceApi,
        tls: NodeTls,
        identity: NodeIdentity,
        subject: Subject,
        images: ImageStore,
        watch: StoreWatch,
        drop: Callable[[AttemptId], None],
        cancel: Callable[[AttemptId], None],
        reload: Callable[[], None],
        expel: Callable[[str], None],
        certain_after: float,
        soon: threading.Event,
    ) -> None:
        self._api = api
        self._tls = tls
        self._identity = identity
        self._subject = subject
        self._image_store = images
        self._watch = watch
        self._drop = drop
        self._cancel = cancel
        self._reload = reload
        self._expel = expel
        self._certain_after = certain_after
        self._stop = threading.Event()
        self._soon = soon
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)
        self._told: str | None = None
        # Of attempts that are being dropped.
        self._dropping: set[AttemptId] = set()
        self._known_images: list[str] = []
        self.period = 15.0
        # Limits that Docker does not enforce; None before it was asked.
        self.unenforced: list[str] | None = None
        # Since when the service has refused this node's token, by time.monotonic().
        self._refused_since: float | None = None

    def first(self, stop: Stop) -> None:
        """Report before Nomad is started, so that what was given up ends before new jobs come.

        Waits for the service as long as it takes. Raises StoppedError when the agent is to stop.
        """
        self._api.patiently(self.report, Backoff(stop))

    def start(self) -> None:
        """Go on reporting."""
        self._thread.start()

    def stop(self) -> None:
        """Report no longer."""
        self._stop.set()
        self._soon.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2.0)

    def report(self) -> None:
        """Report once and do what the reply says. Raises UnreachableError."""
        try:
            reply = self._api.report(self._body())
        except RefusedError as error:
            self._be_refused(str(error).rstrip("."))
            return
        self._refused_since = None
        self.period = max(0.1, float(reply.get("reportseconds", self.period)))
        self._image_store.learn(reply.get("imagetokens"))
        self._drop_all(
            [
                AttemptId.parse(str(one["jobid"]), str(one["attempt"]))
                for one in reply.get("drop", [])
            ]
        )
        # Nomad waits until a job is brought in. An older service says nothing of it.
        for one in reply.get("cancel", []):
            attempt = AttemptId.parse(str(one["jobid"]), str(one["attempt"]))
            self._cancel(attempt)
        standing, reason = reply.get("standing"), str(reply.get("reason") or "")
        told_before = reason == self._told
        self._told = reason
        if reason and not told_before:
            log.warning("this node gets no jobs: %s", reason)
        # Told twice: one reply may be from between two changes of an admin's.
        if standing in _ENDED and told_before:
            self._expel(reason)

    def _drop_all(self, given_up: list[AttemptId]) -> None:
        # Of one that is over here the receipt will be answered so too.
        known = [one for one in given_up if self._subject.store.get(one) is not None]
        new = [one for one in known if one not in self._dropping]
        if not new:
            return
        self._dropping.update(new)
        if not self._thread.is_alive():
            self._drop_each(new)
            return
        # To remove many containers takes minutes: a node that is silent for so long loses the rest.
        thread = threading.Thread(target=self._drop_each, args=(new,), name="drop", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no room for another thread now; the next reply says it again
            self._dropping.difference_update(new)

    def _drop_each(self, attempts: list[AttemptId]) -> None:
        for attempt in attempts:
            log.warning("given up by the service; ending it", extra={"attempt": attempt.key})
            try:
                self._drop(attempt)
            except Exception:
                log.exception("it is not ended yet", extra={"attempt": attempt.key})
            finally:
                self._dropping.discard(attempt)

    def _be_refused(self, why: str) -> None:
        """Believe it once it has been said again for some minutes: it ends this node for good."""
        now = time.monotonic()
        if self._refused_since is None:
            self._refused_since = now
            log.warning("the service refuses this node: %s; asking again", why)
        if now - self._refused_since >= self._certain_after:
            self._expel(why)

    def renew(self) -> None:
        """Have the next certificate signed, and Nomad read it. Raises ServiceError."""
        certificate = Certificate.parse(self._api.certificate(self._tls.request()))
        self._tls.write(certificate)
        self._reload()
        log.info("certificate renewed", extra={"validseconds": certificate.valid_seconds})

    def _run(self) -> None:
        while not self._stop.is_set():
            self._soon.wait(self.period)
            self._soon.clear()
            if self._stop.is_set():
                return
            steps: list[tuple[str, Callable[[], None]]] = [("report", self.report)]
            if self._tls.is_due():
                steps.append(("certificate", self.renew))
            for name, step in steps:
                try:
                    step()
                except ServiceError as error:
                    log.warning("%s: %s", name, error)
                except Exception:
                    # A report that failed must not be the last one.
                    log.exception("the %s failed unexpectedly", name)

    def _body(self) -> dict[str, Any]:
        subject = self._subject
        disk = shutil.disk_usage(subject.folder)
        held = {state.id for state in subject.store.all() if state.grant is not None}
        # Over, but the service does not know it yet: without the receipt it would run again.
        held.update(subject.undelivered())
        return {
            "agentversion": __version__,
            "nomadversion": subject.nomad_version,
            "images": self._images(),
            "diskfreemb": disk.free // 2**20,
            "disktotalmb": disk.total // 2**20,
            "trouble": self._watch.trouble or subject.disks.trouble(),
            "attempts": [
                {"jobid": one.job, "attempt": one.attempt} for one in islice(held, _MOST_HELD)
            ],
            "imagekeyid": self._image_store.key_id(),
            "unenforced": self.unenforced,
        }

    def _images(self) -> list[str]:
        if not self._identity.image_prefix:
            return []
        prefix = f"{self._identity.image_prefix}/"
        try:
            names = self._subject.engine.image_names(prefix, _DOCKER_TAKES)
        except (DockerUnavailableError, DockerRefusedError):
            return self._known_images
        self._known_images = sorted(name[len(prefix) :] for name in names)[:_MOST_IMAGES]
        return self._known_images


def nomad_version(program: Path) -> str:
    """What `nomad version` says, without its name; empty when it cannot be asked."""
    try:
        done = subprocess.run(
            [str(program), "version"],
            env={"PATH": os.environ.get("PATH", os.defpath)},  # it needs none of our secrets
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    words = done.stdout.split()
    return words[1][:100] if len(words) > 1 else ""
