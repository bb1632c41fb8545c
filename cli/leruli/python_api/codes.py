"""The images of the group, from Python."""

from __future__ import annotations

from leruli import settings
from leruli.api import Service
from leruli.images import (
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
from leruli.storage import Store


def task_publish_code(code: str, version: str, *, replace: bool | None = None) -> None:
    """Publish the image code:version of this machine's Docker for the group.

    It can be used when the upload is complete; one that breaks off leaves nothing.

    Parameters
    ----------
    code
        The name of the image, in small letters, without "/".
    version
        Its tag, without "-".
    replace
        Of an image that is published already. True: replace it for the whole group. False: refuse.
        None: replace it with a warning, as the published client did without one.

    Raises
    ------
    TypeError
        An argument is of the wrong type.
    NotFoundError
        Docker has no such image.
    RefusedError
        Docker does not answer; or the image cannot be published; or no job could run it: its
        version is "latest", or it has no /bin/sh; or it is published and `replace` is False.
    SettingsError, ServiceError, StorageError
        A setting, the queue, or the object storage.

    Warns
    -----
    LeruliWarning
        A published image is replaced, and `replace` was not given.
    """
    settings.require(settings.ALL)
    code, version = as_text("code", code), as_text("version", version)
    check_publishable(code, version)
    store = Store(settings.storage_settings())
    with Service(settings.service_settings()) as service:
        tokens = ImageTokens(service)
        published = find_code(store, tokens, code, version)
        if replace is False:
            check_replacement(published, "replace=True")
        elif published is not None and replace is None:
            warn(f"Replacing {published}: jobs that start from then on run the new image.")
        publish_code(store, tokens, code, version)


def task_unpublish_code(code: str, version: str) -> None:
    """Delete a published image of the group, for good. Nothing is asked.

    Jobs that wait for it fail, unless a machine still has it from an earlier job. What runs goes
    on.

    Parameters
    ----------
    code, version
        The image, as `task_list_codes` has it.

    Raises
    ------
    TypeError
        An argument is of the wrong type.
    NotFoundError
        It is not published.
    SettingsError, ServiceError, StorageError
        A setting, the queue, or the object storage.
    """
    settings.require(settings.ALL)
    code, version = as_text("code", code), as_text("version", version)
    with Service(settings.service_settings()) as service:
        unpublish_code(Store(settings.storage_settings()), ImageTokens(service), code, version)


def task_list_codes() -> list[tuple[str, str]]:
    """Return the images of the group.

    Returns
    -------
    list of tuple
        Pairs of code and version, in order.

    Raises
    ------
    SettingsError, ServiceError, StorageError
        A setting, the queue, or the object storage.
    """
    return [(one.code, one.version) for one in task_list_images()]


def task_list_images() -> list[PublishedCode]:
    """Return the images of the group, with size and time.

    Returns
    -------
    list of PublishedCode
        `code`, `version`, `size` (bytes, compressed), `published` (a datetime, or None).

    Raises
    ------
    SettingsError, ServiceError, StorageError
        A setting, the queue, or the object storage.
    """
    settings.require(settings.ALL)
    with Service(settings.service_settings()) as service:
        return list_codes(Store(settings.storage_settings()), ImageTokens(service))
