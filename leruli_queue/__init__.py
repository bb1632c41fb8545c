"""Leruli Queue: a job broker for research groups.

The service (``leruli-queue serve``), the dispatcher (``leruli-queue dispatch``) and the
one-machine stack (``leruli-queue up``). The tour of the tree is in CONTRIBUTING.md.
"""

__version__ = "26.11.0"
