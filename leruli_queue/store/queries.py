"""The named SQL statements of ``store/sql``: the sole SQL of the service.

aiosql turns each ``-- name:`` block into an awaitable method. The first argument is a connection
or a pool, the others are keyword arguments named as in the statement. A suffix of the name says
what comes back: none a cursor over rows, ``^`` one row or None, ``$`` one value, ``!`` the
number of rows as PostgreSQL's status text.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiosql

_FOLDER = Path(__file__).parent / "sql"

# aiosql makes the methods at run time, so a type checker knows none of them.
queries: Any = aiosql.from_path(_FOLDER, "asyncpg", mandatory_parameters=False)


async def rows(selection: Any) -> list[Any]:
    """Collect what a statement without suffix selects."""
    return [row async for row in selection]
