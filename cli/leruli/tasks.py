"""The functions of the Python module, with the signatures of the published client.

They print nothing. What goes wrong is raised as a `LeruliError`; see `leruli.errors`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

from leruli import settings
from leruli.api import Service
from leruli.batch import Case, submit_batch
from leruli.errors import LeruliError, NotFoundError
from leruli.fetching import fetch, select_results
from leruli.images import ImageTokens, check_published, list_codes, local_image_size, publish_code
from leruli.purging import purge
from leruli.storage import Store
from leruli.submitting import (
    DEFAULT_CORES,
    DEFAULT_MEMORY_MB,
    DEFAULT_TIME_S,
    Command,
    JobSpec,
    check_image,
    join_command,
    prepare,
    submit,
)

# Stands for what a too short argument of `task_submit_many` lacks.
_ABSENT: Any = object()


def task_submit(
    directory: str,
    code: str,
    version: str,
    command: Command,
    cores: int = DEFAULT_CORES,
    memorymb: int = DEFAULT_MEMORY_MB,
    timeseconds: int = DEFAULT_TIME_S,
    diskmb: int | None = None,
) -> str:
    """Submit a folder as a job and return the job id.

    `command` is one line of bash, or words that are joined with spaces. `memorymb` is in MB,
    `timeseconds` in seconds, `diskmb` in MB (None: the service's default). Leaves leruli.bucket and
    leruli.job in the folder; called again after an interruption it goes on with the former.
    """
    settings.require(settings.ALL)
    spec = JobSpec(
        code, version, join_command(command), cores, memorymb, timeseconds, diskmb=diskmb
    )
    spec.check()
    prepared = prepare(directory, spec)
    store = Store(settings.storage_settings())
    with Service(settings.service_settings()) as service:
        check_image(store, service, spec)
        jobid, _ = submit(store, service, prepared)
    return jobid


def task_submit_many(
    directories: Iterable[str],
    codes: Iterable[str],
    versions: Iterable[str],
    commands: Iterable[Command],
    cores: Iterable[int],
    memorymb: Iterable[int],
    timeseconds: Iterable[int],
) -> dict[str, str]:
    """Submit many folders; the arguments are those of `task_submit`, one of each for a folder.

    Returns the folders that were not submitted and why, those submitted before among them. An empty
    dictionary means that all were. Raises ValueError if the arguments differ in length.
    """
    settings.require(settings.ALL)
    rows = itertools.zip_longest(
        directories, codes, versions, commands, cores, memorymb, timeseconds, fillvalue=_ABSENT
    )
    cases = []
    for row in rows:
        if _ABSENT in row:
            raise ValueError("the arguments of task_submit_many must all have the same length")
        directory, code, version, command, *limits = row
        cases.append(Case(directory, JobSpec(code, version, join_command(command), *limits)))
    store = Store(settings.storage_settings())
    with Service(settings.service_settings()) as service:
        unpublished = _unpublished(store, service, [case.spec for case in cases])
        runnable = [case for case in cases if case.spec.image not in unpublished]
        report = submit_batch(store, service, runnable)
    before = dict.fromkeys(report.skipped, "Directory already submitted.")
    absent = {
        case.directory: unpublished[case.spec.image]
        for case in cases
        if case.spec.image in unpublished
    }
    return {**before, **absent, **report.failed}


def _unpublished(store: Store, service: Service, specs: list[JobSpec]) -> dict[str, str]:
    """Return the images that are not published and why not; each is looked for once."""
    found: dict[str, str] = {}
    tokens = ImageTokens(service)
    for spec in {spec.image: spec for spec in specs}.values():
        try:
            check_published(store, tokens, spec.code, spec.version)
        except NotFoundError as error:
            found[spec.image] = str(error)
    return found


def task_status(jobid: str) -> dict[str, str | None]:
    """Return the state of a job: {"status": ..., "reason": ... or None}. Raises NotFoundError."""
    with Service(settings.service_settings()) as service:
        state = service.status(jobid)
    return {"status": state.status, "reason": state.reason}


def task_get(directory: str, bucket: str, everything: bool = False) -> list[str]:
    """Download the results in a job's bucket into a folder; returns their names there.

    A local file that changed since the submission stays, and the result is put beside it.
    Without `everything` the archive of the input stays away. Raises LeruliError if an object could
    not be put into the folder, after all the others were.
    """
    store = Store(settings.storage_settings())
    items = select_results(store, bucket, everything=everything)
    fetched = fetch(store, bucket, items, directory)
    if fetched.refused:
        raise LeruliError(
            "Not fetched: " + " ".join(f"{name}: {why}" for name, why in fetched.refused.items())
        )
    return fetched.files


def task_cancel(jobid: str) -> dict[str, str | None]:
    """Cancel a job; returns its state after that, as `task_status` does. Raises NotFoundError."""
    with Service(settings.service_settings()) as service:
        state = service.cancel(jobid)
    return {"status": state.status, "reason": state.reason}


def task_publish_code(code: str, version: str) -> None:
    """Upload the image code:version of the local Docker for the group."""
    settings.require(settings.ALL)
    local_image_size(code, version)
    with Service(settings.service_settings()) as service:
        publish_code(Store(settings.storage_settings()), ImageTokens(service), code, version)


def task_list_codes() -> list[tuple[str, str]]:
    """Return the images of the group: pairs of code and version."""
    settings.require(settings.ALL)
    with Service(settings.service_settings()) as service:
        codes = list_codes(Store(settings.storage_settings()), ImageTokens(service))
    return [(one.code, one.version) for one in codes]


def task_prune(bucket: str) -> None:
    """Delete a job's bucket with all files in it, for good.

    The state of the job is not looked at: one that has not ended yet will fail.
    """
    purge(Store(settings.storage_settings()), bucket)
