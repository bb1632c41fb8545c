"""The version of this client, the same as in pyproject.toml (a test compares them)."""

__version__ = "26.11.0"
