"""The messages of receipts that the service recognises are the agent's messages."""

from leruli_node.objects import job_bucket
from leruli_queue.jobs import outcomes


def test_the_agents_messages_for_a_deleted_bucket() -> None:
    """A service that does not recognise them would run such a job again."""
    assert job_bucket.BUCKET_MISSING == outcomes.BUCKET_MISSING
    assert job_bucket.BUCKET_WENT == outcomes.BUCKET_WENT
