"""Leruli Queue from Python: submit folders as jobs, follow them, fetch their results.

>>> import leruli
>>> jobid = leruli.task_submit("water", "psi4", "1.3.2", "psi4 input.dat")
>>> leruli.task_status(jobid)
{'status': 'received', 'reason': None}

Credentials come from the environment (see `leruli.settings`). Every error is a subclass of
`LeruliError` (see `leruli.errors`). A `LeruliWarning` names something that a person has to check.
All functions are described in docs/users/python.md of the Leruli Queue repository.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from leruli._version import __version__
from leruli.errors import (
    AlreadySubmittedError,
    BucketMissingError,
    CopiedFolderError,
    EditedFolderError,
    LeruliError,
    LeruliWarning,
    NotFoundError,
    OldCursorError,
    RefusedError,
    ServiceError,
    SettingsError,
    StorageError,
    UnknownCallError,
)

if TYPE_CHECKING:
    from leruli.images.published import PublishedCode
    from leruli.jobs.efficiency import Resource
    from leruli.python_api.batches import (
        Batch,
        BatchStatus,
        CancelledBatch,
        FailedJob,
        batch_cancel,
        batch_get,
        batch_list,
        batch_status,
    )
    from leruli.python_api.codes import (
        task_list_codes,
        task_list_images,
        task_publish_code,
        task_unpublish_code,
    )
    from leruli.python_api.groups import Node, Usage, group_activity, group_nodes, group_usage
    from leruli.python_api.job import Attempt, Job, JobDetail, JobStatus, ManyFolders, Retry
    from leruli.python_api.jobs import (
        task_bucket,
        task_cancel,
        task_cancel_many,
        task_cancel_waiting,
        task_detail,
        task_list,
        task_status,
        task_status_many,
    )
    from leruli.python_api.reports import JobUse, UseReport, task_report
    from leruli.python_api.resubmission import task_resubmit, task_resubmit_many
    from leruli.python_api.results import (
        task_get,
        task_get_many,
        task_prune,
        task_purge,
        task_purge_many,
    )
    from leruli.python_api.submission import task_submit, task_submit_many
    from leruli.python_api.waiting import JobEvent, as_completed, events, wait

__all__ = [
    "AlreadySubmittedError",
    "Attempt",
    "Batch",
    "BatchStatus",
    "BucketMissingError",
    "CancelledBatch",
    "CopiedFolderError",
    "EditedFolderError",
    "FailedJob",
    "Job",
    "JobDetail",
    "JobEvent",
    "JobStatus",
    "JobUse",
    "LeruliError",
    "LeruliWarning",
    "ManyFolders",
    "Node",
    "NotFoundError",
    "OldCursorError",
    "PublishedCode",
    "RefusedError",
    "Resource",
    "Retry",
    "ServiceError",
    "SettingsError",
    "StorageError",
    "UnknownCallError",
    "Usage",
    "UseReport",
    "__version__",
    "as_completed",
    "batch_cancel",
    "batch_get",
    "batch_list",
    "batch_status",
    "events",
    "group_activity",
    "group_nodes",
    "group_usage",
    "task_bucket",
    "task_cancel",
    "task_cancel_many",
    "task_cancel_waiting",
    "task_detail",
    "task_get",
    "task_get_many",
    "task_list",
    "task_list_codes",
    "task_list_images",
    "task_prune",
    "task_publish_code",
    "task_purge",
    "task_purge_many",
    "task_report",
    "task_resubmit",
    "task_resubmit_many",
    "task_status",
    "task_status_many",
    "task_submit",
    "task_submit_many",
    "task_unpublish_code",
    "wait",
]

# The module of each name that is imported on its first use.
_HOMES = {
    "images.published": ("PublishedCode",),
    "jobs.efficiency": ("Resource",),
    "python_api.batches": (
        *("Batch", "BatchStatus", "CancelledBatch", "FailedJob"),
        *("batch_cancel", "batch_get", "batch_list", "batch_status"),
    ),
    "python_api.codes": (
        *("task_list_codes", "task_list_images"),
        *("task_publish_code", "task_unpublish_code"),
    ),
    "python_api.groups": ("Node", "Usage", "group_activity", "group_nodes", "group_usage"),
    "python_api.job": ("Attempt", "Job", "JobDetail", "JobStatus", "ManyFolders", "Retry"),
    "python_api.jobs": (
        *("task_bucket", "task_cancel", "task_cancel_many", "task_cancel_waiting"),
        *("task_detail", "task_list", "task_status", "task_status_many"),
    ),
    "python_api.results": (
        *("task_get", "task_get_many", "task_prune", "task_purge", "task_purge_many"),
    ),
    "python_api.reports": ("JobUse", "UseReport", "task_report"),
    "python_api.resubmission": ("task_resubmit", "task_resubmit_many"),
    "python_api.submission": ("task_submit", "task_submit_many"),
    "python_api.waiting": ("JobEvent", "as_completed", "events", "wait"),
}


def __getattr__(name: str) -> Any:
    # The functions pull in the HTTP and S3 libraries (a quarter of a second); `leruli --help`
    # imports this package too and needs neither.
    for home, names in _HOMES.items():
        if name in names:
            from importlib import import_module

            return getattr(import_module(f"leruli.{home}"), name)
    raise AttributeError(f"module 'leruli' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
