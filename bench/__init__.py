"""`make bench`: measures the queue, with a peer beside it in the same run."""
