"""Images: loaded once, current, and said what is wrong with them."""

from __future__ import annotations

import io
import tarfile

import docker
from node_rig import PLAIN_IMAGE, Rig, save_image


def build(rig: Rig, name: str, shell: bool = True, text: str = "x") -> bytes:
    """An archive of a new image named `name`, made from the plain one or from nothing."""
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
    # Of a name of its own: agents of tests beside this one may be loading the usual one.
    rig.publish("once", "1", save_image(PLAIN_IMAGE, "once:1"))
    jobs = [rig.job(code="once") for _ in range(8)]
    tasks = [rig.stage("in", job) for job in jobs]
    assert [task.wait(90) for task in tasks] == [0] * 8
    assert loads(rig) == 1
    names = [n for i in rig.docker.images.list() for n in i.tags]
    assert f"{rig.service.prefix}/once:1" in names
    assert "once:1" not in names


def test_a_name_that_was_there_stays_what_it_was(rig: Rig) -> None:
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
    for text in ("first", "second"):
        rig.publish("again", "1.0", build(rig, "again:1.0", text=text))
        job = rig.job("cat /version.txt", code="again", version="1.0")
        assert rig.run(job)["outcome"] == "ended"
        assert rig.store.get(job.bucket, "joblog.txt").decode() == text
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
