"""One module a measurement; a module that is imported here has registered what it measures."""

from bench.measurements import intake  # isort: skip  # the order in which they run
from bench.measurements import lists  # isort: skip
from bench.measurements import cancel  # isort: skip
from bench.measurements import memory  # isort: skip
from bench.measurements import feeding  # isort: skip
from bench.measurements import looks  # isort: skip

__all__ = ["cancel", "feeding", "intake", "lists", "looks", "memory"]
