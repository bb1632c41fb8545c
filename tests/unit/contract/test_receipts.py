"""What the service reads from the words of a receipt, the agent says in these words."""

from leruli_node.objects import job_bucket
from leruli_queue.jobs import outcomes


def test_the_words_for_a_deleted_bucket() -> None:
    """A service that does not know them would run such a job again."""
    assert job_bucket.BUCKET_MISSING == outcomes.BUCKET_MISSING
    assert job_bucket.BUCKET_WENT == outcomes.BUCKET_WENT
