"""Brings the database's schema up to date, once, however many copies start together.

The files ``migrations/NNNN_name.sql`` are applied in order. Each has its own transaction, which
also notes it in ``schema_migrations``. An advisory lock lets one copy migrate while the others
wait. A file that was applied must never be changed, comments included: its digest is compared.

A migration waits for a lock only for a moment: while it waits, every request for the same table
waits behind it. After that it is rolled back and tried again, and the log names the lock holders.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from itertools import chain, repeat
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
# An index of millions of jobs takes minutes, so the usual timeout of a statement must not apply.
_STATEMENT_TIMEOUT_S = 86400.0
_LOCK_TIMEOUT_S = 3.0
# Pauses between tries. Requests that waited behind the last try are answered in them.
_BACKOFF_S = (2.0, 5.0, 10.0, 30.0)


@dataclass(frozen=True)
class Migration:
    """One step of the schema's history."""

    number: int
    name: str
    sql: str

    @property
    def digest(self) -> str:
        """SHA-256 of the text. It shows whether a file was changed after it was applied."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def known_migrations(folder: Path = _FOLDER) -> list[Migration]:
    """Return the migrations of this version of the service, in order."""
    return [
        Migration(int(path.name.split("_", 1)[0]), path.stem, path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("[0-9][0-9][0-9][0-9]_*.sql"))
    ]


async def migrate(connection: Connection, migrations: list[Migration] | None = None) -> list[str]:
    """Apply missing migrations and return their names.

    Write nothing if none is missing: the database may be read-only.

    Raises
    ------
    SetupError
        When the database is newer than this version, or an applied migration was changed.
    """
    wanted = known_migrations() if migrations is None else migrations
    if not _missing(wanted, await _applied(connection)):
        return []
    # Poll: LERULI_QUEUE_DATABASE_TIMEOUT_S would cut off a statement that waits for the lock.
    while not await queries.try_lock(connection, lock=MIGRATION_LOCK):  # noqa: ASYNC110
        await asyncio.sleep(_ASK_AGAIN_S)
    try:
        await queries.make_migrations_table(connection)
        applied = []
        # Another copy may have applied some while this one waited.
        for migration in _missing(wanted, await _applied(connection)):
            await _apply_when_possible(connection, migration)
            log.info("schema migrated", migration=migration.name)
            applied.append(migration.name)
        return applied
    finally:
        await queries.unlock(connection, lock=MIGRATION_LOCK)


async def _apply_when_possible(connection: Connection, migration: Migration) -> None:
    """Apply a migration; try again while locks of others prevent it."""
    for pause_s in chain(_BACKOFF_S, repeat(_BACKOFF_S[-1])):
        try:
            async with connection.transaction():
                await _apply(connection, migration)
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            holders = await rows(queries.lock_holders(connection, least_s=_LOCK_TIMEOUT_S))
            log.warning(
                "a migration needs tables that others have locked, and is tried again",
                migration=migration.name,
                again_in_s=pause_s,
                blocked_by=[dict(holder) for holder in holders],
            )
            await asyncio.sleep(pause_s)
        else:
            return


async def _apply(connection: Connection, migration: Migration) -> None:
    await queries.bound_waits(connection, lock_timeout=f"{_LOCK_TIMEOUT_S}s")
    await connection.execute(migration.sql, timeout=_STATEMENT_TIMEOUT_S)
    await queries.note_migration(
        connection, number=migration.number, name=migration.name, digest=migration.digest
    )


async def migrate_when_possible(pool: Pool) -> None:
    """Migrate as :func:`migrate` does, once the database takes changes.

    For processes that start earlier: during a failover the database may be read-only.

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
