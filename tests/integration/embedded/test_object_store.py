"""The S3 server of the one-machine stack, by itself: who knows no bucket's name finds none."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3
from minio import Minio
from minio.error import S3Error

from leruli_queue.embedded import object_store
from leruli_queue.embedded.folders import Folders
from leruli_queue.embedded.kept import Kept, choose_ports
from leruli_queue.embedded.processes import Part
from leruli_queue.embedded.programs import find_programs

BUCKET = "a-bucket-that-nobody-can-guess"


@pytest.fixture
def kept() -> Kept:
    kept = Kept(group_token="lqg-test")
    choose_ports(kept, wanted_service_port=None)
    return kept


@pytest.fixture
def gateway(tmp_path: Path, kept: Kept) -> Iterator[Part]:
    folders = Folders(tmp_path)
    folders.make()
    programs = find_programs(node=False)
    object_store.write_users(folders, kept)
    users = object_store.iam_part(folders, kept, programs)
    users.start()
    users.wait_until(object_store.private_socket(folders).exists, seconds=30)
    part = object_store.gateway_part(folders, kept, programs)
    part.start()
    part.wait_until(lambda: object_store.answers(kept), seconds=30)
    yield part
    part.stop()
    users.stop()


def client(kept: Kept) -> Minio:
    return Minio(
        object_store.url(kept).removeprefix("http://"),
        access_key=kept.object_store_access,
        secret_key=kept.object_store_secret,
        secure=False,
        http_client=urllib3.PoolManager(retries=False),
    )


def test_buckets_cannot_be_listed(kept: Kept, gateway: Part) -> None:
    client(kept).make_bucket(BUCKET)
    client(kept).put_object(BUCKET, "out/energy", io.BytesIO(b"-76"), 3)
    with pytest.raises(S3Error, match="AccessDenied") as refused:
        client(kept).list_buckets()
    assert BUCKET not in str(refused.value)
    # What the bucket holds can be listed by who knows its name.
    names = [item.object_name for item in client(kept).list_objects(BUCKET, recursive=True)]
    assert names == ["out/energy"]


def test_the_bucket_of_images_is_made_once(kept: Kept, gateway: Part) -> None:
    object_store.make_code_bucket(kept)
    object_store.make_code_bucket(kept)
    assert client(kept).bucket_exists("code-lqg-test")


def test_a_bucket_is_emptied_and_removed(kept: Kept, gateway: Part) -> None:
    store = client(kept)
    store.make_bucket(BUCKET)
    for name in ("joblog.txt", "out/energy"):
        store.put_object(BUCKET, name, io.BytesIO(b"x"), 1)
    for name in ("joblog.txt", "out/energy"):
        store.remove_object(BUCKET, name)
    store.remove_bucket(BUCKET)
    assert not store.bucket_exists(BUCKET)
