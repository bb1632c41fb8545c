"""The node agent of Leruli Queue: stages jobs in and out and watches them while they run."""

__version__ = "26.11.0"
