"""A real S3 server with a client, for the tests of the node agent."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import urllib3
from minio import Minio
from objects_world import S3Server, running_objects


@dataclass
class Store:
    url: str
    access: str
    secret: str
    client: Minio

    @classmethod
    def of(cls, server: S3Server) -> Store:
        """Return the store of a running server, with its present key."""
        pool = urllib3.PoolManager(maxsize=16, retries=urllib3.Retry(total=3))
        client = Minio(
            server.url.removeprefix("http://"),
            access_key=server.access,
            secret_key=server.secret,
            secure=False,
            http_client=pool,
        )
        return cls(server.url, server.access, server.secret, client)

    def bucket(self) -> str:
        name = str(uuid.uuid4())
        self.client.make_bucket(name)
        return name

    def put(self, bucket: str, name: str, data: bytes) -> None:
        self.client.put_object(bucket, name, io.BytesIO(data), len(data))

    def get(self, bucket: str, name: str) -> bytes:
        response = self.client.get_object(bucket, name)
        try:
            return bytes(response.read())
        finally:
            response.close()
            response.release_conn()

    def names(self, bucket: str) -> set[str]:
        return {str(o.object_name) for o in self.client.list_objects(bucket, recursive=True)}


@contextmanager
def running_store(folder: Path) -> Iterator[Store]:
    with running_objects(folder) as server:
        yield Store.of(server)
