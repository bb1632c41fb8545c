"""In which bucket a node finds images after a rotation of the group token, on a real S3."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from minio import Minio
from objects_world import running_objects

from leruli_node import logs
from leruli_node.images.store import ImageStore
from leruli_node.objects.object_store import ObjectStore
from leruli_node.objects.store_errors import NotFoundError
from leruli_queue.access.secrets import SecretType, make


@dataclass
class World:
    """The store as an agent sees it, and as a publisher of images does."""

    objects: ObjectStore
    owner: Minio

    def put(self, token: str, name: str, content: bytes) -> None:
        if not self.owner.bucket_exists(f"code-{token}"):
            self.owner.make_bucket(f"code-{token}")
        self.owner.put_object(f"code-{token}", name, io.BytesIO(content), len(content))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with running_objects(tmp_path) as server:
        host = server.url.partition("//")[2]
        yield World(
            ObjectStore(server.url, server.access, server.secret),
            Minio(host, access_key=server.access, secret_key=server.secret, secure=False),
        )


def read(store: ImageStore, token: str, name: str) -> bytes:
    with store.read(f"code-{token}", name) as stream:
        return b"".join(stream.chunks())


def test_images_are_found_in_the_newest_bucket_that_has_them(world: World) -> None:
    old, new = (make(SecretType.GROUP) for _ in range(2))
    store = ImageStore(world.objects, logs.hide)
    with pytest.raises(NotFoundError) as missing:
        store.etag(f"code-{old.text}", "psi4-1.tgz")
    assert missing.value.bucket
    world.put(old.text, "psi4-1.tgz", b"old")
    world.put(old.text, "orca-5.tgz", b"orca")
    assert (store.key_id(), read(store, old.text, "psi4-1.tgz")) == (None, b"old")
    store.learn([new.text, old.text])
    assert (store.key_id(), read(store, old.text, "psi4-1.tgz")) == (new.key_id, b"old")
    world.put(new.text, "psi4-1.tgz", b"new")
    assert read(store, old.text, "psi4-1.tgz") == b"new"
    assert read(store, old.text, "orca-5.tgz") == b"orca"
    assert store.names(f"code-{old.text}", "psi4-") == ["psi4-1.tgz"]
    assert store.names(f"code-{old.text}") == ["orca-5.tgz", "psi4-1.tgz"]
    with pytest.raises(NotFoundError) as missing:
        store.etag(f"code-{old.text}", "psi4-2.tgz")
    assert not missing.value.bucket


def test_a_bucket_of_an_expired_token_is_not_used(world: World) -> None:
    """Issue 16, 2: a former member makes a bucket of the old token's name, which is free."""
    old, new = (make(SecretType.GROUP) for _ in range(2))
    store = ImageStore(world.objects, logs.hide)
    assert store.newest(f"code-{old.text}") == f"code-{old.text}"
    store.learn([new.text])
    assert store.newest(f"code-{old.text}") == f"code-{new.text}"
    world.put(old.text, "psi4-1.tgz", b"of a former member")
    with pytest.raises(NotFoundError):
        store.etag(f"code-{old.text}", "psi4-1.tgz")


def test_an_invalid_answer_changes_nothing(world: World) -> None:
    token = make(SecretType.GROUP)
    store = ImageStore(world.objects, logs.hide)
    store.learn([token.text])
    for nonsense in (None, [], "lqg", {"a": 1}, [1, None], ["../elsewhere"]):
        store.learn(nonsense)
        assert store.key_id() == token.key_id


def test_a_token_from_the_service_is_not_logged(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    before = logging.getLogger().handlers[:]
    token = make(SecretType.GROUP).text
    try:
        logs.configure("text", ())
        store = ImageStore(world.objects, logs.hide)
        store.learn([token])
        logging.getLogger("x").warning("it is %s", token)
    finally:
        logging.getLogger().handlers[:] = before
    sys.stderr.flush()
    said = capsys.readouterr().err
    assert "it is [secret]" in said
    assert token not in said
