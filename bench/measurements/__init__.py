"""One module per measurement. Importing a module registers its measurement."""

from bench.measurements import intake  # isort: skip  # the order in which they run
from bench.measurements import lists  # isort: skip
from bench.measurements import cancel  # isort: skip
from bench.measurements import memory  # isort: skip
from bench.measurements import waiting  # isort: skip
from bench.measurements import follow  # isort: skip
from bench.measurements import live  # isort: skip
from bench.measurements import batch  # isort: skip
from bench.measurements import feeding  # isort: skip
from bench.measurements import slots  # isort: skip
from bench.measurements import statements  # isort: skip
from bench.measurements import node  # isort: skip
from bench.measurements import short  # isort: skip  # and xtb
from bench.measurements import churn  # isort: skip

__all__ = [
    "batch",
    "cancel",
    "churn",
    "feeding",
    "follow",
    "intake",
    "lists",
    "live",
    "memory",
    "node",
    "short",
    "slots",
    "statements",
    "waiting",
]
