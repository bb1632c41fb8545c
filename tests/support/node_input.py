"""The image and the run.tgz of a job in the tests of the node agent."""

from __future__ import annotations

import gzip
import io
import json
import tarfile

import docker

PLAIN_IMAGE = "leruli-test:1"
USER_IMAGE = "leruli-test-user:1"


def save_image(image: str, name: str) -> bytes:
    """Return `docker save` of an image under another name, gzipped as `leruli` publishes it.

    The name is written into the archive: parallel tests share one Docker, and their agents add and
    remove names.
    """
    saved = io.BytesIO(b"".join(docker.from_env().images.get(image).save()))
    renamed = io.BytesIO()
    with tarfile.open(fileobj=saved) as source, tarfile.open(fileobj=renamed, mode="w") as target:
        for member in source:
            content = source.extractfile(member)
            if member.name == "manifest.json":
                assert content
                manifest = json.load(content)
                manifest[0]["RepoTags"] = [name]
                data = json.dumps(manifest).encode()
                member.size, content = len(data), io.BytesIO(data)
            if member.name != "repositories":
                target.addfile(member, content)
    return gzip.compress(renamed.getvalue(), 1)


def pack(files: dict[str, bytes], command: str) -> bytes:
    """Return run.tgz as the published client makes it."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        root = tarfile.TarInfo(".")
        root.type, root.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(root)
        for name, content in {f"./{n}": c for n, c in files.items()}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        script = ("#!/bin/bash\n" + command).encode()
        member = tarfile.TarInfo("run.sh")
        member.size = len(script)
        archive.addfile(member, io.BytesIO(script))
    return data.getvalue()
