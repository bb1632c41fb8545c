"""Provides the published image: fetches and loads it if needed, once for all who wait.

Docker knows a published image under three names:

- `<prefix>/<code>:<version>` is for people.
- `<prefix>-etag/<code>:<hash of version>-<hash of the object's ETag>` says which object it was
  loaded from.
- The name that attempt-start answers is the one that Nomad runs. It tells other groups nothing.

The image is current if the first two names stand for the same image and the ETag is that of the
object now in the store. All names begin with the group's key id, so agents of two groups on one
Docker do not disturb each other.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from leruli_node.clock import boottime
from leruli_node.container.docker_engine import DockerEngine, DockerUnavailableError
from leruli_node.errors import AttemptError, StoppedError, describe
from leruli_node.images.cache import ImageCache
from leruli_node.images.loading import BrokenImageError, ImageLoader
from leruli_node.images.names import etag_name, image_name, is_name, object_name, published_versions
from leruli_node.images.store import ImageStore
from leruli_node.objects.store_errors import (
    NotFoundError,
    StoreRefusedError,
    StoreUnavailableError,
    UnstorableError,
)
from leruli_node.outcomes import Outcome
from leruli_node.retry import Backoff, Stop, retrying

log = logging.getLogger(__name__)

# Seconds after which an archive that Docker called broken is tried again. A newly published one is
# another object, which is tried at once.
BROKEN_FOR = 600.0
_STEP = 0.2
# Seconds for which an image that was found here is not looked for again for further attempts.
_KNOWN_FOR_S = 5.0
_MOST_ENSURED = 1000


@dataclass
class _Fetch:
    """An image that a thread fetches, and the number of attempts that wait for it."""

    marker: str
    waiting: int = 0
    unwanted: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None


class Images:
    """The group's images on this node's Docker."""

    def __init__(
        self,
        engine: DockerEngine,
        store: ImageStore,
        group_token: str,
        loader: ImageLoader,
        cache: ImageCache,
        retry_for_s: float,
        broken_for: float = BROKEN_FOR,
    ) -> None:
        self._engine = engine
        self._store = store
        self._bucket = f"code-{group_token}"
        self._loader = loader
        self._cache = cache
        self._retry_for_s = retry_for_s
        self._broken_for = broken_for
        self._guard = threading.Lock()
        self._fetches: dict[str, _Fetch] = {}
        # When images (code, version, name in Nomad) were last found to be here (clock.py).
        self._ensured: dict[tuple[str, str, str], float] = {}
        # The error of an archive by its marker, and when it was seen (clock.py).
        self._broken: dict[str, tuple[float, str]] = {}

    def is_known(self, code: str, version: str, run_as: str) -> bool:
        """Return whether `ensure` found the image here some seconds ago, and mark it as used."""
        if boottime() - self._ensured.get((code, version, run_as), float("-inf")) > _KNOWN_FOR_S:
            return False
        self._cache.used(code, version)
        return True

    def ensure(self, prefix: str, code: str, version: str, run_as: str, stop: Stop) -> None:
        """Return when the published image is here, also under the name that Nomad runs.

        The asking attempt has a state file, so its image is not removed from then on.

        Raises
        ------
        StoppedError
            `stop` is set.
        StoreRefusedError
            The store refuses this node.
        AttemptError
            With outcome image_unknown, image_broken or node_trouble.
        """
        if not is_name(code, version):
            raise AttemptError(Outcome.IMAGE_UNKNOWN, f"{code}:{version} is not a name of an image")

        began = boottime()

        def report(error: Exception) -> None:
            log.warning("fetching an image waits for %s: %s", _who_fails(error), error)

        try:
            retrying(
                lambda: self._ensure(prefix, code, version, run_as, stop),
                (StoreUnavailableError, DockerUnavailableError),
                Backoff(stop, self._retry_for_s),
                report,
                final=(StoreRefusedError,),  # another try does not help
            )
        except NotFoundError:
            raise AttemptError(Outcome.IMAGE_UNKNOWN, self._unknown(code, version)) from None
        except UnstorableError:
            raise AttemptError(
                Outcome.IMAGE_UNKNOWN, f"{code}:{version} is not a name of an image"
            ) from None
        except StoreRefusedError:
            raise
        except (StoreUnavailableError, DockerUnavailableError) as error:
            raise AttemptError(
                Outcome.NODE_TROUBLE,
                f"image {code}:{version} could not be fetched: {_who_fails(error)} fails",
            ) from None
        if len(self._ensured) > _MOST_ENSURED:
            self._ensured.clear()
        self._ensured[code, version, run_as] = began

    def _ensure(self, prefix: str, code: str, version: str, run_as: str, stop: Stop) -> None:
        etag = self._store.etag(self._bucket, object_name(code, version))
        if self._use(prefix, code, version, etag, run_as):
            return
        self._wait_for(prefix, code, version, etag, stop)
        if not self._use(prefix, code, version, etag, run_as):
            # It was published again in between, or somebody removed it.
            raise DockerUnavailableError("the image is gone again")

    def _use(self, prefix: str, code: str, version: str, etag: str, run_as: str) -> bool:
        """Return whether the image of this ETag is here.

        If so, mark it as used and name it `run_as`.
        """
        with self._cache.nothing_removed():
            names = self._engine.names_of(etag_name(prefix, code, version, etag))
            name = image_name(prefix, code, version)
            if name not in names:
                return False
            if run_as and run_as not in names:
                self._loader.name(name, run_as)
            self._cache.used(code, version)
            return True

    def _wait_for(self, prefix: str, code: str, version: str, etag: str, stop: Stop) -> None:
        """Fetch the image, or wait for the thread that fetches it. Returns at once when stopped."""
        with self._share(prefix, code, version, etag) as fetch:
            while not fetch.done.is_set():
                if stop.is_set():
                    raise StoppedError
                fetch.done.wait(_STEP)
        if fetch.error is not None:
            raise fetch.error

    @contextmanager
    def _share(self, prefix: str, code: str, version: str, etag: str) -> Iterator[_Fetch]:
        marker = etag_name(prefix, code, version, etag)
        with self._guard:
            fetch = self._fetches.get(marker)
            if fetch is None:
                self._raise_if_broken(marker)
                fetch = _Fetch(marker)
                threading.Thread(
                    target=self._run_fetch,
                    args=(fetch, prefix, code, version),
                    name="image",
                    daemon=True,
                ).start()
                # Only now: if the thread could not be started, no other attempt may wait for it.
                self._fetches[marker] = fetch
            fetch.waiting += 1
        try:
            yield fetch
        finally:
            with self._guard:
                fetch.waiting -= 1
                if fetch.waiting == 0:
                    fetch.unwanted.set()
                    if self._fetches.get(marker) is fetch:
                        del self._fetches[marker]

    def _run_fetch(self, fetch: _Fetch, prefix: str, code: str, version: str) -> None:
        try:
            log.info("fetching an image", extra={"image": f"{code}:{version}"})
            with self._cache.being_loaded(code, version):
                self._loader.fetch(self._bucket, prefix, code, version, fetch.unwanted)
        except BrokenImageError as error:
            self._broken[error.marker] = (boottime(), str(error))
            fetch.error = AttemptError(Outcome.IMAGE_BROKEN, str(error))
        except (
            NotFoundError,
            UnstorableError,
            StoreUnavailableError,
            DockerUnavailableError,
            AttemptError,
        ) as error:
            fetch.error = error
        except StoppedError:
            # An attempt that came just when the last one left asks again.
            fetch.error = DockerUnavailableError("nobody waited for the image any more")
        except Exception as error:
            log.exception("an image could not be fetched")
            fetch.error = DockerUnavailableError(type(error).__name__)
        finally:
            with self._guard:
                if self._fetches.get(fetch.marker) is fetch:
                    del self._fetches[fetch.marker]
            fetch.done.set()

    def _raise_if_broken(self, marker: str) -> None:
        since, sentence = self._broken.get(marker, (0.0, ""))
        if sentence and boottime() - since < self._broken_for:
            raise AttemptError(Outcome.IMAGE_BROKEN, sentence)
        self._broken.pop(marker, None)

    def _unknown(self, code: str, version: str) -> str:
        sentence = f"image {code}:{version} is not published"
        try:
            names = self._store.names(self._bucket, f"{code}-")
        except NotFoundError:
            names = []
        except StoreUnavailableError as error:
            log.warning("cannot list images: %s", describe(error))
            return sentence
        versions = published_versions(names, code)
        if not versions:
            return f"{sentence}; no version of {code} is"
        return f"{sentence}; {code} has {', '.join(versions[:20])}"


def _who_fails(error: Exception) -> str:
    return "the group's store" if isinstance(error, StoreUnavailableError) else "Docker"
