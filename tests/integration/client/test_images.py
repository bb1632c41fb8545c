"""publish-code and list-codes, against a real Docker and a real S3 server."""

import gzip
import io
import json
import subprocess
import tarfile
import uuid

import pytest


@pytest.fixture(scope="module")
def image():
    """A small image of the local Docker: (code, version)."""
    code = f"leruli-client-test-{uuid.uuid4().hex[:8]}"
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        info = tarfile.TarInfo("hello")
        info.size = 5
        tar.addfile(info, io.BytesIO(b"hello"))
    subprocess.run(
        ["docker", "import", "-", f"{code}:1.5"],
        input=layer.getvalue(),
        check=True,
        capture_output=True,
    )
    yield code, "1.5"
    subprocess.run(["docker", "image", "rm", f"{code}:1.5"], check=True, capture_output=True)


@pytest.mark.parametrize("prefix", ["", "task-"])
def test_publish_and_list(leruli, image, store, prefix):
    code, version = image
    done = leruli(f"{prefix}publish-code", code, version)
    assert (done.returncode, done.stderr) == (0, "")
    # The second prefix publishes the same image again.
    assert ("it replaces the one of 20" in done.stdout) == (prefix == "task-")

    done = leruli(f"{prefix}list-codes")
    assert f"{code}:{version}" in done.stdout.splitlines()
    listed = json.loads(leruli("list-codes", "--json").stdout)
    assert {"code": code, "version": version}.items() <= {
        key: value for one in listed if one["code"] == code for key, value in one.items()
    }.items()

    import leruli as module

    assert (code, version) in module.task_list_codes()
    from client_tests_fake_service import GROUP_TOKEN

    response = store._minio.get_object(f"code-{GROUP_TOKEN}", f"{code}-{version}.tgz")
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(response.read()))) as saved:
        manifest = json.load(saved.extractfile("manifest.json"))
    assert manifest[0]["RepoTags"] == [f"{code}:{version}"]


def test_absent_image_names_the_tags_there_are(leruli, image):
    done = leruli("publish-code", image[0], "1.6")
    assert done.returncode == 4
    assert "1.5" in done.stderr
    done = leruli("publish-code", "leruli-no-such-image", "1")
    assert done.returncode == 4
    assert "docker image ls" in done.stderr


def test_names_that_cannot_be_published(leruli, service):
    done = leruli("publish-code", "psi4", "1.5-rc1")
    assert done.returncode == 1
    assert "psi4:1.5_rc1" in done.stderr
    assert leruli("publish-code", "group/psi4", "1.5").returncode == 1
    assert service.calls == []


def test_docker_that_is_not_running(leruli, tmp_path, image):
    done = leruli("publish-code", *image, DOCKER_HOST=f"unix://{tmp_path}/none.sock")
    assert done.returncode == 1
    assert "not running" in done.stderr
    done = leruli("publish-code", *image, PATH=str(tmp_path))
    assert done.returncode == 1
    assert "`docker` cannot be run" in done.stderr


def test_nothing_is_published_when_docker_breaks_off(leruli, tmp_path, image, store):
    """With a FAKE docker command, which says yes and then dies in the middle of the archive."""
    fake = tmp_path / "docker"
    fake.write_text(
        '#!/bin/sh\nif [ "$2" = inspect ]; then echo 1000000; exit 0; fi\n'
        "head -c 40000000 /dev/urandom; echo disk full >&2; exit 1\n"
    )
    fake.chmod(0o755)
    done = leruli("publish-code", "broken", "1", PATH=f"{tmp_path}:/usr/bin:/bin")
    assert done.returncode == 1
    assert "disk full" in done.stderr
    assert "broken:1" not in leruli("list-codes").stdout
    from client_tests_fake_service import GROUP_TOKEN

    assert store._minio._list_multipart_uploads(f"code-{GROUP_TOKEN}").uploads == []


def test_no_code_yet(leruli, environment, service, monkeypatch):
    import client_tests_fake_service as fake

    monkeypatch.setattr(fake, "GROUP_TOKEN", "lqg-aaaaaaaaaa-abcdefghijklmnopqrstuvwxyz-2222222")
    done = leruli("list-codes")
    assert (done.returncode, done.stdout) == (0, "")
    assert "publish-code" in done.stderr
    assert "lqg-" not in done.stderr
