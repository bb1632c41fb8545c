"""The PostgreSQL advisory locks, in one place so that no two mean the same number."""

from __future__ import annotations

# Arbitrary, but fixed for ever: copies of different versions must meet at the same lock.
MIGRATION_LOCK = 0x4C51_0001
"""Held while the schema is migrated."""

DISPATCHER_LOCK = 0x4C51_0002
"""Held, for as long as its connection lives, by the one active dispatcher."""
