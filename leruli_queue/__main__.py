"""``python -m leruli_queue``: the command line."""

from leruli_queue.commands import main

main()
