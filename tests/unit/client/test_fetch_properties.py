"""Fetch objects of any name from a FAKE store: no real store accepts all names."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

from fetch_properties import FOUND, NAMES, OBJECTS, check_fetch, prepare
from hypothesis import strategies as st
from property_world import search, searching

from leruli.errors import StorageError
from leruli.storage.store import Downloaded, Store, StoredObject


class AnyStore:
    """A FAKE store that lists any name and breaks off in the middle of some objects."""

    def __init__(self, objects: Mapping[str, bytes], odd: set[str]) -> None:
        self.objects = objects
        self.odd = odd

    def has_bucket(self, bucket: str) -> bool:
        return True

    def download(
        self, bucket: str, item: StoredObject, path: Path, advance: Callable[[int], None]
    ) -> Downloaded:
        content = self.objects[item.name]
        if item.name in self.odd:
            path.write_bytes(content[: len(content) // 2])
            raise StorageError("It broke off.")
        path.write_bytes(content)
        return Downloaded(hashlib.sha256(content).hexdigest(), {})


@searching
def test_only_results_come_into_the_folder_from_any_bucket(tmp_path: Path) -> None:
    def holds(objects: dict[str, bytes], found: dict[str, str], odd: set[str]) -> None:
        with tempfile.TemporaryDirectory(dir=tmp_path) as top:
            folder = prepare(Path(top), found)
            store = cast(Store, AnyStore(objects, odd))
            check_fetch(store, "bucket", folder, objects, lambda name: name in odd)

    search(
        holds,
        examples=150,
        known=[
            {"objects": {name: b"evil"}, "found": {}, "odd": set()}
            for name in (".git/config", "sub/.GIT/hooks/x", "LERULI.BUCKET", "leruli.batch-default")
        ],
        objects=OBJECTS,
        found=FOUND,
        odd=st.sets(NAMES, max_size=2),
    )
