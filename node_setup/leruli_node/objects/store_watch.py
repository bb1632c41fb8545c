"""Checks whether the group's store accepts this node's S3 key. If not, the node takes no jobs.

A wrong key is a fault of the node, not of the store. A job's bucket may refuse the key as well.
Listing the bucket of the group's images tells whether the key or that bucket is the cause.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from leruli_node.objects.object_store import ObjectStore
from leruli_node.objects.store_errors import (
    NotFoundError,
    StoreRefusedError,
    StoreUnavailableError,
    UnstorableError,
)

log = logging.getLogger(__name__)

# Seconds that the agent's start waits for the first check. A store that hangs must not delay it.
_FIRST_CHECK = 5.0
# Seconds between two checks.
_PERIOD = 60.0
_PERIOD_TROUBLED = 10.0
_CLOCK = ("RequestTimeTooSkewed", "RequestExpired")


class StoreWatch:
    """Checks the store every minute. Safe for several threads.

    `changed` is called when trouble begins or ends.
    """

    def __init__(
        self, objects: ObjectStore, bucket: Callable[[], str], changed: Callable[[], None]
    ) -> None:
        """Build the watch.

        `bucket` returns the bucket of images, which a rotation of the group token changes.
        """
        self._objects = objects
        self._bucket = bucket
        self._changed = changed
        self._checking = threading.Lock()
        self._checked = threading.Event()
        #: Why the node takes no jobs, in a sentence. None: the store accepts the key, or is away.
        self.trouble: str | None = None

    def check(self) -> None:
        """Check once. A store that is away says nothing about the key."""
        with self._checking:
            before = self.trouble
            try:
                self._objects.names(self._bucket(), prefix="no-such-image")
            except StoreRefusedError as error:
                self.trouble = trouble_of(error.code)
            except (NotFoundError, UnstorableError):
                self.trouble = None
            except StoreUnavailableError:
                return
            else:
                self.trouble = None
        if self.trouble != before:
            if self.trouble:
                log.error("this node takes no jobs: %s", self.trouble)
            else:
                log.info("the object store takes the S3 key of this node")
            self._changed()

    def start(self, stop: threading.Event) -> None:
        """Check in a thread until `stop` is set. Wait a moment for the first check."""
        threading.Thread(target=self.run, args=(stop,), name="store", daemon=True).start()
        self._checked.wait(_FIRST_CHECK)

    def run(self, stop: threading.Event) -> None:
        """Check until `stop` is set."""
        while not stop.is_set():
            try:
                self.check()
            except Exception:
                # Without another check the node would never take jobs again.
                log.exception("checking the object store failed unexpectedly")
            self._checked.set()
            stop.wait(_PERIOD_TROUBLED if self.trouble else _PERIOD)


def trouble_of(code: str) -> str:
    """Return the sentence for a refusal of the store, by S3's error code."""
    if code in _CLOCK:
        return (
            f"its clock is wrong: the group's object store refuses its requests for that ({code}). "
            "Set it, and have it kept right"
        )
    return (
        f"the group's object store does not take its S3 key ({code}): check LERULI_S3_ACCESS and "
        "LERULI_S3_SECRET in its node.env"
    )
