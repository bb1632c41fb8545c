"""The environment variables that tell a job about itself, the same in every kind of container."""

from __future__ import annotations

from leruli_node.model import AttemptId, StartGrant


def job_environment(attempt: AttemptId, grant: StartGrant, node_name: str) -> dict[str, str]:
    """Return the variables of an attempt (docs/users/inside-a-job.md)."""
    of_batch = {} if grant.batch is None else {"LERULI_BATCH": grant.batch}
    return {
        "LERULI_JOB_ID": attempt.job,
        "LERULI_CORES": str(grant.cores),
        "LERULI_MEMORY_MB": str(grant.memorymb),
        "LERULI_TIME_LIMIT": f"{grant.timelimit:.0f}",
        "LERULI_ATTEMPT": str(attempt.attempt),
        "LERULI_NODE": node_name,
        **of_batch,
        # The names of the first releases.
        "LERULI_JOBID": attempt.job,
        "LERULI_MEMORYMB": str(grant.memorymb),
    }
