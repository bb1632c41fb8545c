"""Publishing an image of the local Docker for the group, and listing what is published."""

from __future__ import annotations

import functools
import gzip
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import IO, TYPE_CHECKING, cast

from leruli.errors import BucketMissingError, NotFoundError, RefusedError, UnknownCallError
from leruli.wording import did_you_mean

if TYPE_CHECKING:
    from leruli.service.queue_client import QueueClient
    from leruli.storage.store import Store

_SUFFIX = ".tgz"

# The service's rule for images of jobs, without "-" in the version. The name of the stored object
# separates code and version by the last "-".
_CODE = re.compile(r"(?=.{1,63}$)[a-z0-9]+([._-][a-z0-9]+)*")
_VERSION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.]{0,62}")

# Layers are large, and a fast level compresses them well enough. Measured with psi4's image on one
# core: isal level 2 makes 249 MB/s and 0.367 of the size, zlib level 3 37 MB/s and 0.347.
_ISAL_LEVEL = 2
_ZLIB_LEVEL = 3
_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class PublishedCode:
    """An image that the group can run."""

    code: str
    version: str
    size: int  #: bytes, compressed
    published: datetime | None

    def __str__(self) -> str:
        since = f" of {self.published.astimezone():%Y-%m-%d %H:%M}" if self.published else ""
        return f"{self.code}:{self.version}{since} ({self.size / 1e6:,.1f} MB)"


def image_bucket(group_token: str) -> str:
    """Return the bucket of the group's images."""
    return f"code-{group_token}"


class ImageTokens:
    """The tokens that name the group's buckets of images, fetched when they are needed.

    Usually there is one, the group token. After a rotation whose images have not moved yet, older
    buckets hold images too.
    """

    def __init__(self, service: QueueClient, *, is_submitting: bool = False) -> None:
        """`is_submitting` makes the retry time that of a submission."""
        self._service = service
        self._is_submitting = is_submitting

    @functools.cached_property
    def newest(self) -> str:
        """The group token. Images are published into its bucket."""
        return self._service.group_token(is_submitting=self._is_submitting)

    @functools.cached_property
    def all(self) -> list[str]:
        """All tokens, the newest first."""
        try:
            return self._service.image_tokens(is_submitting=self._is_submitting)
        except UnknownCallError:  # the service is older than rotations of the token
            return [self.newest]


def list_codes(store: Store, tokens: ImageTokens) -> list[PublishedCode]:
    """Return the group's images, by code and version."""
    found: dict[tuple[str, str], PublishedCode] = {}
    for token in tokens.all:
        for one in _published(store, token):
            found.setdefault((one.code, one.version), one)
    return [found[key] for key in sorted(found)]


def _published(store: Store, token: str) -> Iterator[PublishedCode]:
    try:
        objects = store.list(image_bucket(token))
    except BucketMissingError:  # made when the first image is published
        return
    for item in objects:
        if item.name.endswith(_SUFFIX):
            code, dash, version = item.name[: -len(_SUFFIX)].rpartition("-")
            if dash:
                yield PublishedCode(code, version, item.size, item.modified)


def find_code(store: Store, tokens: ImageTokens, code: str, version: str) -> PublishedCode | None:
    """Return the group's image of that name, None if it is not published."""
    name = _object_name(code, version)
    found = store.find(image_bucket(tokens.newest), name)
    older = iter([] if found is not None else tokens.all[1:])
    while found is None and (token := next(older, None)) is not None:
        found = store.find(image_bucket(token), name)
    if found is None:
        return None
    return PublishedCode(code, version, found.size, found.modified)


def check_published(store: Store, tokens: ImageTokens, code: str, version: str) -> None:
    """Raise NotFoundError, with the published images, unless the group has published this one."""
    if find_code(store, tokens, code, version) is not None:
        return
    there_is = list_codes(store, tokens)
    versions = [one.version for one in there_is if one.code == code]
    codes = sorted({one.code for one in there_is})
    if versions:
        others = f"Your group has {code} with {_enumerate('version', versions)}."
    elif codes:
        others = f"Your group has no {code} at all; it has {', '.join(codes)}."
    else:
        others = "Your group has published no image yet."
    known = [f"{one.code}:{one.version}" for one in there_is]
    # For a known code the list of its versions says more.
    meant = "" if versions else did_you_mean(f"{code}:{version}", known)
    raise NotFoundError(
        f"The image {code}:{version} is not published.{meant} {others} Nothing was submitted. "
        f"`leruli publish-code {code} {version}` publishes it from a machine whose Docker has it."
    )


def local_image_size(code: str, version: str) -> int:
    """Return the bytes of an image in the local Docker, roughly those of its archive.

    Raises RefusedError if it cannot be published under its name or Docker does not answer,
    NotFoundError if it is not there.
    """
    if not _CODE.fullmatch(code):
        raise RefusedError(
            f"{code!r} cannot be published: the name may have up to 63 characters, which are small "
            "letters and digits with single '.', '_' or '-' between them, and no '/'. Give the "
            "image another name: "
            f"docker tag {code}:{version} NAME:VERSION"
        )
    if not _VERSION.fullmatch(version):
        raise RefusedError(
            f"{version!r} cannot be the version of a published image: it may have up to 63 "
            "characters, which are letters, digits, '.' and '_', but no '-', which separates name "
            "and version in the storage. Give the image another tag: "
            f" docker tag {code}:{version} {code}:{_suggest(version)}"
        )
    if version == "latest":
        raise RefusedError(
            "'latest' cannot be published: it names no version, and no job could run it. Give the "
            f"image another tag: docker tag {code}:latest {code}:VERSION"
        )
    inspected = _docker("image", "inspect", "--format", "{{.Size}}", f"{code}:{version}")
    if inspected.returncode == 0:
        return int(inspected.stdout.strip() or 0)
    if "no such image" not in inspected.stderr.lower():
        raise _docker_failed(inspected.stderr)
    raise NotFoundError(
        f"There is no image {code}:{version} in the Docker of this machine. {_what_is_there(code)}"
    )


def check_shell(code: str, version: str) -> None:
    """Raise RefusedError unless the local image has the shell that starts every job."""
    image = f"{code}:{version}"
    made = _docker("create", "--network", "none", image, "/bin/sh")
    if made.returncode != 0:
        raise _docker_failed(made.stderr)
    container = made.stdout.strip()
    with _start(
        "cp", f"{container}:/bin/sh", "-", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as copying:
        has_shell = copying.wait() == 0
    _docker("rm", container)
    if not has_shell:
        raise RefusedError(
            f"The image {image} has no /bin/sh, and no job could run in it. Build it on a base "
            "that has a shell, such as debian. Nothing was published."
        )


def check_publishable(code: str, version: str) -> int:
    """Check that jobs can run the local image; return and raise as `local_image_size` does."""
    size = local_image_size(code, version)
    check_shell(code, version)
    return size


def check_replacement(published: PublishedCode | None, option: str) -> None:
    """Raise RefusedError if an image of this name is published; `option` replaces it."""
    if published is not None:
        raise RefusedError(
            f"The image {published} is published already. Nothing was changed. {option} puts this "
            "machine's image in its place, for the whole group: jobs that start from then on run "
            "the new one. Another VERSION keeps both."
        )


def publish_code(
    store: Store,
    tokens: ImageTokens,
    code: str,
    version: str,
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Upload the local image. It appears when it is complete and replaces one of the same name.

    `advance` takes the bytes of the archive as they are sent. Call `local_image_size` first.
    """
    bucket = image_bucket(tokens.newest)
    size = local_image_size(code, version)
    store.make_bucket(bucket)
    with (
        store.writing(bucket, _object_name(code, version), size) as sink,
        _gzip_writer(sink) as packed,
        tempfile.TemporaryFile() as complaints,
        _start(
            "image", "save", f"{code}:{version}", stdout=subprocess.PIPE, stderr=complaints
        ) as saving,
    ):
        try:
            while chunk := cast("IO[bytes]", saving.stdout).read(_CHUNK):
                packed.write(chunk)
                advance(len(chunk))
        except BaseException:
            saving.kill()
            raise
        # Before the upload is completed: an incomplete archive must not be published.
        if saving.wait() != 0:
            complaints.seek(0)
            raise _docker_failed(complaints.read().decode("utf-8", "replace"))


def _gzip_writer(sink: IO[bytes]) -> gzip.GzipFile:
    """Return the fastest gzip writer of this machine."""
    try:
        from isal import igzip
    except ImportError:  # there is no wheel for this kind of machine
        return gzip.GzipFile("", "wb", _ZLIB_LEVEL, sink, mtime=0)
    writer: gzip.GzipFile = igzip.IGzipFile(  # type: ignore[no-untyped-call]
        "", "wb", _ISAL_LEVEL, sink, mtime=0
    )
    return writer


def unpublish_code(store: Store, tokens: ImageTokens, code: str, version: str) -> None:
    """Delete the group's image of that name from all buckets of images. Raises NotFoundError."""
    name = _object_name(code, version)
    buckets = [image_bucket(token) for token in tokens.all]
    holding = [bucket for bucket in buckets if store.find(bucket, name) is not None]
    if not holding:
        raise NotFoundError(
            f"The image {code}:{version} is not published. `leruli list-codes` lists what is."
        )
    for bucket in holding:
        store.remove(bucket, name)


def _object_name(code: str, version: str) -> str:
    return f"{code}-{version}{_SUFFIX}"


def _enumerate(noun: str, items: list[str]) -> str:
    return f"{noun}{'' if len(items) == 1 else 's'} {', '.join(items)}"


def _start(*arguments: str, stdout: int, stderr: object) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(["docker", *arguments], stdout=stdout, stderr=stderr)  # type: ignore[call-overload, no-any-return]
    except OSError:
        raise _no_docker() from None


def _docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["docker", *arguments], capture_output=True, text=True, errors="replace", check=False
        )
    except OSError:
        raise _no_docker() from None


def _no_docker() -> RefusedError:
    return RefusedError(
        "The command `docker` cannot be run. Publishing needs Docker on this machine (rootless is "
        "fine): install it, or publish from a machine that has it."
    )


def _docker_failed(complaint: str) -> RefusedError:
    text = " ".join(complaint.split())
    lowered = text.lower()
    if "permission denied" in lowered:
        advice = "You may not use Docker here: join the group `docker`, or use rootless Docker."
    elif "cannot connect" in lowered or "is the docker daemon running" in lowered:
        advice = "Docker is not running, or DOCKER_HOST points elsewhere: start it and try again."
    else:
        advice = "Nothing was published."
    return RefusedError(f"Docker failed: {text or 'without a message.'} {advice}")


def _what_is_there(code: str) -> str:
    listed = _docker("image", "ls", "--format", "{{.Tag}}", code)
    tags = sorted({tag for tag in listed.stdout.split() if tag != "<none>"})
    if tags:
        return f"It has {code} with {_enumerate('tag', tags)}."
    return f"It has no image named {code} at all; `docker image ls` shows what it has."


def _suggest(version: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.]", "_", version).lstrip(".")[:63] or "1"
