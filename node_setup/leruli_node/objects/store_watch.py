"""Does the group's store take this node's S3 key? While it does not, the node takes no jobs.

A key that is wrong, or wrong since it was changed at the store, is the node's trouble and not the
store's. A bucket of a job may refuse the key as well: whether it is the key or that bucket, a look
at the bucket of the group's images tells.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from leruli_node.objects.object_store import (
    NotFoundError,
    ObjectStore,
    StoreRefusedError,
    StoreUnavailableError,
    UnstorableError,
)

log = logging.getLogger(__name__)

# Seconds that the agent's start waits for the first look: a store that hangs must not hold it up.
_FIRST_CHECK = 5.0
# Seconds between two looks.
_PERIOD = 60.0
_PERIOD_TROUBLED = 10.0
_CLOCK = ("RequestTimeTooSkewed", "RequestExpired")


class StoreWatch:
    """Looks at the store every minute; safe to use from several threads.

    `changed` is called when there is trouble, or none any more.
    """

    def __init__(
        self, objects: ObjectStore, bucket: Callable[[], str], changed: Callable[[], None]
    ) -> None:
        """`bucket` names the bucket of images, which a rotation of the group token changes."""
        self._objects = objects
        self._bucket = bucket
        self._changed = changed
        self._checking = threading.Lock()
        self._checked = threading.Event()
        #: Why the node takes no jobs, in a sentence; None: the store takes the key, or is away.
        self.trouble: str | None = None

    def check(self) -> None:
        """Look once. A store that is away says nothing about the key."""
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
        """Look in a thread until `stop` is set, and wait a moment for the first look."""
        threading.Thread(target=self.run, args=(stop,), name="store", daemon=True).start()
        self._checked.wait(_FIRST_CHECK)

    def run(self, stop: threading.Event) -> None:
        """Look until `stop` is set."""
        while not stop.is_set():
            try:
                self.check()
            except Exception:
                # Without another look the node would never take jobs again.
                log.exception("looking at the object store failed unexpectedly")
            self._checked.set()
            stop.wait(_PERIOD_TROUBLED if self.trouble else _PERIOD)


def trouble_of(code: str) -> str:
    """The sentence for a refusal of the store's, by S3's code."""
    if code in _CLOCK:
        return (
            f"its clock is wrong: the group's object store refuses its requests for that ({code}). "
            "Set it, and have it kept right"
        )
    return (
        f"the group's object store does not take its S3 key ({code}): check LERULI_S3_ACCESS and "
        "LERULI_S3_SECRET in its node.env"
    )
