"""One module a measurement; a module that is imported here has registered what it measures."""

from bench.measurements import intake

__all__ = ["intake"]
