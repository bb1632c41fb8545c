"""Bring the database's schema up to date, once, however many copies start together.

``migrations/NNNN_name.sql`` are applied in order, each in a transaction of its own that also
notes it in ``schema_migrations``. An advisory lock lets one copy migrate while the others wait.
A file that was applied must never be changed: its digest is compared.

A migration waits for nobody's lock for longer than a moment: while it waits, every request for the
same table waits behind it. It is rolled back and tried again, and the log says who holds the locks.
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
# An index of millions of jobs takes minutes: nothing that the usual statement's time should end.
_PATIENCE_S = 86400.0
_LOCK_PATIENCE_S = 3.0
# Between two tries, in which requests that waited behind the last one are answered.
_PAUSES_S = (2.0, 5.0, 10.0, 30.0)


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
            await _apply_when_possible(connection, migration)
            log.info("schema migrated", migration=migration.name)
            applied.append(migration.name)
        return applied
    finally:
        await queries.unlock(connection, lock=MIGRATION_LOCK)


async def _apply_when_possible(connection: Connection, migration: Migration) -> None:
    """Apply a migration, again until no lock of others is in its way."""
    for pause_s in chain(_PAUSES_S, repeat(_PAUSES_S[-1])):
        try:
            async with connection.transaction():
                await _apply(connection, migration)
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            holders = await rows(queries.lock_holders(connection, least_s=_LOCK_PATIENCE_S))
            log.warning(
                "a migration waits until others let its tables go, and is tried again",
                migration=migration.name,
                again_in_s=pause_s,
                blocked_by=[dict(holder) for holder in holders],
            )
            await asyncio.sleep(pause_s)
        else:
            return


async def _apply(connection: Connection, migration: Migration) -> None:
    await queries.bound_waits(connection, lock_timeout=f"{_LOCK_PATIENCE_S}s")
    await connection.execute(migration.sql, timeout=_PATIENCE_S)
    await queries.note_migration(
        connection, number=migration.number, name=migration.name, digest=migration.digest
    )


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
