"""Bring the database's schema up to date, once, however many copies start together.

``migrations/NNNN_name.sql`` are applied in order, each in a transaction of its own that also
notes it in ``schema_migrations``. An advisory lock lets one copy migrate while the others wait.
A file that was applied must never be changed: its digest is compared.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import structlog

from leruli_queue.errors import SetupError
from leruli_queue.store.locks import MIGRATION_LOCK
from leruli_queue.store.pool import Connection, Pool, once_database_works
from leruli_queue.store.queries import queries, rows

log = structlog.get_logger(__name__)

_FOLDER = Path(__file__).parent / "migrations"
_ASK_AGAIN_S = 0.5
# An index of millions of jobs takes minutes: nothing that the usual statement's time should end.
_PATIENCE_S = 86400.0


@dataclass(frozen=True)
class Migration:
    """One step of the schema's history."""

    number: int
    name: str
    sql: str

    @property
    def digest(self) -> str:
        """SHA-256 of the text, to notice a file that was changed after it was applied."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def known_migrations(folder: Path = _FOLDER) -> list[Migration]:
    """Return the migrations of this version of the service, in order."""
    return [
        Migration(int(path.name.split("_", 1)[0]), path.stem, path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("[0-9][0-9][0-9][0-9]_*.sql"))
    ]


async def migrate(connection: Connection, migrations: list[Migration] | None = None) -> list[str]:
    """Apply what is missing and return the names of what was applied.

    Where nothing is missing nothing is written: the database may take no changes.

    Raises
    ------
    SetupError
        When the database is newer than this version, or an applied migration was changed.
    """
    wanted = known_migrations() if migrations is None else migrations
    if not _missing(wanted, await _applied(connection)):
        return []
    # By asking: a statement that waits would be cut off by LERULI_QUEUE_DATABASE_TIMEOUT_S.
    while not await queries.try_lock(connection, lock=MIGRATION_LOCK):  # noqa: ASYNC110
        await asyncio.sleep(_ASK_AGAIN_S)
    try:
        await queries.make_migrations_table(connection)
        applied = []
        # Another copy may have applied some while this one waited.
        for migration in _missing(wanted, await _applied(connection)):
            async with connection.transaction():
                await queries.no_statement_timeout(connection)
                await connection.execute(migration.sql, timeout=_PATIENCE_S)
                await queries.note_migration(
                    connection,
                    number=migration.number,
                    name=migration.name,
                    digest=migration.digest,
                )
            log.info("schema migrated", migration=migration.name)
            applied.append(migration.name)
        return applied
    finally:
        await queries.unlock(connection, lock=MIGRATION_LOCK)


async def migrate_when_possible(pool: Pool) -> None:
    """Do as :func:`migrate` once the database takes changes, as far as any are needed.

    For processes that start before it does: while a failover is under way, it may take none.

    Raises
    ------
    SetupError
        As :func:`migrate`.
    """

    async def migrate_once() -> None:
        async with pool.acquire() as connection:
            await migrate(connection)

    await once_database_works(migrate_once)


async def is_current(connection: Connection) -> bool:
    """Tell whether every migration of this version has been applied."""
    try:
        newest = await queries.newest_migration(connection)
    except asyncpg.UndefinedTableError:
        return False
    return bool(newest is not None and newest >= known_migrations()[-1].number)


async def _applied(connection: Connection) -> dict[int, str]:
    try:
        found = await rows(queries.applied_migrations(connection))
    except asyncpg.UndefinedTableError:
        return {}
    return {row["number"]: row["digest"] for row in found}


def _missing(wanted: list[Migration], done: dict[int, str]) -> list[Migration]:
    _check_history(wanted, done)
    return [migration for migration in wanted if migration.number not in done]


def _check_history(wanted: list[Migration], done: dict[int, str]) -> None:
    ours = {migration.number: migration for migration in wanted}
    for number, digest in sorted(done.items()):
        migration = ours.get(number)
        if migration is None:
            raise SetupError(
                f"The database has migration {number}, which this version does not know: it was "
                "used by a newer version of Leruli Queue. Start that version or a later one."
            )
        if migration.digest != digest:
            raise SetupError(
                f"Migration {migration.name} differs from the one this database was made with. "
                "An applied migration must not be changed; restore the file and add a new one."
            )
