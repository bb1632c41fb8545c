"""Images: loaded once, current, and with a clear error if they are wrong."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import tarfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker
import pytest
from fork_server import ForkServer
from node_fake_service import FakeService
from node_input import PLAIN_IMAGE, save_image
from node_rig import Rig, wait_for
from node_store import Store
from slow_docker import SlowDocker
from slow_store import SlowStore

from leruli_node.container.docker_engine import DockerEngine
from leruli_node.identity import NodeIdentity
from leruli_node.images.cache import ImageCache


def build(rig: Rig, name: str, shell: bool = True, text: str = "x") -> bytes:
    """Return an archive of a new image `name`, made from the plain one or from nothing."""
    api = docker.from_env()
    repository, tag = name.rsplit(":", 1)
    if shell:
        container = api.containers.create(PLAIN_IMAGE, ["true"])
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as archive:
            member = tarfile.TarInfo("version.txt")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
        container.put_archive("/", data.getvalue())
        container.commit(repository, tag)
        container.remove()
    else:
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("nothing"))
        data.seek(0)
        api.api.import_image_from_data(data.getvalue(), repository=repository, tag=tag)
    try:
        return save_image(name, name)
    finally:
        api.images.remove(name)


def loads(rig: Rig) -> int:
    return rig.log.count("loaded an image")


def test_loaded_once_by_eight_waiting_stage_ins(rig: Rig) -> None:
    # With a name of its own: agents of parallel tests may be loading the usual one.
    rig.publish("once", "1", save_image(PLAIN_IMAGE, "once:1"))
    jobs = [rig.job(code="once") for _ in range(8)]
    tasks = [rig.stage("in", job) for job in jobs]
    assert [task.wait(90) for task in tasks] == [0] * 8
    assert loads(rig) == 1
    names = [n for i in rig.docker.images.list() for n in i.tags]
    assert f"{rig.service.prefix}/once:1" in names
    assert "once:1" not in names


def test_an_existing_name_keeps_its_image(rig: Rig) -> None:
    other = build(rig, "node-test-own:1", text="other")
    mine = rig.docker.images.get(PLAIN_IMAGE)
    mine.tag("node-test-own", "1")
    try:
        rig.publish("node-test-own", "1", other)
        job = rig.job("cat /version.txt", code="node-test-own")
        rig.run(job)
        assert rig.store.get(job.bucket, "joblog.txt") == b"other"
        assert rig.docker.images.get("node-test-own:1").id == mine.id
    finally:
        rig.docker.images.remove("node-test-own:1")


def test_republished_under_the_same_version(rig: Rig) -> None:
    """M4: the image that was published before does not stay without a name."""
    images = []
    for text in ("first", "second"):
        rig.publish("again", "1.0", build(rig, "again:1.0", text=text))
        job = rig.job("cat /version.txt", code="again", version="1.0")
        assert rig.run(job)["outcome"] == "ended"
        assert rig.store.get(job.bucket, "joblog.txt").decode() == text
        images.append(rig.docker.images.get(f"{rig.service.prefix}/again:1.0").id)
    with pytest.raises(docker.errors.ImageNotFound):
        rig.docker.images.get(images[0])
    markers = [
        n
        for i in rig.docker.images.list()
        for n in i.tags
        if n.startswith(f"{rig.service.prefix}-etag/again:")
    ]
    assert len(markers) == 1


def test_current_again_after_a_restart(rig: Rig) -> None:
    rig.run(rig.job())
    rig.kill()
    rig.start()
    rig.run(rig.job())
    assert loads(rig) == 1


def test_unknown_image(rig: Rig) -> None:
    rig.publish("psi4", "1.5", b"x")
    rig.publish("psi4-dev", "9", b"x")
    job = rig.job(code="psi4", version="1.6")
    assert rig.stage_in(job) != 0
    assert rig.stage_out(job) == 0
    receipt = rig.receipt(job)
    assert receipt["outcome"] == "image_unknown"
    assert receipt["message"] == "image psi4:1.6 is not published; psi4 has 1.5"
    assert b"psi4 has 1.5" in rig.store.get(job.bucket, "joberr.txt")


def test_broken_image(rig: Rig) -> None:
    whole = save_image(PLAIN_IMAGE, "half:1")
    rig.publish("half", "1", whole[: len(whole) // 2])
    rig.publish("text", "1", b"this is no image")
    for code in ("half", "text"):
        job = rig.job(code=code)
        assert rig.stage_in(job) != 0
        assert rig.stage_out(job) == 0
        assert rig.receipt(job)["outcome"] == "image_broken", rig.receipt(job)


def test_image_without_a_shell(rig: Rig) -> None:
    rig.publish("bare", "1", build(rig, "bare:1", shell=False))
    job = rig.job(code="bare")
    assert rig.stage_in(job) != 0
    assert rig.stage_out(job) == 0
    assert rig.receipt(job)["message"] == "image bare:1 has no /bin/sh, which jobs need"


def test_an_archive_that_is_no_image_in_any_way(rig: Rig) -> None:
    """H6: Docker's error for each of these is known, so the job need not run elsewhere."""
    for code, archive in {
        "empty": b"",
        "gzip": gzip.compress(b"x" * 10_000),
        "torn": gzip.compress(os.urandom(100_000))[:50_000],
        "odd": packed({"manifest.json": b"{"}),
        "lacking": packed({"manifest.json": b'[{"Config":"c.json","Layers":["l.tar"]}]'}),
        "else": packed({"readme.txt": b"no image"}),
    }.items():
        rig.publish(code, "1", archive)
        job = rig.job(code=code)
        assert rig.stage_in(job) != 0
        assert rig.stage_out(job) == 0
        assert rig.receipt(job)["outcome"] == "image_broken", (code, rig.receipt(job))


def packed(files: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return data.getvalue()


def test_temporary_trouble_of_docker_is_no_broken_image(
    tmp_path: Path, node_store: Store, agents: ForkServer, plain_archive: bytes
) -> None:
    """H6: Docker cannot load now, and can at the next try. Its answer is a FAKE."""
    with (
        SlowDocker(tmp_path / "docker.sock") as slow,
        other_rig(tmp_path, node_store, agents) as rig,
    ):
        rig.publish("plain", "1", plain_archive)
        rig.settings["LERULI_NODE_DOCKER_SOCKET"] = str(slow.path)
        rig.start()
        for text in (
            "Error processing tar file(exit status 1): write /lib/x: disk quota exceeded",
            "fork/exec /usr/bin/unpigz: resource temporarily unavailable",
            "context canceled",
            "Error processing tar file(exit status 1): read /x: input/output error: unexpected EOF",
        ):
            slow.refusal = text
            job = rig.job()
            assert rig.stage_in(job) != 0
            assert rig.stage_out(job) == 0
            receipt = rig.receipt(job)
            assert receipt["outcome"] == "node_trouble", receipt
            assert text[:20] in receipt["message"]
        assert slow.refused == 4
        slow.refusal = None
        assert rig.run(rig.job())["outcome"] == "ended"


def test_a_slow_image_delays_no_other(
    tmp_path: Path, node_store: Store, agents: ForkServer, plain_archive: bytes
) -> None:
    """M9: other images are loaded in the meantime, and a cancelled attempt ends at once."""
    with (
        SlowStore(node_store.url, "slow-1.tgz") as slow,
        other_rig(tmp_path, node_store, agents) as rig,
    ):
        rig.settings["LERULI_S3_SERVER"] = slow.url
        rig.publish("slow", "1", plain_archive)
        rig.publish("quick", "1", save_image(PLAIN_IMAGE, "quick:1"))
        rig.start()
        first, second = rig.job(code="slow"), rig.job(code="slow")
        tasks = [rig.stage("in", job) for job in (first, second)]
        wait_for(lambda: slow.held == 1, what="a download that stands still")
        assert rig.run(rig.job(code="quick"))["outcome"] == "ended"
        assert rig.stage_out(first, 10) == 0
        assert rig.receipt(first)["outcome"] == "stopped"
        assert tasks[1].poll() is None
        slow.release()
        assert tasks[1].wait(60) == 0
        assert slow.held == 1


def test_unused_images_are_removed_when_the_disk_is_full(rig: Rig) -> None:
    """M4: an agent whose disk never has enough free space removes all unused images."""
    rig.publish("idle", "1", build(rig, "idle:1", text="idle"))
    rig.run(rig.job(code="idle"))
    job = rig.job("until test -e /tmp/go; do sleep 0.1; done")
    assert rig.stage_in(job) == 0
    container = rig.run_container(job)
    rig.kill()
    rig.settings["LERULI_NODE_IMAGE_FREE_MB"] = str(10**12)
    rig.start()
    here = {name for image in rig.docker.api.images() for name in image["RepoTags"] or []}
    assert f"{rig.service.prefix}/idle:1" in here

    def names() -> set[str]:
        # Not images.list(): it inspects each image, and the tests beside this one remove theirs.
        tags = {name for image in rig.docker.api.images() for name in image["RepoTags"] or []}
        return {name for name in tags if name.startswith(rig.service.prefix)}

    wait_for(lambda: not any("idle" in name for name in names()), what="a sweep")
    assert f"{rig.service.prefix}/plain:1" in names()
    assert container.exec_run(["touch", "/tmp/go"]).exit_code == 0
    container.wait(timeout=30)
    assert rig.stage_out(job) == 0
    assert rig.receipt(job)["outcome"] == "ended"


def test_images_are_removed_by_their_last_use(tmp_path: Path, rig: Rig) -> None:
    """M4: also after a restart; images that were replaced go first."""
    prefix = f"{rig.service.prefix}-lru"
    engine = DockerEngine(Path("/var/run/docker.sock"))
    used: set[str] = set()

    def opened() -> ImageCache:
        identity = NodeIdentity("node", prefix)
        return ImageCache(engine, identity, tmp_path / "images.json", lambda: used, 10**12)

    cache = opened()
    for code in ("a", "b", "c", "d"):
        load(rig, build(rig, f"node-test-lru-{code}:1", text=code), f"{prefix}/{code}", "1")
        cache.used(code, "1")
    load(rig, build(rig, "node-test-lru-old:1", text="old"), f"{prefix}-etag/c", "earlier")
    cache = opened()
    cache.used("a", "1")
    used.add("c:1")
    gone = []
    with cache.being_loaded("d", "1"):
        while cache.evict_one():
            left = set(engine.image_names(prefix))
            gone.append(left)
    assert gone == [
        {f"{prefix}/{code}:1" for code in "abcd"},
        {f"{prefix}/{code}:1" for code in "acd"},
        {f"{prefix}/{code}:1" for code in "cd"},
    ]
    used.clear()
    opened().sweep()
    assert not engine.image_names(prefix)


def load(rig: Rig, archive: bytes, repository: str, tag: str) -> None:
    [image] = rig.docker.images.load(gzip.decompress(archive))
    image.tag(repository, tag)
    for name in image.tags:
        rig.docker.images.remove(name)


def test_no_disk_space_for_the_download(rig: Rig) -> None:
    """M4: reported before anything is loaded, as the node's trouble."""
    downloads = rig.node_dir / "downloads"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "x", str(downloads)], check=True)
    try:
        job = rig.job()
        assert rig.stage_in(job) != 0
        assert rig.stage_out(job) == 0
        receipt = rig.receipt(job)
        assert receipt["outcome"] == "node_trouble"
        assert receipt["message"] == "the node has no space left for the image"
    finally:
        subprocess.run(["umount", str(downloads)], check=True)
    assert rig.run(rig.job())["outcome"] == "ended"


@contextmanager
def other_rig(folder: Path, store: Store, agents: ForkServer) -> Iterator[Rig]:
    """A rig that the test itself starts."""
    token = "lqg-" + uuid.uuid4().hex[:26]
    store.client.make_bucket(f"code-{token}")
    made = Rig(folder, store, FakeService(), token, agents)
    try:
        yield made
    finally:
        made.close()
