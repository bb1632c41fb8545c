"""Fetching results when the storage does not give out one of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from leruli.errors import BucketMissingError, StorageError
from leruli.fetching import fetch
from leruli.storage import Store, StoredObject


class OddStore:
    """A FAKE store: one object raises, the others are there."""

    def __init__(self, error: StorageError, answers: bool) -> None:
        self.error = error
        self.answers = answers

    def has_bucket(self, bucket: str) -> bool:
        if not self.answers:
            raise StorageError("The object storage did not answer.")
        return True

    def download(
        self, bucket: str, item: StoredObject, path: Path, advance: Callable[[int], None]
    ) -> None:
        if item.name == "odd":
            raise self.error
        path.write_bytes(b"x" * item.size)


ITEMS = [StoredObject(name, 1, None) for name in ("a", "odd", "z")]


def run(tmp_path: Path, error: StorageError, answers: bool = True) -> dict[str, str]:
    store = cast(Store, OddStore(error, answers))
    fetched = fetch(store, "bucket", ITEMS, str(tmp_path))
    assert fetched.files == ["a", "z"]
    return fetched.refused


def test_one_object_that_is_missing_does_not_keep_the_others(tmp_path: Path) -> None:
    assert run(tmp_path, StorageError("No such key.")) == {"odd": "No such key."}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "z"]


def test_a_store_that_is_away_ends_it(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="away"):
        run(tmp_path, BucketMissingError("away"))
    with pytest.raises(StorageError, match="did not answer"):
        run(tmp_path, StorageError("broke off"), answers=False)
