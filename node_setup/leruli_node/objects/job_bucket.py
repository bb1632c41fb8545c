"""A job's bucket. An attempt may change only objects that its job wrote.

Each object that an agent writes carries its attempt as user metadata. Objects without it, of
another job or of a later attempt are foreign: they are never overwritten and never deleted. See
docs/developers/attempts.md, "Whose objects".
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from enum import Enum
from itertools import islice
from typing import BinaryIO

from leruli_node.model import AttemptId
from leruli_node.objects.live_names import live_prefix
from leruli_node.objects.object_store import MARK, FileFacts, ObjectStore
from leruli_node.objects.small_requests import ListedObject
from leruli_node.objects.store_errors import NotFoundError
from leruli_node.objects.upload_lease import UploadLease

INPUT = "run.tgz"
# The service recognises by these words that a job's bucket was deleted before the job ran, or while
# it ran (leruli_queue/jobs/outcomes.py). Services of other versions know them too.
BUCKET_MISSING = "the job's bucket is missing"
BUCKET_WENT = "the job's bucket is not there any more"
# Names in one page of an S3 listing, and in one delete call.
_PAGE = 1000


class Origin(Enum):
    """Who wrote an object."""

    OWN = "this attempt, or an earlier one of the job"
    # Written before agents marked objects: it may be overwritten, but never deleted.
    OLDER_AGENT = "probably an earlier attempt of the job"
    FOREIGN = "somebody else"


class ForeignObjectError(Exception):
    """An object that the job did not write has this name."""


#: `unmarked_until` if this attempt itself may have begun under an agent without marks.
ANY_TIME = datetime.max.replace(tzinfo=timezone.utc)


def origin_of(attempt: AttemptId, mark: str | None, may_be_output: bool) -> Origin:
    """Return who wrote an object, by its mark.

    `may_be_output` says whether an agent without marks may have written it, by its time.
    """
    if mark is None:
        return Origin.OLDER_AGENT if may_be_output else Origin.FOREIGN
    job, _, number = mark.rpartition("x")
    is_own = job == attempt.job and number.isascii() and number.isdigit()
    return Origin.OWN if is_own and int(number) <= attempt.attempt else Origin.FOREIGN


class JobBucket:
    """The bucket of one attempt's job. Writes need the attempt's upload lease."""

    def __init__(
        self,
        store: ObjectStore,
        name: str,
        attempt: AttemptId,
        lease: UploadLease | None = None,
        unmarked_until: datetime | None = None,
        parallel: int = 4,
    ) -> None:
        """Open a bucket.

        `unmarked_until` is the latest time at which an agent without marks wrote for the job.
        """
        self._store = store
        self._name = name
        self._attempt = attempt
        self._lease = lease
        self._unmarked_until = unmarked_until
        self._parallel = parallel
        #: The foreign objects among the names that `remove_previous` was told to keep.
        self.taken: set[str] = set()

    def foreign(self, most: int) -> list[str]:
        """Return up to `most` names of foreign objects, from the first page of the listing only."""
        found = self._origins(islice(self._outputs(), _PAGE))
        names = (item.name for item, origin in found if origin is Origin.FOREIGN)
        return list(islice(names, most))

    def newest(self) -> datetime | None:
        """Return when the newest object was written, by the store's clock."""
        times = (item.modified for item in self._store.objects(self._name))
        return max((time for time in times if time is not None), default=None)

    def own_below(self, prefix: str, written: Collection[str] = ()) -> list[ListedObject]:
        """Return the job's own objects whose names begin with `prefix`.

        Objects in `written` are the job's own.
        """
        items = list(self._store.objects(self._name, prefix))
        unclear = (item for item in items if item.name not in written)
        own = {item.name for item, origin in self._origins(unclear) if origin is Origin.OWN}
        return [item for item in items if item.name in own or item.name in written]

    def remove_previous(self, keep: Collection[str]) -> list[str]:
        """Delete objects of earlier attempts that are not in `keep`. Call it before `write`.

        Returns
        -------
        Up to _PAGE names of objects that stay although an earlier attempt may have written them.
        """
        self.taken = set()
        unclear: list[str] = []
        outputs = self._outputs()
        while page := list(islice(outputs, _PAGE)):
            doomed = []
            for item, origin in self._origins(iter(page)):
                if origin is Origin.OWN and item.name not in keep:
                    doomed.append(item.name)
                elif origin is Origin.OLDER_AGENT and item.name not in keep:
                    unclear.append(item.name)
                elif origin is Origin.FOREIGN and item.name in keep:
                    self.taken.add(item.name)
            if doomed:
                self._store.remove(self._name, doomed, self._required_lease)
            del unclear[_PAGE:]
        return unclear

    def write(self, name: str, data: BinaryIO, size: int, origin: FileFacts | None = None) -> None:
        """Store an object with the facts of its file.

        Raises
        ------
        ForeignObjectError
            A foreign object has this name.
        """
        if name in self.taken:
            raise ForeignObjectError
        lease = self._required_lease
        metadata = {MARK: self._attempt.key, **(origin.metadata() if origin else {})}
        self._store.write(self._name, name, data, size, metadata, lease)

    def remove_earlier(self, name: str) -> bool:
        """Delete the object that `write` would replace. Return whether there was one."""
        if name in self.taken:
            return False
        try:
            self._store.mark(self._name, name)
        except NotFoundError:
            return False
        self._store.remove(self._name, [name], self._required_lease)
        return True

    def doubt_lease(self) -> None:
        """Renew the lease before the next write.

        While the store was away, this node may have been too.
        """
        self._required_lease.doubt()

    @property
    def _required_lease(self) -> UploadLease:
        if self._lease is None:  # readers have no lease
            raise RuntimeError("no lease to write with")
        return self._lease

    def _outputs(self) -> Iterator[ListedObject]:
        # This attempt's live objects are removed when its output is here.
        live = live_prefix(self._attempt)
        return (
            item
            for item in self._store.objects(self._name)
            if item.name != INPUT and not item.name.startswith(live)
        )

    def _origins(self, items: Iterator[ListedObject]) -> Iterator[tuple[ListedObject, Origin]]:
        """Yield each object with its origin. Objects that are gone by now are left out."""
        known = list(items)
        if not known:
            return
        input_at = self._input_at()

        def origin(item: ListedObject) -> Origin | None:
            try:
                mark = self._store.mark(self._name, item.name)
            except NotFoundError:
                return None
            return origin_of(self._attempt, mark, self._may_be_output(item.modified, input_at))

        with ThreadPoolExecutor(self._parallel, thread_name_prefix="origin") as pool:
            for item, found in zip(known, pool.map(origin, known)):
                if found is not None:
                    yield item, found

    def _may_be_output(self, modified: datetime | None, input_at: datetime | None) -> bool:
        # Only a user with a key of the store uploads run.tgz, before the first attempt.
        if modified is None or input_at is None or self._unmarked_until is None:
            return False
        return input_at <= modified <= self._unmarked_until

    def _input_at(self) -> datetime | None:
        found = next(iter(self._store.objects(self._name, INPUT)), None)
        return found.modified if found is not None and found.name == INPUT else None
