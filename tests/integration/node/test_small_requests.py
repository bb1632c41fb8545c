"""The requests of a short job, on a real S3: the store answers as it answers the SDK."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest
from minio import Minio
from objects_world import running_objects

from leruli_node.objects.object_store import ObjectStore
from leruli_node.objects.small_requests import ListedObject, is_plain
from leruli_node.objects.store_errors import NotFoundError, StoreRefusedError, UnstorableError
from leruli_node.objects.upload_lease import LeaseTooOldError

REGION = "us-east-1"
BUCKET = "a-job"
METADATA = {"leruli-attempt": "ax1", "leruli-mode": "755", "leruli-mtime": "1700000000000000001"}


class Allowed:
    """A lease that allows everything."""

    def wait(self) -> None:
        """Allow."""

    def check(self) -> None:
        """Allow."""


class TooOld(Allowed):
    """A lease that ends while a request is sent."""

    def check(self) -> None:
        """Abort the request."""
        raise LeaseTooOldError


@dataclass
class World:
    """The store as an agent sees it, and as the SDK does."""

    url: str
    objects: ObjectStore
    sdk: Minio

    def has_no_sdk(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Fail if the agent uses the SDK from now on."""

        def fail(*_: object, **more: object) -> NoReturn:
            raise AssertionError("the SDK was used")

        monkeypatch.setattr(Minio, "_execute", fail)
        monkeypatch.setattr(Minio, "_url_open", fail)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with running_objects(tmp_path) as server:
        sdk = Minio(
            server.url.partition("//")[2],
            access_key=server.access,
            secret_key=server.secret,
            secure=False,
        )
        sdk.make_bucket(BUCKET)
        yield World(server.url, ObjectStore(server.url, server.access, server.secret, REGION), sdk)


def read(store: ObjectStore, bucket: str, name: str) -> bytes:
    with store.read(bucket, name) as stream:
        return b"".join(stream.chunks())


def write(store: ObjectStore, name: str, content: bytes, guard: Allowed | None = None) -> None:
    store.write(BUCKET, name, io.BytesIO(content), len(content), METADATA, guard or Allowed())


def test_a_short_job_needs_no_sdk(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytes(range(256)) * 4096
    with monkeypatch.context() as patched:
        world.has_no_sdk(patched)
        assert list(world.objects.objects(BUCKET)) == []
        write(world.objects, "joberr.txt", b"")
        write(world.objects, "of~a/job_1.out", content)
        assert read(world.objects, BUCKET, "of~a/job_1.out") == content
        listed = list(world.objects.objects(BUCKET))
        assert list(world.objects.objects(BUCKET, "of~a/j")) == listed[1:]
    by_sdk = world.sdk.list_objects(BUCKET, recursive=True)
    assert listed == [ListedObject(o.object_name, o.last_modified, o.size) for o in by_sdk]
    assert [one.name for one in listed] == ["joberr.txt", "of~a/job_1.out"]
    facts = world.sdk.stat_object(BUCKET, "of~a/job_1.out")
    assert facts.metadata is not None
    assert {key: facts.metadata[f"x-amz-meta-{key}"] for key in METADATA} == METADATA
    assert (facts.size, facts.content_type) == (len(content), "application/octet-stream")


def test_other_names_and_long_lists_are_left_to_the_sdk(world: World) -> None:
    names = ["a b+c%.txt", "ümlaut", "a//b", "plain"]
    for name in names[:2] + names[3:]:
        write(world.objects, name, name.encode())
        assert read(world.objects, BUCKET, name) == name.encode()
    listed = {item.name for item in world.objects.objects(BUCKET)}
    assert listed == {"a b+c%.txt", "ümlaut", "plain"}
    for number in range(1001):
        world.sdk.put_object(BUCKET, f"many/{number}", io.BytesIO(), 0)
    assert len(list(world.objects.objects(BUCKET))) == 1004
    for name in ("a/../../other", ".", "a/./b"):
        assert not is_plain(BUCKET, name)
        with pytest.raises(UnstorableError):
            write(world.objects, name, b"")
    for bucket in ("../a", "a/b", "a-job?x", ""):
        assert not is_plain(bucket)
        with pytest.raises(UnstorableError):
            list(world.objects.objects(bucket))


def test_refusals_have_the_reasons_of_the_sdk(world: World) -> None:
    with pytest.raises(NotFoundError) as missing:
        read(world.objects, BUCKET, "run.tgz")
    assert not missing.value.bucket
    for act in (lambda: list(world.objects.objects("no-bucket")), lambda: read_none(world)):
        with pytest.raises(NotFoundError) as missing:
            act()
        assert missing.value.bucket
    stranger = ObjectStore(world.url, "someone", "else", REGION)
    with pytest.raises(StoreRefusedError):
        list(stranger.objects(BUCKET))
    with pytest.raises(StoreRefusedError):
        write(stranger, "joblog.txt", b"log")


def read_none(world: World) -> None:
    read(world.objects, "no-bucket", "run.tgz")


def test_a_lease_that_ends_aborts_a_small_write(world: World) -> None:
    with pytest.raises(LeaseTooOldError):
        write(world.objects, "joblog.txt", b"log", TooOld())
    assert list(world.objects.objects(BUCKET)) == []


def test_a_file_that_shrank_is_not_stored(world: World) -> None:
    """Its length was announced: what is there must not become an object of another length."""
    source = io.BytesIO(b"short")
    with pytest.raises(Exception):  # noqa: B017, PT011
        world.objects.write(BUCKET, "joblog.txt", source, 50, METADATA, Allowed())
    assert list(world.objects.objects(BUCKET)) == []
