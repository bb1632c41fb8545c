"""Errors of the agent, one class for each consequence.

AgentError          the agent cannot run: one sentence for the operator and an exit code
AttemptError        this attempt ends here: an outcome and one sentence for the job's owner
StoppedError        the agent or the attempt is being stopped: leave the work as it is
"""

from __future__ import annotations

from leruli_node.outcomes import Outcome

EXIT_SETTINGS = 78
EXIT_REFUSED = 77
EXIT_UNAVAILABLE = 69
EXIT_ALREADY_RUNNING = 73
EXIT_UNREACHABLE = 75


class AgentError(Exception):
    """The agent cannot run. The process ends with `exit_code`."""

    def __init__(self, sentence: str, exit_code: int) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


class AttemptError(Exception):
    """The attempt cannot go on: an outcome for the service and a sentence for a person."""

    def __init__(self, outcome: Outcome, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.message = message


class StoppedError(Exception):
    """The work ended early because the agent or the attempt is being stopped."""


def describe(error: BaseException) -> str:
    """Describe an error in a few words, without an address, a bucket name or a secret.

    The texts of urllib3, httpx and minio quote the URL, which contains the bucket. Therefore only
    the type of the error is given, and S3's error code if there is one.
    """
    code = getattr(error, "code", None)
    kind = type(error).__name__
    return f"{kind} {code}" if isinstance(code, str) and code.isalnum() else kind
