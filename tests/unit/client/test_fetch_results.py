"""Fetching results when one of them cannot be downloaded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from leruli.errors import BucketMissingError, StorageError
from leruli.jobs.fetch import fetch
from leruli.storage.store import Downloaded, Store, StoredObject


class OddStore:
    """A FAKE store: one object raises, the others are there."""

    def __init__(self, error: StorageError, answers: bool) -> None:
        self.error = error
        self.answers = answers
        self.metadata: dict[str, str] = {}

    def has_bucket(self, bucket: str) -> bool:
        if not self.answers:
            raise StorageError("The object storage did not answer.")
        return True

    def download(
        self, bucket: str, item: StoredObject, path: Path, advance: Callable[[int], None]
    ) -> Downloaded:
        if item.name == "odd":
            raise self.error
        path.write_bytes(b"x" * item.size)
        return Downloaded(hashlib.sha256(path.read_bytes()).hexdigest(), self.metadata)


ITEMS = [StoredObject(name, 1, None) for name in ("a", "odd", "z")]


def run(tmp_path: Path, error: StorageError, answers: bool = True) -> dict[str, str]:
    store = cast(Store, OddStore(error, answers))
    fetched = fetch(store, "bucket", ITEMS, str(tmp_path))
    assert fetched.files == ["a", "z"]
    return fetched.refused


def test_a_missing_object_does_not_stop_the_others(tmp_path: Path) -> None:
    assert run(tmp_path, StorageError("No such key.")) == {"odd": "No such key."}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "z"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("LERULI.BUCKET", "the client needs"),
        ("Leruli.Job", "the client needs"),
        ("leruli.history/x/leruli.job", "the client needs"),
        ("leruli.batch-0123", "the client needs"),
        (".git/config", "Git would"),
        ("src/.GIT/hooks/post-checkout", "Git would"),
        (".g\u200cit/config", "Git would"),
        (".git ./config", "Git would"),
        (".git::$INDEX_ALLOCATION/config", "Git would"),
        ("GIT~1/config", "Git would"),
    ],
)
def test_names_that_another_program_would_take_for_its_own(
    tmp_path: Path, name: str, why: str
) -> None:
    """Found beside H9: a result must neither become a command nor change the bucket to purge."""
    store = cast(Store, OddStore(StorageError("odd"), True))
    fetched = fetch(store, "bucket", [StoredObject(name, 1, None), ITEMS[0]], str(tmp_path))
    assert fetched.files == ["a"]
    assert why in fetched.refused[name]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_ordinary_names_are_fetched(tmp_path: Path) -> None:
    names = [".gitignore", ".envrc", "git", "sub/leruli.job", "leruli.log", "A", "a"]
    store = cast(Store, OddStore(StorageError("odd"), True))
    fetched = fetch(store, "bucket", [StoredObject(n, 1, None) for n in names], str(tmp_path))
    assert (fetched.files, fetched.refused) == (names, {})


def test_names_that_differ_in_case_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A FAKE of a file system that ignores case, which this kernel may not have."""
    monkeypatch.setattr("leruli.folder.object_paths.ignores_case", lambda _: True)
    store = cast(Store, OddStore(StorageError("odd"), True))
    items = [StoredObject(name, 1, None) for name in ("Energy", "energy", "z")]
    fetched = fetch(store, "bucket", items, str(tmp_path))
    assert fetched.files == ["Energy", "z"]
    assert "take it for Energy" in fetched.refused["energy"]


def test_fetching_ends_when_the_store_is_away(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="away"):
        run(tmp_path, BucketMissingError("away"))
    with pytest.raises(StorageError, match="did not answer"):
        run(tmp_path, StorageError("broke off"), answers=False)
