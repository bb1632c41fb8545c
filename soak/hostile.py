"""The enemies of a run with --hostile, and the evidence about them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import asyncpg

from leruli_queue.groups.compute_secret import rotate_compute_secret
from leruli_queue.groups.create import create_group
from leruli_queue.groups.users import create_user
from soak.broken_node import NAME as NODE_NAME
from soak.broken_node import BrokenNode, broken_node
from soak.calls import CallFailedError, Line
from soak.canaries import Canaries
from soak.enemies import Enemy
from soak.floods import Floods
from soak.hostile_checks import HostileEvidence
from soak.ledger import Ledger
from soak.memory import MemoryWatch, Peak
from soak.stack import SoakStack, User

MEMBERS = ("mallory", "trudy")
"""Hostile users of the honest group."""

_IN_FLIGHT_SECONDS = """
SELECT u.name = ANY($1) AS hostile,
       coalesce(sum(extract(epoch FROM least(a.ended_at, $2) - a.claimed_at)), 0)::float AS seconds
FROM attempts a JOIN jobs j ON j.id = a.job_id JOIN users u ON u.id = j.user_id
WHERE a.claimed_at < $2 AND a.ended_at IS NOT NULL
  AND (SELECT name FROM nodes n WHERE n.id = a.node_id) IS DISTINCT FROM $3
GROUP BY 1
"""
_OPEN = """
SELECT j.id::text, j.name, j.state::text, j.reason FROM jobs j JOIN users u ON u.id = j.user_id
WHERE j.state IN ('received', 'submitted', 'running') AND u.name = ANY($1)
"""
_BROKEN_ATTEMPTS = """
SELECT count(*) FROM attempts a JOIN nodes n ON n.id = a.node_id WHERE n.name = $1
"""


@dataclass(frozen=True)
class OtherGroup:
    """The secrets of a hostile group."""

    token: str
    compute_secret: str
    user: User


@dataclass
class Hostile:
    """All enemies of one run. They start and stop together."""

    stack: SoakStack
    line: Line
    seed: int
    canaries: Canaries
    before: dict[str, str]
    enemies: list[Enemy]
    floods: Floods
    watch: MemoryWatch
    broken: BrokenNode
    # Counts of the enemies. The honest ledger has no hostile job.
    ledger: Ledger = field(default_factory=Ledger)
    memory: dict[str, Peak] = field(default_factory=dict)
    drained_at: datetime | None = None

    @property
    def users(self) -> list[str]:
        """Names of the hostile users; no honest user has one of them."""
        return [enemy.user.name for enemy in self.enemies]

    def stop(self) -> None:
        """Stop all enemies. Parts may still be killed meanwhile."""
        self.drained_at = datetime.now(UTC)
        self.floods.stop()
        for enemy in self.enemies:
            with suppress(CallFailedError):
                enemy.stop()

    def evidence(self, honest_users: int) -> HostileEvidence:
        """Return the evidence about the enemies once everything has settled."""
        self.memory = self.watch.stop()
        names = self.users
        in_flight = asyncio.run(
            self.stack.fetch(_IN_FLIGHT_SECONDS, names, self.drained_at, NODE_NAME)
        )
        seconds = {row["hostile"]: row["seconds"] for row in in_flight}
        open_rows = asyncio.run(self.stack.fetch(_OPEN, names))
        [broken] = asyncio.run(self.stack.fetch(_BROKEN_ATTEMPTS, NODE_NAME))
        return HostileEvidence(
            canaries_before=self.before,
            canaries_after=self.canaries.read(),
            memory=self.memory,
            honest_in_flight_s=seconds.get(False, 0.0),
            hostile_in_flight_s=seconds.get(True, 0.0),
            honest_users=honest_users,
            # Users of the other group do not count: that group has no slots.
            hostile_users=len(MEMBERS),
            open_jobs=[
                f"the hostile job {row['id']} ({row['name']}) is {row['state']}: {row['reason']}"
                for row in open_rows
            ],
            broken_node_attempts=broken[0],
        )


@contextmanager
def enemies_of(stack: SoakStack, line: Line, data: Path, seed: int) -> Iterator[Hostile]:
    """Start enemies. The block must stop them before it ends."""
    ledger = Ledger()
    # Read the memory at rest before any call.
    watch = MemoryWatch(stack)
    other = asyncio.run(_other_group(stack))
    users = [User(name, _new_secret(stack, line, name)) for name in MEMBERS] + [other.user]
    canaries = Canaries(stack.store(), seed)
    enemies = [Enemy(stack, line, ledger, user, canaries, seed) for user in users]
    floods = Floods(
        stack.url,
        ledger,
        group_token=stack.state.group_token,
        other_token=other.token,
        compute_secret=other.compute_secret,
    )
    with broken_node(stack, data) as broken:
        made = Hostile(
            *(stack, line, seed, canaries, canaries.read(), enemies, floods, watch, broken, ledger)
        )
        watch.start()
        floods.start()
        for enemy in enemies:
            enemy.start()
        yield made


def _new_secret(stack: SoakStack, line: Line, name: str) -> str:
    body = {"adminsecret": stack.state.admin_secret, "name": name, "admin": False}
    return str(line.post("group-create-user", body))


async def _other_group(stack: SoakStack) -> OtherGroup:
    connection = await asyncpg.connect(stack.database_url, timeout=10)
    try:
        group = await create_group(connection, "enemies")
        secret = await create_user(
            connection, group.id, group.group_token, name="eve", is_admin=False
        )
        compute = await rotate_compute_secret(connection, group.id)
        return OtherGroup(group.group_token, compute, User("eve", secret))
    finally:
        await connection.close()
