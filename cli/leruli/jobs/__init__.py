"""What is done with jobs: check, submit, fetch, purge, resubmit; one folder or many."""
