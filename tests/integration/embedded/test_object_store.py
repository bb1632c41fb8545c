"""The S3 server of the one-machine stack, by itself: who knows no bucket's name finds none."""

from __future__ import annotations

import io
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3
from minio import Minio

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
    part = object_store.gateway_part(folders, kept, find_programs(node=False))
    part.start()
    part.wait_until(lambda: object_store.answers(kept), seconds=30)
    yield part
    part.stop()


def client(kept: Kept) -> Minio:
    return Minio(
        object_store.url(kept).removeprefix("http://"),
        access_key=kept.object_store_access,
        secret_key=kept.object_store_secret,
        secure=False,
        http_client=urllib3.PoolManager(retries=False),
    )


def check_that_nothing_is_listed(kept: Kept) -> None:
    with pytest.raises(Exception, match="InternalError") as refused:
        client(kept).list_buckets()
    assert BUCKET not in str(refused.value)
    # What the bucket holds can be listed by who knows its name.
    names = [item.object_name for item in client(kept).list_objects(BUCKET, recursive=True)]
    assert names == ["out/energy"]


def test_buckets_cannot_be_listed(tmp_path: Path, kept: Kept, gateway: Part) -> None:
    client(kept).make_bucket(BUCKET)
    client(kept).put_object(BUCKET, "out/energy", io.BytesIO(b"-76"), 3)
    check_that_nothing_is_listed(kept)

    assert gateway.process is not None
    gateway.process.kill()
    gateway.process.wait()
    gateway.start()  # as the stack does with a part that ended
    check_that_nothing_is_listed(kept)

    gateway.stop()
    mode = stat.S_IMODE((tmp_path / "objects").stat().st_mode)
    assert mode == 0o700, "who backs it up can read it"
    assert [path.name for path in (tmp_path / "objects").iterdir()] == [BUCKET]


def test_the_bucket_of_images_is_made_once(kept: Kept, gateway: Part) -> None:
    object_store.make_code_bucket(kept)
    object_store.make_code_bucket(kept)
    assert client(kept).bucket_exists("code-lqg-test")
