"""Reports to the service about this node, and does what the reply says.

A report waits at the service until there is something to say, or the report period is over. So the
reply comes at once. An older service answers without waiting, and the pause is here.

The report tells the service which attempts are alive, also those of which Nomad does not hear. The
reply tells this node what it may not continue: an attempt was given to another node, the compute
secret was rotated, an admin removed the node. This module also renews the certificate.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
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
# Timeout in seconds for Docker to list images: a hanging Docker must not delay a report.
_DOCKER_TAKES = 10
# Seconds that a reply may take beyond the time that the service holds it back.
_ANSWERED_WITHIN_S = 30.0
# Pauses (s) before the next report, when replies without news come early: another report of this
# node ended the waiting one.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0
# The next report, when the reply names an attempt that is not known here yet.
_UNKNOWN_AGAIN_S = 0.5
# Standings that are final: this node gets no more jobs.
_ENDED = ("outdated", "removed")


@dataclass(frozen=True)
class Subject:
    """The parts whose state is reported."""

    folder: Path
    store: AttemptStore
    # Returns the attempts with undelivered receipts.
    undelivered: Callable[[], list[AttemptId]]
    engine: DockerEngine
    nomad_version: str
    disks: Disks


class Reporter:
    """A thread that reports, and renews the certificate when it is due.

    A second one reports at once when others ask for it, while the report of the first waits.

    Parameters
    ----------
    api, tls, identity, subject, images, watch
        The parts that it uses and reports on.
    drop
        Ends an attempt without its output.
    cancel
        Ends an attempt whose command does not run yet.
    reload
        Makes Nomad read its certificate.
    expel
        Called with a sentence when this node gets no more jobs; more than once.
    certain_after
        Seconds after the first refusal until a refusal is believed.
    soon
        Set by others when there is something to report.
    follow
        Called with the attempts that somebody follows, at each reply.
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
        follow: Callable[[Sequence[AttemptId]], None] = lambda _: None,
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
        self._follow = follow
        self._stop = threading.Event()
        self._soon = soon
        # One reply at a time, also when a slot asks.
        self._replying = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)
        self._soon_thread = threading.Thread(target=self._run_soon, name="report-soon", daemon=True)
        # What the service said last, as it names it. Empty: it does not let reports wait.
        self._said = ""
        self._names_unknown = False
        self._last_reason: str | None = None
        # The time (monotonic) since which the service gives that reason.
        self._reason_since = 0.0
        # The attempts that are being dropped.
        self._dropping: set[AttemptId] = set()
        self._known_images: list[str] = []
        self.period = 15.0
        # Limits that Docker does not enforce. None until Docker has answered.
        self.unenforced: list[str] | None = None
        # The time (monotonic) since which the service has refused this node's token.
        self._refused_since: float | None = None

    def first(self, stop: Stop) -> None:
        """Report before Nomad is started, so that abandoned attempts end before new jobs come.

        Waits for the service without limit.

        Raises
        ------
        StoppedError
            The agent is being stopped.
        """
        self._api.until_answered(self.report, Backoff(stop))

    def start(self) -> None:
        """Report in a thread from now on."""
        self._thread.start()
        self._soon_thread.start()

    def stop(self) -> None:
        """Stop reporting. A report that waits at the service is not waited for."""
        self._stop.set()
        self._soon.set()
        for thread in (self._thread, self._soon_thread):
            if thread.is_alive():
                thread.join(timeout=0.2 if self._said else 2.0)

    def ask(self) -> set[AttemptId] | None:
        """Report at once. Return the attempts that the service wants ended; None without answer."""
        try:
            return self.report()
        except ServiceError as error:
            log.warning("it is not known which attempts the service wants ended: %s", error)
            return None

    def report(self, known: str = "") -> set[AttemptId]:
        """Report once and do what the reply says.

        Parameters
        ----------
        known
            What the service said last. It answers when it has something else to say.

        Returns
        -------
        The attempts of this node that are cancelled or abandoned.

        Raises
        ------
        UnreachableError
            There is no answer.
        """
        body = self._body()
        try:
            if known:
                within = self.period + _ANSWERED_WITHIN_S
                reply = self._api.report({**body, "known": known}, within)
            else:
                reply = self._api.report(body)
        except RefusedError as error:
            with self._replying:
                self._said = ""
                self._be_refused(str(error).rstrip("."))
            return set()
        except ServiceError:
            # Perhaps a proxy allows no long calls: the next report does not wait.
            self._said = ""
            raise
        with self._replying:
            return self._obey(reply)

    def _obey(self, reply: dict[str, Any]) -> set[AttemptId]:
        self._refused_since = None
        self._said = str(reply.get("said") or "")
        self.period = max(0.1, float(reply.get("reportseconds", self.period)))
        self._image_store.learn(reply.get("imagetokens"))
        dropped = _attempts(reply.get("drop", []))
        self._drop_all(dropped)
        # An older service sends no `cancel`.
        cancelled = _attempts(reply.get("cancel", []))
        for attempt in cancelled:
            self._cancel(attempt)
        # Granted, and its state is not stored yet: the next reply says it again.
        self._names_unknown = any(self._subject.store.get(one) is None for one in cancelled)
        # An older service sends no `follow`.
        self._follow(_attempts(reply.get("follow") or []))
        standing, reason = reply.get("standing"), str(reply.get("reason") or "")
        if reason != self._last_reason:
            self._last_reason, self._reason_since = reason, time.monotonic()
            if reason:
                log.warning("this node gets no jobs: %s", reason)
        # Only if repeated: one reply may fall between two changes of an admin.
        elif standing in _ENDED and time.monotonic() - self._reason_since >= self.period / 2:
            self._expel(reason)
        return {*dropped, *cancelled}

    def _drop_all(self, abandoned: list[AttemptId]) -> None:
        # The receipt of an attempt that is over here gets the same answer.
        known = [one for one in abandoned if self._subject.store.get(one) is not None]
        new = [one for one in known if one not in self._dropping]
        if not new:
            return
        self._dropping.update(new)
        if not self._thread.is_alive():
            self._drop_each(new)
            return
        # Removing many containers takes minutes. A node that is silent for so long loses all
        # others.
        thread = threading.Thread(target=self._drop_each, args=(new,), name="drop", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads now; the next reply says it again
            self._dropping.difference_update(new)

    def _drop_each(self, attempts: list[AttemptId]) -> None:
        for attempt in attempts:
            log.warning("abandoned by the service; ending it", extra={"attempt": attempt.key})
            try:
                self._drop(attempt)
            except Exception:
                log.exception(
                    "an abandoned attempt is not ended yet", extra={"attempt": attempt.key}
                )
            finally:
                self._dropping.discard(attempt)

    def _be_refused(self, why: str) -> None:
        """Believe a refusal once it has been repeated for some minutes.

        It ends this node for good.
        """
        now = time.monotonic()
        if self._refused_since is None:
            self._refused_since = now
            log.warning("the service refuses this node: %s; asking again", why)
        if now - self._refused_since >= self._certain_after:
            self._expel(why)

    def renew(self) -> None:
        """Have the next certificate signed, and make Nomad read it. Raises ServiceError."""
        certificate = Certificate.parse(self._api.certificate(self._tls.request()))
        self._tls.write(certificate)
        self._reload()
        log.info("certificate renewed", extra={"validseconds": certificate.valid_seconds})

    def _run(self) -> None:
        pause, early = 0.0 if self._said else self.period, 0
        while not self._stop.wait(pause):
            known, began = self._said, time.monotonic()
            self._do("report", partial(self.report, known))
            if self._tls.is_due():
                self._do("certificate", self.renew)
            if not self._said:
                pause, early = self.period, 0
            elif self._names_unknown:
                self._said, pause = "", _UNKNOWN_AGAIN_S
            elif self._said != known or time.monotonic() - began >= self.period / 2:
                pause, early = 0.0, 0
            else:
                pause = min(_FIRST_PAUSE_S * 2**early, _LONGEST_PAUSE_S)
                early = min(early + 1, 10)

    def _run_soon(self) -> None:
        """Report at once whenever others ask for it."""
        while True:
            self._soon.wait()
            self._soon.clear()
            if self._stop.is_set():
                return
            self._do("report", self.report)

    def _do(self, name: str, step: Callable[[], object]) -> None:
        try:
            step()
        except ServiceError as error:
            if not self._stop.is_set():
                log.warning("%s: %s", name, error)
        except Exception:
            # A failed report must not be the last one.
            log.exception("the %s failed unexpectedly", name)

    def _body(self) -> dict[str, Any]:
        subject = self._subject
        disk = shutil.disk_usage(subject.folder)
        held = {state.id for state in subject.store.all() if state.grant is not None}
        # These are over, but the service does not know it yet. Without the receipt it would run
        # them again.
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


def _attempts(listed: list[dict[str, Any]]) -> list[AttemptId]:
    return [AttemptId.parse(str(one["jobid"]), str(one["attempt"])) for one in listed]


def nomad_version(program: Path) -> str:
    """Return Nomad's version, empty if the program does not say it."""
    try:
        done = subprocess.run(
            [str(program), "version"],
            env={"PATH": os.environ.get("PATH", os.defpath)},  # it must not see our secrets
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    words = done.stdout.split()
    return words[1][:100] if len(words) > 1 else ""
