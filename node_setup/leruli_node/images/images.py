"""Images: is the published one here? otherwise fetch and load it, once however many wait.

A published image is known to Docker under three names: `<prefix>/<code>:<version>` for people,
`<prefix>-etag/<code>:<hash of version>-<hash of the object's ETag>`, which says which object it was
loaded from, and the one that attempt-start answers, which Nomad runs and which tells other groups
nothing. It is current when the first two stand for the same image and the ETag is that of the
object now in the store. All begin with the group's key id, so agents of two groups on one Docker do
not disturb each other.
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
from leruli_node.objects.object_store import (
    NotFoundError,
    StoreRefusedError,
    StoreUnavailableError,
    UnstorableError,
)
from leruli_node.retry import Backoff, Stop, retrying

log = logging.getLogger(__name__)

# Seconds after which an archive that Docker called broken is tried again. Published anew it is
# another object, which is tried at once.
BROKEN_FOR = 600.0
_STEP = 0.2


@dataclass
class _Bringing:
    """An image that is being brought by a thread of its own, and those who wait for it."""

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
        self._under_way: dict[str, _Bringing] = {}
        # What was said of an archive, by its marker, and when (clock.py).
        self._broken: dict[str, tuple[float, str]] = {}

    def ensure(self, prefix: str, code: str, version: str, run_as: str, stop: Stop) -> None:
        """Return when the published image is here, also under the name that Nomad runs.

        An attempt that asks is in the agent's notes: its image is not removed from then on.
        Raises StoppedError, StoreRefusedError, AttemptError (image_unknown, image_broken,
        node_trouble).
        """
        if not is_name(code, version):
            raise AttemptError("image_unknown", f"{code}:{version} is not a name of an image")

        def report(error: Exception) -> None:
            log.warning("waiting for %s to bring an image: %s", _who_fails(error), error)

        try:
            retrying(
                lambda: self._ensure(prefix, code, version, run_as, stop),
                (StoreUnavailableError, DockerUnavailableError),
                Backoff(stop, self._retry_for_s),
                report,
                final=(StoreRefusedError,),  # another try does not help
            )
        except NotFoundError:
            raise AttemptError("image_unknown", self._unknown(code, version)) from None
        except UnstorableError:
            raise AttemptError(
                "image_unknown", f"{code}:{version} is not a name of an image"
            ) from None
        except StoreRefusedError:
            raise
        except (StoreUnavailableError, DockerUnavailableError) as error:
            raise AttemptError(
                "node_trouble",
                f"image {code}:{version} could not be brought: {_who_fails(error)} fails",
            ) from None

    def _ensure(self, prefix: str, code: str, version: str, run_as: str, stop: Stop) -> None:
        etag = self._store.etag(self._bucket, object_name(code, version))
        if self._use(prefix, code, version, etag, run_as):
            return
        self._wait_for(prefix, code, version, etag, stop)
        if not self._use(prefix, code, version, etag, run_as):
            # It was published anew meanwhile, or somebody removed it.
            raise DockerUnavailableError("the image is gone again")

    def _use(self, prefix: str, code: str, version: str, etag: str, run_as: str) -> bool:
        """Whether the image of this ETag is here; then it is used now, also as `run_as`."""
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
        """Have the image brought, or wait for who brings it; whoever stops leaves at once."""
        with self._share(prefix, code, version, etag) as bringing:
            while not bringing.done.is_set():
                if stop.is_set():
                    raise StoppedError
                bringing.done.wait(_STEP)
        if bringing.error is not None:
            raise bringing.error

    @contextmanager
    def _share(self, prefix: str, code: str, version: str, etag: str) -> Iterator[_Bringing]:
        marker = etag_name(prefix, code, version, etag)
        with self._guard:
            bringing = self._under_way.get(marker)
            if bringing is None:
                self._raise_if_broken(marker)
                bringing = _Bringing(marker)
                threading.Thread(
                    target=self._bring,
                    args=(bringing, prefix, code, version),
                    name="image",
                    daemon=True,
                ).start()
                # Not before: of a thread that could not be started nobody may wait for the end.
                self._under_way[marker] = bringing
            bringing.waiting += 1
        try:
            yield bringing
        finally:
            with self._guard:
                bringing.waiting -= 1
                if bringing.waiting == 0:
                    bringing.unwanted.set()
                    if self._under_way.get(marker) is bringing:
                        del self._under_way[marker]

    def _bring(self, bringing: _Bringing, prefix: str, code: str, version: str) -> None:
        try:
            log.info("fetching an image", extra={"image": f"{code}:{version}"})
            with self._cache.being_loaded(code, version):
                self._loader.bring(self._bucket, prefix, code, version, bringing.unwanted)
        except BrokenImageError as error:
            self._broken[error.marker] = (boottime(), str(error))
            bringing.error = AttemptError("image_broken", str(error))
        except (
            NotFoundError,
            UnstorableError,
            StoreUnavailableError,
            DockerUnavailableError,
            AttemptError,
        ) as error:
            bringing.error = error
        except StoppedError:
            # Whoever came in the moment in which the last one left asks anew.
            bringing.error = DockerUnavailableError("nobody waited for the image any more")
        except Exception as error:
            log.exception("an image could not be brought")
            bringing.error = DockerUnavailableError(type(error).__name__)
        finally:
            with self._guard:
                if self._under_way.get(bringing.marker) is bringing:
                    del self._under_way[bringing.marker]
            bringing.done.set()

    def _raise_if_broken(self, marker: str) -> None:
        since, sentence = self._broken.get(marker, (0.0, ""))
        if sentence and boottime() - since < self._broken_for:
            raise AttemptError("image_broken", sentence)
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
