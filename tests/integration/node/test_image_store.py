"""Where a node finds images after a rotation of the group token, on a real S3 server."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from objects_world import running_objects

from leruli_node import logs
from leruli_node.image_store import ImageStore
from leruli_node.object_store import NotThere, ObjectStore
from leruli_queue.access.secrets import SecretType, make


@pytest.fixture
def objects(tmp_path: Path) -> Iterator[ObjectStore]:
    with running_objects(tmp_path) as server:
        yield ObjectStore(server.url, server.access, server.secret)


def put(objects: ObjectStore, token: str, name: str, content: bytes) -> None:
    if not objects._client.bucket_exists(f"code-{token}"):
        objects._client.make_bucket(f"code-{token}")
    objects.write(f"code-{token}", name, io.BytesIO(content), len(content))


def read(store: ImageStore, token: str, name: str) -> bytes:
    with store.read(f"code-{token}", name) as stream:
        return b"".join(stream.chunks())


def test_images_are_found_in_the_newest_bucket_that_has_them(objects: ObjectStore) -> None:
    old, new = (make(SecretType.GROUP) for _ in range(2))
    store = ImageStore(objects, logs.hide)
    with pytest.raises(NotThere) as missing:
        store.etag(f"code-{old.text}", "psi4-1.tgz")
    assert missing.value.bucket
    put(objects, old.text, "psi4-1.tgz", b"old")
    put(objects, old.text, "orca-5.tgz", b"orca")
    assert (store.key_id(), read(store, old.text, "psi4-1.tgz")) == (None, b"old")
    store.learn([new.text, old.text])
    assert (store.key_id(), read(store, old.text, "psi4-1.tgz")) == (new.key_id, b"old")
    put(objects, new.text, "psi4-1.tgz", b"new")
    assert read(store, old.text, "psi4-1.tgz") == b"new"
    assert read(store, old.text, "orca-5.tgz") == b"orca"
    assert store.names(f"code-{old.text}", "psi4-") == ["psi4-1.tgz"]
    assert store.names(f"code-{old.text}") == ["orca-5.tgz", "psi4-1.tgz"]
    with pytest.raises(NotThere) as missing:
        store.etag(f"code-{old.text}", "psi4-2.tgz")
    assert not missing.value.bucket


def test_an_answer_that_is_none_of_ours_changes_nothing(objects: ObjectStore) -> None:
    token = make(SecretType.GROUP)
    store = ImageStore(objects, logs.hide)
    store.learn([token.text])
    for nonsense in (None, [], "lqg", {"a": 1}, [1, None], ["../elsewhere"]):
        store.learn(nonsense)
        assert store.key_id() == token.key_id


def test_a_token_that_was_learnt_is_not_logged(
    objects: ObjectStore, capsys: pytest.CaptureFixture[str]
) -> None:
    before = logging.getLogger().handlers[:]
    token = make(SecretType.GROUP).text
    try:
        logs.configure("text", ())
        store = ImageStore(objects, logs.hide)
        store.learn([token])
        logging.getLogger("x").warning("it is %s", token)
    finally:
        logging.getLogger().handlers[:] = before
    sys.stderr.flush()
    said = capsys.readouterr().err
    assert "it is [secret]" in said
    assert token not in said
