"""The images of the group, from Python."""

from __future__ import annotations

from leruli import settings
from leruli.images.published import (
    ImageTokens,
    PublishedCode,
    check_publishable,
    check_replacement,
    find_code,
    list_codes,
    publish_code,
    unpublish_code,
)
from leruli.python_api.arguments import as_text, warn
from leruli.service.queue_client import QueueClient
from leruli.storage.store import Store


def task_publish_code(code: str, version: str, *, replace: bool | None = None) -> None:
    """Publish the image code:version of this machine's Docker for the group.

    Jobs can use the image when the upload is complete. An interrupted upload publishes nothing.

    Parameters
    ----------
    code
        The name of the image, in lower case, without "/".
    version
        Its tag, without "-".
    replace
        Whether to replace a published image, for the whole group. True: replace it. False: raise
        RefusedError. None: replace it and warn. (The published client replaces it without warning.)

    Raises
    ------
    TypeError
        An argument is of the wrong type.
    NotFoundError
        Docker has no such image.
    RefusedError
        One of these holds: Docker does not answer; the image cannot be published; no job could run
        it (its version is "latest", or it has no /bin/sh); it is published and `replace` is False.
    SettingsError, ServiceError, StorageError
        A setting is missing or wrong; or the queue or the object storage failed.

    Warns
    -----
    LeruliWarning
        A published image is replaced, and `replace` was not given.
    """
    settings.require(settings.ALL)
    code, version = as_text("code", code), as_text("version", version)
    check_publishable(code, version)
    store = Store(settings.storage_settings())
    with QueueClient(settings.service_settings()) as service:
        tokens = ImageTokens(service)
        published = find_code(store, tokens, code, version)
        if replace is False:
            check_replacement(published, "replace=True")
        elif published is not None and replace is None:
            warn(f"Replacing {published}: jobs that start from then on run the new image.")
        publish_code(store, tokens, code, version)


def task_unpublish_code(code: str, version: str) -> None:
    """Delete a published image of the group, for good, without a question.

    Jobs that wait for the image fail, unless a machine still has it from an earlier job. Running
    jobs continue.

    Parameters
    ----------
    code, version
        The image, as `task_list_codes` returns it.

    Raises
    ------
    TypeError
        An argument is of the wrong type.
    NotFoundError
        The image is not published.
    SettingsError, ServiceError, StorageError
        A setting is missing or wrong; or the queue or the object storage failed.
    """
    settings.require(settings.ALL)
    code, version = as_text("code", code), as_text("version", version)
    with QueueClient(settings.service_settings()) as service:
        unpublish_code(Store(settings.storage_settings()), ImageTokens(service), code, version)


def task_list_codes() -> list[tuple[str, str]]:
    """Return code and version of each image of the group.

    Returns
    -------
    list of tuple
        Pairs of code and version, sorted.

    Raises
    ------
    SettingsError, ServiceError, StorageError
        A setting is missing or wrong; or the queue or the object storage failed.
    """
    return [(one.code, one.version) for one in task_list_images()]


def task_list_images() -> list[PublishedCode]:
    """Return the images of the group, with size and time of publication.

    Returns
    -------
    list of PublishedCode
        `code`, `version`, `size` (bytes, compressed), `published` (datetime, or None if unknown).

    Raises
    ------
    SettingsError, ServiceError, StorageError
        A setting is missing or wrong; or the queue or the object storage failed.
    """
    settings.require(settings.ALL)
    with QueueClient(settings.service_settings()) as service:
        return list_codes(Store(settings.storage_settings()), ImageTokens(service))
