"""Leruli Queue from Python: submit folders as jobs, follow them, fetch their results.

>>> import leruli
>>> jobid = leruli.task_submit("water", "psi4", "1.5", "psi4 input.dat")
>>> leruli.task_status(jobid)
{'status': 'received', 'reason': None}

Credentials come from the environment (see `leruli.settings`). What goes wrong is raised as a
subclass of `LeruliError` (see `leruli.errors`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from leruli._version import __version__
from leruli.errors import (
    LeruliError,
    NotFoundError,
    RefusedError,
    ServiceError,
    SettingsError,
    StorageError,
)

if TYPE_CHECKING:
    from leruli.tasks import (
        task_cancel,
        task_get,
        task_list_codes,
        task_prune,
        task_publish_code,
        task_status,
        task_submit,
        task_submit_many,
    )

__all__ = [
    "LeruliError",
    "NotFoundError",
    "RefusedError",
    "ServiceError",
    "SettingsError",
    "StorageError",
    "__version__",
    "task_cancel",
    "task_get",
    "task_list_codes",
    "task_prune",
    "task_publish_code",
    "task_status",
    "task_submit",
    "task_submit_many",
]


def __getattr__(name: str) -> Any:
    # The functions pull in the HTTP and S3 libraries (a quarter of a second); `leruli --help`
    # imports this package too and needs neither.
    if name.startswith("task_") and name in __all__:
        from leruli import tasks

        return getattr(tasks, name)
    raise AttributeError(f"module 'leruli' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
