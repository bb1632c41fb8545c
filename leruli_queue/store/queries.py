"""The named SQL statements of ``store/sql``: all SQL of the service.

aiosql turns each ``-- name:`` block into an awaitable method. The first argument is a connection
or a pool, the others are keyword arguments named as in the statement. A suffix of the name says
what a statement returns:

- no suffix: a cursor over rows
- ``^``: one row or None
- ``$``: one value
- ``!``: the number of rows, as PostgreSQL's status text

mypy reads ``queries.pyi`` in place of this file. It has the parameters of each statement, and
``make stub`` writes it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiosql
from aiosql.adapters.asyncpg import AsyncPGAdapter

_FOLDER = Path(__file__).parent / "sql"


class _ExactArguments(AsyncPGAdapter):
    """Refuses arguments that a statement does not have; aiosql ignores them."""

    def maybe_order_params(self, query_name: str, parameters: Mapping[str, Any]) -> list[Any]:
        """Return the arguments in the order of ``$1``, ``$2``, ….

        Raises
        ------
        TypeError
            When an argument is missing or the statement has no parameter of that name.
        """
        order: list[str] = self.var_sorted[query_name]
        if len(order) != len(parameters) or any(name not in parameters for name in order):
            given, taken = set(parameters), set(order)
            raise TypeError(
                f"{query_name}: unknown arguments {sorted(given - taken)}, "
                f"missing arguments {sorted(taken - given)}"
            )
        return [parameters[name] for name in order]


queries = aiosql.from_path(_FOLDER, _ExactArguments, mandatory_parameters=False)


async def rows(selection: AsyncIterator[Any]) -> list[Any]:
    """Collect the rows of a statement without suffix."""
    return [row async for row in selection]


def prepared(name: str, arguments: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """Return a statement's SQL and its arguments in the order of ``$1``, ``$2``, ….

    For EXPLAIN, and to run one statement many times at once.

    Raises
    ------
    TypeError
        When arguments are wrong or missing, as for the statement itself.
    """
    return getattr(queries, name).sql, queries.driver_adapter.maybe_order_params(name, arguments)
