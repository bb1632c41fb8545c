"""`make bench`: what the queue does in a second, with a peer beside it in the same run."""
