"""Write leruli_queue/store/queries.pyi: the parameters of each SQL statement, for mypy.

    query_stub.py

aiosql makes a method with a signature of each statement at run time. Without the stub mypy would
accept any arguments of such a method. PostgreSQL checks the types of the parameters.
"""

from __future__ import annotations

import inspect
from pathlib import Path

from aiosql.types import SQLOperationType

from leruli_queue.store.queries import queries

STUB = Path(__file__).resolve().parents[1] / "leruli_queue/store/queries.pyi"

_TOP = '''\
"""The parameters of the statements of ``store/sql``. Made by "make stub". Do not edit."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from leruli_queue.store.pool import Connection, Pool

class Queries:
    """A method for each statement."""

    @property
    def available_queries(self) -> list[str]: ...
'''

_END = """\

queries: Queries

async def rows(selection: AsyncIterator[Any]) -> list[Any]: ...
def prepared(name: str, arguments: Mapping[str, Any]) -> tuple[str, list[Any]]: ...
"""

# ruff's limit of the line length, with the end of the line.
_WIDTH = 101
# By the suffix of the statement's name: definition and return type of the method.
_KINDS = {
    SQLOperationType.SELECT: ("def", "AsyncIterator[Any]"),
    SQLOperationType.SELECT_ONE: ("async def", "Any"),
    SQLOperationType.SELECT_VALUE: ("async def", "Any"),
    SQLOperationType.INSERT_UPDATE_DELETE: ("async def", "str"),
}


def stub() -> str:
    """Return the text of the stub in ruff's format."""
    names = queries.available_queries
    # For each selecting statement aiosql adds a second method, which gives a cursor.
    return _TOP + "".join(_method(name) for name in names if not name.endswith("_cursor")) + _END


def _method(name: str) -> str:
    statement = getattr(queries, name)
    definition, returns = _KINDS[statement.operation]
    parameters = [
        parameter.name
        for parameter in statement.__func__.__signature__.parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    listed = ["self", "connection: Connection | Pool"]
    if parameters:
        listed += ["*", *(f"{parameter}: object" for parameter in parameters)]
    line = f"    {definition} {name}({', '.join(listed)}) -> {returns}: ...\n"
    if len(line) <= _WIDTH:
        return line
    lines = "".join(f"        {parameter},\n" for parameter in listed)
    return f"    {definition} {name}(\n{lines}    ) -> {returns}: ...\n"


if __name__ == "__main__":
    STUB.write_text(stub())
