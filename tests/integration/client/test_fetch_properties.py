"""Fetch objects of any name that a real S3 server accepts."""

from __future__ import annotations

import tempfile
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from fetch_properties import FOUND, OBJECTS, check_fetch, prepare
from property_world import search, searching

from leruli.errors import LeruliError
from leruli.jobs.fetch import select_results


@searching
def test_objects_of_a_real_store_are_fetched_whole_or_refused(store: Any, tmp_path: Path) -> None:
    def holds(objects: dict[str, bytes], found: dict[str, str]) -> None:
        bucket = str(uuid.uuid4())
        store.make_bucket(bucket)
        for name, content in objects.items():
            # The server refuses some names, as ".." or "a/b" beside "a".
            with suppress(LeruliError, ValueError):
                store.put(bucket, name, content)
        there = {item.name: item for item in select_results(store, bucket, everything=True)}
        with tempfile.TemporaryDirectory(dir=tmp_path) as top:
            folder = prepare(Path(top), found)
            held = {name: objects[name] for name in there if name in objects}
            check_fetch(store, bucket, folder, held)
        store.remove_bucket(bucket)

    through_link = {
        "objects": {"a": b"", "link/a": b""},
        "found": {"folder": "folder", "link": "folder"},
    }
    search(holds, examples=25, known=[through_link], objects=OBJECTS, found=FOUND)
