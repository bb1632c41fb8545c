"""The PostgreSQL advisory locks, in one place so that no two mean the same number."""

from __future__ import annotations

# Arbitrary, but fixed for ever: copies of different versions must meet at the same lock.
MIGRATION_LOCK = 0x4C51_0001
"""Held while the schema is migrated."""

DISPATCHER_LOCK = 0x4C51_0002
"""Held shared, for as long as its connection lives, by each active dispatcher.

Earlier releases hold it exclusively: theirs is active alone.
"""

# The following are families of locks: PostgreSQL takes a second number beside them.
SECRET_LOCKS = 0x4C51_0003
"""One a secret: held shared by whoever writes something under it, exclusively to revoke it."""

ADMINISTRATION_LOCKS = 0x4C51_0004
"""One a group: held by whoever changes its users or its compute secret."""

DISPATCHER_LOCKS = 0x4C51_0005
"""One a Nomad cluster: held, for as long as its connection lives, by its active dispatcher."""
