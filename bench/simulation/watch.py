"""Times of changes in the database, recorded by triggers of the simulation.

The service stores when a command began by Nomad's clock. A lag needs the time at which the database
changed instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import asyncpg

_TRIGGERS = """
CREATE TABLE bench_seen (
    job_id uuid NOT NULL, number integer NOT NULL, what text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE FUNCTION bench_see() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_TABLE_NAME = 'attempts' THEN
        INSERT INTO bench_seen (job_id, number, what) VALUES (NEW.job_id, NEW.number, TG_ARGV[0]);
    ELSE
        INSERT INTO bench_seen (job_id, number, what) VALUES (NEW.id, NEW.attempt, TG_ARGV[0]);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER bench_dispatched AFTER UPDATE OF nomad_job_id ON attempts FOR EACH ROW
    WHEN (OLD.nomad_job_id IS NULL AND NEW.nomad_job_id IS NOT NULL)
    EXECUTE FUNCTION bench_see('dispatched');
CREATE TRIGGER bench_placed AFTER UPDATE OF allocation_id ON attempts FOR EACH ROW
    WHEN (OLD.allocation_id IS NULL AND NEW.allocation_id IS NOT NULL)
    EXECUTE FUNCTION bench_see('placed');
CREATE TRIGGER bench_running AFTER UPDATE OF state ON jobs FOR EACH ROW
    WHEN (OLD.state = 'submitted' AND NEW.state = 'running')
    EXECUTE FUNCTION bench_see('running');
CREATE TRIGGER bench_claimed AFTER UPDATE OF state ON jobs FOR EACH ROW
    WHEN (OLD.state = 'received' AND NEW.state = 'submitted')
    EXECUTE FUNCTION bench_see('claimed');
"""


@dataclass(frozen=True)
class Seen:
    """Times of changes in the database, in s since 1970, by (job, attempt)."""

    claimed: Mapping[tuple[str, int], float] = field(default_factory=dict)
    dispatched: Mapping[tuple[str, int], float] = field(default_factory=dict)
    placed: Mapping[tuple[str, int], float] = field(default_factory=dict)
    running: Mapping[tuple[str, int], float] = field(default_factory=dict)
    # The user of each job.
    users: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """Number of jobs by state."""

    received: int
    submitted: int
    running: int
    ended: int

    @property
    def open(self) -> int:
        """Number of jobs that have not ended."""
        return self.received + self.submitted + self.running


def begin_to_watch(url: str) -> None:
    """Add the triggers. The service must have made its tables."""
    asyncio.run(_run(url, _TRIGGERS))


def what_was_seen(url: str) -> Seen:
    """Return the times that the triggers recorded."""
    return asyncio.run(_read_seen(url))


def progress(url: str) -> Progress:
    """Count jobs by state."""
    return asyncio.run(_read_progress(url))


async def _run(url: str, text: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(text)
    finally:
        await connection.close()


async def _read_seen(url: str) -> Seen:
    connection = await asyncpg.connect(url)
    try:
        found = await connection.fetch(
            "SELECT job_id::text, number, what, extract(epoch FROM at)::float8 AS at"
            " FROM bench_seen ORDER BY at DESC"
        )
        users = await connection.fetch("SELECT id::text, user_id FROM jobs")
    finally:
        await connection.close()
    by_what: dict[str, dict[tuple[str, int], float]] = {}
    for row in found:
        by_what.setdefault(row["what"], {})[row["job_id"], row["number"]] = row["at"]
    return Seen(**by_what, users={row["id"]: row["user_id"] for row in users})


async def _read_progress(url: str) -> Progress:
    connection = await asyncpg.connect(url)
    try:
        found = await connection.fetch("SELECT state::text, count(*) FROM jobs GROUP BY state")
    finally:
        await connection.close()
    counts = {row["state"]: row["count"] for row in found}
    open_ = {state: counts.get(state, 0) for state in ("received", "submitted", "running")}
    return Progress(**open_, ended=sum(counts.values()) - sum(open_.values()))
