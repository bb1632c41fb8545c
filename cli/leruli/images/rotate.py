"""Rotating the group token: the images move from the bucket that the old token names.

1. The queue makes the next token; the old one stays valid.
2. The storage copies the images into the bucket of the next token.
3. The next token becomes valid, and the old one ends.
4. Images that were published meanwhile are copied.
5. When all nodes read the new bucket, the old buckets are deleted and the service is informed.

After an interruption the same command continues: each step finds what was done before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from leruli.errors import BucketMissingError, RefusedError, StorageError
from leruli.images.published import image_bucket
from leruli.wording import counted

if TYPE_CHECKING:
    from leruli.service.group import GroupAdmin
    from leruli.storage.store import Store, StoredObject

# Nodes report every 15 s.
_WAIT_FOR_MACHINES = 40.0
_ASK_MACHINES_EVERY = 2.0
# A node that was silent for longer asks for the token before it gets a job.
_SILENT = timedelta(minutes=2)

Notice = Callable[[str], None]


@dataclass
class Rotation:
    """The progress of a rotation."""

    token: str = field(repr=False)
    #: Whether this call made the token valid. Otherwise it continued an earlier rotation.
    is_new: bool
    copied: int = 0
    #: Nodes that still read the bucket of an older token, which therefore stays.
    lagging: list[str] = field(default_factory=list)
    is_finished: bool = False


def rotate(
    admin: GroupAdmin, store: Store | None, *, again: bool, finish: bool, notice: Notice
) -> Rotation:
    """Rotate the token and move the images, or continue an unfinished rotation.

    Without a `store` the images stay. `again` makes a new token although the images of the last
    rotation have not moved. `finish` does not wait for nodes.
    """
    tokens = admin.image_tokens()
    if finish and len(tokens) == 1:
        raise RefusedError(
            "No rotation is unfinished: all images are in the bucket of the group token. Nothing "
            "was done."
        )
    if len(tokens) > 1 and not again:
        rotation = Rotation(tokens[0], is_new=False)
        older = tokens[1:]
    else:
        rotation = Rotation(admin.prepare_token(), is_new=True)
        older = tokens
        if store is not None:
            rotation.copied += _copy_all(store, older, rotation.token, notice)
        admin.begin_token(rotation.token)
    if store is None:
        return rotation
    rotation.copied += _copy_all(store, older, rotation.token, notice)
    rotation.lagging = [] if finish else _wait_for_machines(admin, notice)
    if not rotation.lagging:
        # An upload that began with the old token may have ended since.
        rotation.copied += _copy_all(store, older, rotation.token, notice)
        for token in older:
            _remove(store, image_bucket(token))
        admin.images_moved(rotation.token)
        rotation.is_finished = True
    return rotation


def _copy_all(store: Store, older: list[str], token: str, notice: Notice) -> int:
    """Copy the images of all older buckets, the newest first, which win; returns how many."""
    return sum(_copy(store, image_bucket(one), image_bucket(token), notice) for one in older)


def _copy(store: Store, source: str, target: str, notice: Notice) -> int:
    images = _list(store, source)
    if not images:
        return 0
    store.make_bucket(target)
    there = {one.name: one for one in _list(store, target)}
    missing = [one for one in images if not _is_there(one, there.get(one.name))]
    size = sum(one.size for one in missing)
    for number, one in enumerate(missing, 1):
        notice(
            f"Copying image {number} of {len(missing)}, {one.name}, {one.size / 1e6:.0f} of "
            f"{size / 1e6:.0f} MB."
        )
        store.copy(source, one.name, target)
    _verify(missing, {one.name: one for one in _list(store, target)})
    return len(missing)


def _is_there(image: StoredObject, there: StoredObject | None) -> bool:
    """Whether the target has the image, or one that was published there later."""
    if there is None:
        return False
    if _is_same(image, there):
        return True
    # Many stores give whole seconds. Within one second, the newer token's image is the later one.
    return bool(image.modified and there.modified and there.modified >= image.modified)


def _is_same(image: StoredObject, there: StoredObject) -> bool:
    if image.size != there.size:
        return False
    # An ETag with "-" depends on the parts, which a copy may have others of. So compare the times.
    if "-" in image.etag or "-" in there.etag:
        return not (image.modified and there.modified) or there.modified >= image.modified
    return image.etag == there.etag


def _verify(copied: list[StoredObject], there: dict[str, StoredObject]) -> None:
    for image in copied:
        found = there.get(image.name)
        # Another size: somebody has published it again meanwhile, and its time is later.
        if found is None or not _is_there(image, found):
            raise StorageError(
                f"The copy of the image {image.name} is not what was copied. Nothing was deleted. "
                "Run the same command again."
            )


def _list(store: Store, bucket: str) -> list[StoredObject]:
    try:
        return store.list(bucket)
    except BucketMissingError:  # no image was ever published, or it has been removed
        return []


def _remove(store: Store, bucket: str) -> None:
    try:
        store.remove_bucket(bucket)
    except BucketMissingError:
        return


def _wait_for_machines(admin: GroupAdmin, notice: Notice) -> list[str]:
    """Wait until all connected nodes read the new bucket; return those that do not."""
    deadline = time.monotonic() + _WAIT_FOR_MACHINES
    is_announced = False
    while lagging := [str(one["name"]) for one in admin.nodes() if _lags(one)]:
        if time.monotonic() > deadline:
            break
        if not is_announced:
            notice(f"Waiting for {counted(len(lagging), 'machine')} to use the new bucket.")
            is_announced = True
        time.sleep(_ASK_MACHINES_EVERY)
    return lagging


def _lags(node: dict[str, Any]) -> bool:
    if node.get("knowsimages", True) or node.get("standing") == "left":
        return False
    try:
        seen = datetime.fromisoformat(str(node["lastseenat"]).replace("Z", "+00:00"))
    except (KeyError, ValueError):
        return True
    return datetime.now(timezone.utc) - seen < _SILENT
