"""The exceptions of the client.

                                  exit code   is also
    LeruliError                       1
    ├── RefusedError                  1       ValueError
    │   ├── AlreadySubmittedError     1
    │   ├── CopiedFolderError         1
    │   ├── EditedFolderError         1
    │   ├── OldCursorError            1
    │   └── AccessRefusedError        1
    │       └── SecretRefusedError    3
    ├── SettingsError                 3
    ├── NotFoundError                 4       ValueError
    ├── ServiceError                  5
    │   └── UnknownCallError          5
    └── StorageError                  6
        ├── StorageAwayError          6
        └── BucketMissingError        4

The message is one or more sentences: what happened, why, and what to do. It never holds a secret.
Exit code 2 is click's (wrong usage), 130 is an interruption by Ctrl-C. Programs written for the
published client catch ValueError.
"""

from __future__ import annotations

from typing import ClassVar

from leruli.redaction import redact


class LeruliError(Exception):
    """A failure that a user can understand; `str()` gives the sentence to show."""

    #: The exit code of the command line client.
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str) -> None:
        super().__init__(redact(message))


class RefusedError(LeruliError, ValueError):
    """The client or the service refuses the request."""


class AlreadySubmittedError(RefusedError):
    """The folder holds a leruli.job: it was submitted before."""


class CopiedFolderError(RefusedError):
    """The folder holds the job of another folder, of which it is a copy."""


class EditedFolderError(RefusedError):
    """An input in the folder changed after its job was submitted."""


class OldCursorError(RefusedError):
    """The service has deleted events after the cursor: read the states of the jobs instead."""


class AccessRefusedError(RefusedError):
    """The service takes nothing of this kind from the caller, or no jobs of this group yet."""


class SecretRefusedError(AccessRefusedError):
    """The service does not accept the secret: it is mistyped, revoked, or not of the right kind."""

    exit_code = 3


class SettingsError(LeruliError):
    """A setting (environment variable) is missing or invalid."""

    exit_code = 3


class NotFoundError(LeruliError, ValueError):
    """There is no such job, image, folder or file, or it belongs to somebody else."""

    exit_code = 4


class ServiceError(LeruliError):
    """The queue's HTTP service did not answer in time, or not sensibly."""

    exit_code = 5


class UnknownCallError(ServiceError):
    """The service does not have this call: it is older than this client."""


class StorageError(LeruliError):
    """The object storage (S3) did not answer, or refused."""

    exit_code = 6


class StorageAwayError(StorageError):
    """The object storage did not answer, and may do so later."""

    def __init__(self, what: str, advice: str) -> None:
        super().__init__(f"{what} {advice}")
        self.what = what


class BucketMissingError(StorageError):
    """The bucket does not exist: purged, or in another storage than the one configured."""

    exit_code = 4


class LeruliWarning(UserWarning):
    """A warning of a Python function: the call succeeded, and a person has to check something.

    It is no LeruliError. `warnings.simplefilter("error", leruli.LeruliWarning)` raises it.
    """
