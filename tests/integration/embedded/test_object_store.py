"""The S3 server of the one-machine stack, by itself: a bucket is found only by its name."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from http.client import HTTPConnection
from urllib.parse import urlsplit

import httpx
import pytest
import urllib3
from minio import Minio
from minio.credentials import Credentials
from minio.error import MinioException, S3Error
from minio.signer import sign_v4_s3

from leruli_queue.embedded import object_store
from leruli_queue.embedded.folders import Folders
from leruli_queue.embedded.processes import Part
from leruli_queue.embedded.programs import find_programs
from leruli_queue.embedded.state import StackState, choose_ports

BUCKET = "a-bucket-that-nobody-can-guess"
HIDDEN = "a-hidden-bucket"


@pytest.fixture
def state() -> StackState:
    state = StackState(group_token="lqg-test")
    choose_ports(state, wanted_service_port=None)
    return state


@pytest.fixture
def server(folders: Folders, state: StackState) -> Iterator[Part]:
    part = object_store.part(folders, state, find_programs(node=False))
    part.start()
    part.wait_until(lambda: object_store.answers(state), seconds=30)
    yield part
    part.stop()


def client(state: StackState) -> Minio:
    return Minio(
        object_store.url(state).removeprefix("http://"),
        access_key=state.object_store_access,
        secret_key=state.object_store_secret,
        secure=False,
        http_client=urllib3.PoolManager(retries=False),
    )


def names_in(state: StackState) -> list[str]:
    found = client(state).list_objects(BUCKET, recursive=True)
    return [str(item.object_name) for item in found]


def content_of(name: str) -> bytes:
    return sha256(name.encode()).digest() * 6250


def send(
    state: StackState, method: str, target: str, *, signed: bool, making: bool = False
) -> tuple[int, str]:
    """Send a request that the SDK would not make, signed with the group's key or unsigned.

    Returns the status of the answer, and its head and body as one text.
    """
    address = object_store.url(state)
    moment, digest = datetime.now(UTC), sha256(b"").hexdigest()
    headers = {
        "Host": urlsplit(address).netloc,
        "x-amz-date": moment.strftime("%Y%m%dT%H%M%SZ"),
        "x-amz-content-sha256": digest,
    }
    if making:
        headers["X-Leruli-Make-Bucket"] = "1"
    if signed:
        headers = sign_v4_s3(
            method=method,
            url=urlsplit(address + target),
            region=object_store.REGION,
            headers=headers,
            credentials=Credentials(state.object_store_access, state.object_store_secret),
            content_sha256=digest,
            date=moment,
        )
    # Not httpx, which would normalise the target.
    with closing(HTTPConnection(urlsplit(address).netloc, timeout=10)) as connection:
        connection.request(method, target, headers=headers)
        answer = connection.getresponse()
        return answer.status, f"{answer.headers}{answer.read().decode()}"


def test_buckets_cannot_be_listed(state: StackState, server: Part) -> None:
    client(state).make_bucket(BUCKET)
    client(state).put_object(BUCKET, "out/energy", io.BytesIO(b"-76"), 3)
    with pytest.raises(S3Error, match="AccessDenied") as refused:
        client(state).list_buckets()
    assert BUCKET not in str(refused.value)
    # Who knows the bucket's name can list its objects.
    assert names_in(state) == ["out/energy"]


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/"),
        ("HEAD", "/"),
        ("GET", "//"),
        ("GET", "/?max-buckets=10&prefix=a"),
        ("GET", "/?list-type=2"),
        ("GET", "/?policy="),
        ("POST", "/"),
        ("POST", "/?Action=ListBuckets"),
        ("GET", "/%2e"),
        ("GET", "/%2e%2e?list-type=2"),
        ("GET", "/.?list-type=2"),
        ("GET", f"/{BUCKET}%2f..?list-type=2"),
        ("GET", f"/{BUCKET}/..%2f"),
        # The gateway's calls for admins, and who might be one.
        ("PATCH", "/list-buckets"),
        ("PATCH", "/list-users"),
        ("PATCH", "/create-user"),
        ("PATCH", "/delete-user?access=local"),
        ("PATCH", "/update-user?access=local"),
        ("PATCH", f"/change-bucket-owner?bucket={BUCKET}&owner=local"),
        ("PATCH", f"/{BUCKET}-2/create"),
        ("GET", "/list-buckets"),
    ],
)
def test_no_request_reveals_the_names_of_buckets(
    state: StackState, server: Part, method: str, target: str, signed: bool
) -> None:
    client(state).make_bucket(BUCKET)
    client(state).make_bucket(HIDDEN)
    status, answer = send(state, method, target, signed=signed)
    assert status in (400, 403, 404, 405, 501), answer
    assert "SignatureDoesNotMatch" not in answer, "it was refused for another reason"
    assert HIDDEN not in answer
    assert not client(state).bucket_exists(f"{BUCKET}-2")


@pytest.mark.parametrize("name", ["other", "root", "ASIALOCAL"])
def test_there_is_one_key_only(state: StackState, server: Part, name: str) -> None:
    client(state).make_bucket(BUCKET)
    stranger = client(replace(state, object_store_access=name))
    with pytest.raises(S3Error, match=r"InvalidAccessKeyId|InvalidToken"):
        stranger.make_bucket(HIDDEN)
    forger = client(replace(state, object_store_secret="guessed"))
    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        forger.list_objects(BUCKET).__next__()
    assert send(state, "GET", f"/{BUCKET}?list-type=2", signed=False)[0] == 403
    assert send(state, "PUT", f"/{HIDDEN}", signed=False)[0] == 403


def test_a_large_object_comes_in_parts(state: StackState, server: Part) -> None:
    content = os.urandom(1000) * 12_000
    client(state).make_bucket(BUCKET)
    client(state).put_object(BUCKET, "large", io.BytesIO(content), -1, part_size=5 * 2**20)
    assert client(state).get_object(BUCKET, "large").read() == content
    address = client(state).presigned_get_object(BUCKET, "large")
    assert httpx.get(address, trust_env=False).content == content


def test_buckets_of_an_older_stack_stay_as_they_are(
    state: StackState, folders: Folders, server: Part
) -> None:
    # The files that versitygw with an identity service wrote, with their xattrs.
    bucket = folders.objects / BUCKET
    (bucket / ".sgwtmp").mkdir(parents=True)
    grantee = '{"Permission":"FULL_CONTROL","Access":"root","Type":"CanonicalUser"}'
    os.setxattr(bucket, "user.acl", f'{{"Owner":"root","Grantees":[{grantee}]}}'.encode())
    os.setxattr(bucket, "user.ownership", b"BucketOwnerEnforced")
    (bucket / "energy").write_bytes(b"-76")
    os.setxattr(bucket / "energy", "user.etag", b'"45a1e2ba4a8f7d7d3d8dbd23c27dc7d6"')

    store = client(state)
    with pytest.raises(S3Error, match="BucketAlreadyOwnedByYou"):
        store.make_bucket(BUCKET)
    assert store.get_object(BUCKET, "energy").read() == b"-76"
    store.put_object(BUCKET, "energy", io.BytesIO(b"-77"), 3)
    assert store.get_object(BUCKET, "energy").read() == b"-77"
    store.remove_object(BUCKET, "energy")
    store.remove_bucket(BUCKET)
    # And a new bucket has the same form.
    store.make_bucket(BUCKET)
    assert b'"Owner":"root"' in os.getxattr(bucket, "user.acl")


def test_a_bucket_is_made_by_its_first_object(
    state: StackState, folders: Folders, server: Part
) -> None:
    client(state).make_bucket(HIDDEN)
    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(
            lambda name: send(state, "PUT", f"/{BUCKET}/{name}", signed=True, making=True),
            ("a", "b", "c", "d"),
        )
        assert [status for status, _ in answers] == [200] * 4
    assert names_in(state) == ["a", "b", "c", "d"]
    made, by_itself = folders.objects / BUCKET, folders.objects / HIDDEN
    assert {name: os.getxattr(made, name) for name in os.listxattr(made)} == {
        name: os.getxattr(by_itself, name) for name in os.listxattr(by_itself)
    }


@pytest.mark.parametrize(
    ("method", "target", "signed", "making", "status"),
    [
        ("PUT", f"/{HIDDEN}/a", True, False, 404),
        ("PUT", f"/{HIDDEN}/a", False, True, 404),
        ("GET", f"/{HIDDEN}/a", True, True, 404),
        ("DELETE", f"/{HIDDEN}/a", True, True, 404),
        ("OPTIONS", f"/{HIDDEN}", False, True, 404),
        ("PUT", "/..a/a", True, True, 400),
        ("PUT", "/A_/a", True, True, 400),
    ],
)
def test_no_bucket_is_made_otherwise(
    state: StackState,
    folders: Folders,
    server: Part,
    method: str,
    target: str,
    signed: bool,
    making: bool,
    status: int,
) -> None:
    assert send(state, method, target, signed=signed, making=making)[0] == status
    assert list(folders.objects.iterdir()) == []


def test_a_kill_leaves_whole_objects_only(state: StackState, server: Part) -> None:
    client(state).make_bucket(BUCKET)
    acknowledged: list[str] = []
    enough = threading.Event()

    def put(writer: int) -> None:
        store = client(state)
        with suppress(MinioException, urllib3.exceptions.HTTPError):
            for number in range(10_000):
                name = f"{writer}-{number}"
                store.put_object(BUCKET, name, io.BytesIO(content_of(name)), 200_000)
                acknowledged.append(name)
                if len(acknowledged) > 40:
                    enough.set()

    writers = [threading.Thread(target=put, args=(writer,)) for writer in range(4)]
    for writer in writers:
        writer.start()
    assert enough.wait(60)
    assert server.process is not None
    server.process.kill()
    for writer in writers:
        writer.join()
    server.start()
    server.wait_until(lambda: object_store.answers(state), seconds=30)
    found = names_in(state)
    assert set(acknowledged) <= set(found)
    for name in found:
        assert client(state).get_object(BUCKET, name).read() == content_of(name)


def test_the_bucket_of_images_is_made_once(state: StackState, server: Part) -> None:
    object_store.make_code_bucket(state)
    object_store.make_code_bucket(state)
    assert client(state).bucket_exists("code-lqg-test")


def test_a_bucket_is_emptied_and_removed(state: StackState, server: Part) -> None:
    store = client(state)
    store.make_bucket(BUCKET)
    for name in ("joblog.txt", "out/energy"):
        store.put_object(BUCKET, name, io.BytesIO(b"x"), 1)
    for name in ("joblog.txt", "out/energy"):
        store.remove_object(BUCKET, name)
    store.remove_bucket(BUCKET)
    assert not store.bucket_exists(BUCKET)
