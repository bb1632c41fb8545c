"""What can go wrong, by what follows from it.

AgentError          the agent cannot run: one sentence for the operator and an exit code
AttemptError        this attempt ends here: an outcome and one sentence for the job's owner
StoppedError        the agent stops, or the attempt was stopped: leave the work as it is
"""

from __future__ import annotations

EXIT_SETTINGS = 78
EXIT_REFUSED = 77
EXIT_UNAVAILABLE = 69
EXIT_ALREADY_RUNNING = 73
EXIT_UNREACHABLE = 75


class AgentError(Exception):
    """The agent cannot run; `exit_code` is what the process ends with."""

    def __init__(self, sentence: str, exit_code: int) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


class AttemptError(Exception):
    """The attempt cannot go on: `outcome` for the service, the sentence for a person."""

    def __init__(self, outcome: str, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.message = message


class StoppedError(Exception):
    """Work was abandoned because the agent or the attempt is being stopped."""


def describe(error: BaseException) -> str:
    """An error in a few words that never hold an address, a bucket name or a secret.

    The texts of urllib3, httpx and minio quote the URL, which holds the bucket; so only the kind
    of the error is told, and S3's own code where there is one.
    """
    code = getattr(error, "code", None)
    kind = type(error).__name__
    return f"{kind} {code}" if isinstance(code, str) and code.isalnum() else kind
