"""The PostgreSQL advisory locks, in one place so that no two share a number."""

from __future__ import annotations

# Arbitrary, but fixed for ever: copies of different versions must use the same lock.
MIGRATION_LOCK = 0x4C51_0001
"""Held while the schema is migrated."""

DISPATCHER_LOCK = 0x4C51_0002
"""Held shared by each active dispatcher, for as long as its connection lives.

Dispatchers of earlier releases hold it exclusively: such a dispatcher is active alone.
"""

BATCH_LOCK = 0x4C51_0006
"""Held for the statement that adds changes of batches to their counts."""

# The following are families of locks: each lock has a second number.
SECRET_LOCKS = 0x4C51_0003
"""One per secret: held shared to write under it, exclusively to revoke it."""

ADMINISTRATION_LOCKS = 0x4C51_0004
"""One per group: held to change its users or its compute secret."""

DISPATCHER_LOCKS = 0x4C51_0005
"""One per Nomad cluster: held by its active dispatcher, as long as its connection lives."""
