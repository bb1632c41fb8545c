"""publish-code and list-codes, against a real Docker and a real S3 server."""

import contextlib
import gzip
import io
import json
import os
import subprocess
import tarfile
import uuid
import warnings
from pathlib import Path

import pytest

CLI = Path(__file__).parents[3] / "cli"


@contextlib.contextmanager
def local_image(code, version, *files):
    """A small image of the local Docker, with these files."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for name in files:
            info = tarfile.TarInfo(name)
            info.size = 5
            tar.addfile(info, io.BytesIO(b"hello"))
    name = f"{code}:{version}"
    subprocess.run(
        ["docker", "import", "-", name], input=layer.getvalue(), check=True, capture_output=True
    )
    yield code, version
    subprocess.run(["docker", "image", "rm", name], check=True, capture_output=True)


@pytest.fixture(scope="module")
def image():
    """A small image of the local Docker: (code, version)."""
    with local_image(f"leruli-client-test-{uuid.uuid4().hex[:8]}", "1.5", "bin/sh") as made:
        yield made


def test_publish_list_replace_and_unpublish(leruli, image, store):
    code, version = image
    done = leruli("publish-code", code, version)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"Published {code}:{version}.\n"
    check_published(leruli, store, code, version)
    objects = store.list(bucket_of_images())

    refused = leruli("task-publish-code", f"{code}:{version}")
    assert refused.returncode == 1
    assert f"The image {code}:{version} of 20" in refused.stderr
    assert "--replace" in refused.stderr
    assert store.list(bucket_of_images()) == objects

    done = leruli("publish-code", "--replace", f"{code}:{version}")
    assert done.returncode == 0, done.stderr
    assert f"Replacing {code}:{version} of 20" in done.stderr
    assert json.loads(leruli("publish-code", "--replace", code, version, "--json").stdout) == {
        "code": code,
        "version": version,
        "replaced": True,
    }

    assert leruli("unpublish-code", code, version).returncode == 2  # nobody is there to answer
    assert f"{code}:{version}" in leruli("list-codes").stdout
    done = leruli("unpublish-code", "--yes", f"{code}:{version}")
    assert (done.returncode, done.stdout) == (0, f"Unpublished {code}:{version}.\n")
    assert f"{code}:{version}" not in leruli("list-codes").stdout
    assert leruli("unpublish-code", "--yes", code, version).returncode == 4


def test_an_image_is_published_without_a_wheel_of_isal(leruli, image, store, tmp_path):
    """FAKE: an isal that cannot be imported, as on a machine for which there is no wheel."""
    code, version = image
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "isal.py").write_text("raise ImportError('no wheel')")
    path = os.pathsep.join([str(tmp_path / "without"), str(CLI)])
    done = leruli("publish-code", code, version, PYTHONPATH=path)
    assert (done.returncode, done.stderr) == (0, "")
    check_published(leruli, store, code, version)
    assert leruli("unpublish-code", "--yes", code, version).returncode == 0


def bucket_of_images():
    from client_fake_service import GROUP_TOKEN

    return f"code-{GROUP_TOKEN}"


def check_published(leruli, store, code, version):
    done = leruli("task-list-codes")
    assert f"{code}:{version}" in done.stdout.splitlines()
    listed = json.loads(leruli("list-codes", "--json").stdout)
    assert {"code": code, "version": version}.items() <= {
        key: value for one in listed if one["code"] == code for key, value in one.items()
    }.items()

    import leruli as module

    assert (code, version) in module.task_list_codes()
    response = store._minio.get_object(bucket_of_images(), f"{code}-{version}.tgz")
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(response.read()))) as saved:
        manifest = json.load(saved.extractfile("manifest.json"))
    assert manifest[0]["RepoTags"] == [f"{code}:{version}"]


def test_an_absent_image_names_the_existing_tags(leruli, image):
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


def test_an_image_that_no_job_could_run_is_not_published(leruli, service):
    """D12: both were uploaded, and every job with them failed."""
    code = f"leruli-client-test-{uuid.uuid4().hex[:8]}"
    with local_image(code, "1", "hello"), local_image(code, "latest", "bin/sh"):
        done = leruli("publish-code", code, "1")
        assert done.returncode == 1
        assert "has no /bin/sh" in done.stderr
        done = leruli("publish-code", code, "latest")
        assert done.returncode == 1
        assert f"docker tag {code}:latest {code}:VERSION" in done.stderr
        left = subprocess.run(
            ["docker", "ps", "-aq", "--filter", f"ancestor={code}:1"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert left.stdout == ""
    assert service.calls == []


def test_docker_that_is_not_running(leruli, tmp_path, image):
    done = leruli("publish-code", *image, DOCKER_HOST=f"unix://{tmp_path}/none.sock")
    assert done.returncode == 1
    assert "not running" in done.stderr
    done = leruli("publish-code", *image, PATH=str(tmp_path))
    assert done.returncode == 1
    assert "`docker` cannot be run" in done.stderr


def test_nothing_is_published_when_docker_breaks_off(leruli, tmp_path, image, store):
    """A FAKE docker command accepts the checks and then dies in the middle of the archive."""
    fake = tmp_path / "docker"
    fake.write_text(
        '#!/bin/sh\nif [ "$2" = inspect ]; then echo 1000000; exit 0; fi\n'
        '[ "$1" != image ] && exit 0\n'
        "head -c 40000000 /dev/urandom; echo disk full >&2; exit 1\n"
    )
    fake.chmod(0o755)
    done = leruli("publish-code", "broken", "1", PATH=f"{tmp_path}:/usr/bin:/bin")
    assert done.returncode == 1
    assert "disk full" in done.stderr
    assert "broken:1" not in leruli("list-codes").stdout
    assert store._minio._list_multipart_uploads(bucket_of_images()).uploads == []


def test_no_code_yet(leruli, environment, service, monkeypatch):
    import client_fake_service as fake

    monkeypatch.setattr(fake, "GROUP_TOKEN", "lqg-aaaaaaaaaa-abcdefghijklmnopqrstuvwxyz-2222222")
    done = leruli("list-codes")
    assert (done.returncode, done.stdout) == (0, "")
    assert "publish-code" in done.stderr
    assert "lqg-" not in done.stderr


def test_python_publishes_by_the_same_rules(environment, service, store, image):
    """The published client replaced an image silently. Now there is a warning."""
    import leruli as module

    code, version = image
    module.task_publish_code(code, version)
    [published] = [one for one in module.task_list_images() if one.code == code]
    assert (published.version, published.size > 0) == (version, True)
    assert (code, version) in module.task_list_codes()
    with pytest.raises(module.RefusedError, match="replace=True puts this machine's image"):
        module.task_publish_code(code, version, replace=False)
    with pytest.warns(module.LeruliWarning, match=f"Replacing {code}:{version} of 20"):
        module.task_publish_code(code, version)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module.task_publish_code(code, version, replace=True)
    module.task_unpublish_code(code, version)
    assert (code, version) not in module.task_list_codes()
    with pytest.raises(module.NotFoundError, match="is not published"):
        module.task_unpublish_code(code, version)


def test_python_publishes_no_image_that_no_job_could_run(environment, service):
    import leruli as module

    code = f"leruli-client-test-{uuid.uuid4().hex[:8]}"
    with local_image(code, "1", "hello"), local_image(code, "latest", "bin/sh"):
        with pytest.raises(module.RefusedError, match="has no /bin/sh"):
            module.task_publish_code(code, "1")
        with pytest.raises(module.RefusedError, match="'latest' cannot be published"):
            module.task_publish_code(code, "latest")
    assert service.calls == []
