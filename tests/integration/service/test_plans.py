"""No statement reads much of a large table, whatever PostgreSQL knows of its arguments."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from plan_world import (
    BATCHES,
    FIRST,
    IDS,
    JOBS,
    LARGE,
    LAST,
    LAST_WAITING,
    NODE,
    NOW,
    STATES,
    filled_group,
    job_id,
    leading_columns,
    nodes,
    plan_of,
    reads_large_table,
    reads_whole,
    rows_of,
    run_and_count,
    scanned,
)
from service_world import GroupOfTest, make_user

from leruli_queue.access.authenticate import User
from leruli_queue.jobs.intake import NewJob, submit_jobs
from leruli_queue.nomad.clusters import DEFAULT
from leruli_queue.store.pool import Connection, Pool
from leruli_queue.store.queries import prepared, queries

PAGE: dict[str, Any] = {"states": STATES, "from_id": FIRST, "before_id": LAST, "limit": 100}
CLUSTER = {"cluster": DEFAULT}
ATTEMPT: dict[str, Any] = {"job_id": IDS[0], "number": 2}
# As many as fit the window.
MANY = 200
ATTEMPTS: dict[str, Any] = {"job_ids": IDS[:MANY], "numbers": [2] * MANY}
OWN: dict[str, Any] = {"group_id": 1, "owner_id": 1}
RETRY = {"retry_delay_s": 5.0}


def each(value: object) -> list[object]:
    """The same value for each of ATTEMPTS."""
    return [value] * MANY


SEATS: dict[str, Any] = {
    "slot_jobs": IDS[:MANY],
    "slot_numbers": [2] * MANY,
    "keys": each("key"),
}

STATEMENTS: dict[str, dict[str, Any]] = {
    # Calls of users.
    "job_bucket": OWN | {"job_id": IDS[0]},
    "limits_of_job": OWN | {"job_id": IDS[0]},
    "attempts_of_job": {"job_id": IDS[0], "limit": 100},
    "found_jobs": {"ids": IDS[:20]},
    "scan_jobs": {
        "user_id": 1,
        "state": "received",
        "from_id": FIRST,
        "before_id": LAST,
        "tail": "abcd",
        "name": "abcd",
        "limit": 4000,
    },
    "why_not_submitted": {
        "user_ids": [1] * 1000,
        "buckets": [f"bucket-{number}" for number in range(1000)],
    },
    "jobs_of_buckets": OWN | {"buckets": [f"bucket-{number}" for number in range(1000)]},
    "job_statuses": OWN | {"job_ids": IDS},
    "count_ahead": {"job_id": LAST_WAITING, "most": 1001},
    "count_backlog": {"group_id": 1, "most": 2_000_000},
    "follow_job": OWN | {"job_id": IDS[0], "for_s": 30.0},
    "cancel_jobs": {"group_id": 1, "user_id": 1, "job_ids": IDS, "reason": "why"}
    | {"action": "job-cancelled"},
    "lock_to_cancel": OWN | {"job_ids": IDS},
    "count_backlog_of_user": {"user_id": 1, "most": 1_000_000},
    "cancel_own_jobs": {"group_id": 1, "user_id": 2, "job_ids": IDS, "reason": "why"}
    | {"action": "job-cancelled"},
    "lock_own_to_cancel": {"user_id": 2, "states": ["received"], "limit": 500},
    "page_of_users": PAGE | {"user_ids": [1]},
    "page_of_group": PAGE | {"group_id": 1},
    "listed_jobs": {"ids": IDS[:100]},
    "usage_of_group": {
        "group_id": 1,
        "since": NOW - timedelta(days=1),
        "until": NOW,
        "by_user": True,
        "by_code": True,
        "by_month": True,
        "by_batch": True,
        "batches": None,
        "limit": 1000,
    },
    "audit_page": {
        "group_id": 1,
        "actions": ["job-cancelled"],
        "since": None,
        "until": None,
        "before_id": None,
        "limit": 100,
    },
    "events_after": {"user_ids": [1], "xid": "1", "number": 0, "most_scanned": 1000}
    | {"job_ids": IDS, "batches": None, "states": STATES, "limit": 1000},
    "users_with_new_events": {"xid": "999999999999"},
    "delete_events": {"keep_s": 3600.0, "most": 1000},
    "delete_foreign_events": {},
    # Batches.
    "page_of_jobs_in_batches": PAGE | {"batches": [1]},
    "batches_named": {"user_ids": [1], "name": "scan", "first": BATCHES[0], "last": BATCHES[0]}
    | {"limit": 101},
    "batch_now": {"user_id": 1, "id": BATCHES[0]},
    "page_of_batches": {"user_id": 1, "reference": None, "digits": None}
    | {"after": BATCHES[200], "limit": 100},
    "ends_of_batch": {"batch": 1, "most": 200},
    "failures_of_batch": {"batch": 1, "limit": 5},
    "report_of_jobs": {"ids": IDS, "user_id": 1},
    "place_among_ended": {"job_id": IDS[0], "batch": 1},
    "ended_of_batch": {"batch": 1, "state": "failed", "ended_at": NOW - timedelta(days=1)}
    | {"id": IDS[0], "limit": 1000},
    "lock_batch_to_cancel": {"batch": 1, "states": ["received", "running"], "limit": 500},
    "fold_batch_changes": {"lock": 1, "most": 1000},
    # Mail.
    "count_mail_of_user": {"user_id": 1, "batch_id": BATCHES[0]},
    "batches_to_tell": {"quiet_s": 3600.0, "limit": 20},
    "note_failure_told": {"user_id": 1, "batch_id": BATCHES[0]},
    "close_mail_request": {"user_id": 1, "batch_id": BATCHES[0], "jobs": 1, "failed": 0},
    "claim_mail": {"lease_s": 300.0},
    "note_mail_sent": {"id": BATCHES[0]},
    "note_mail_failed": {"id": BATCHES[0], "tries": 1, "error": "why", "pause_s": 60.0}
    | {"try_for_s": 172800.0},
    "delete_old_mails": {"keep_s": 30 * 86400.0},
    "delete_unused_mail_requests": {"keep_s": 7 * 86400.0},
    "nodes_of_group": {"group_id": 1, "limit": 500, "after": None},
    "nodes_of_cluster": CLUSTER | {"unseen_s": 86400.0},
    "group_overview": {},
    # The feeder.
    "groups_with_backlog": CLUSTER,
    "in_flight_by_resources": CLUSTER,
    "claim_jobs": CLUSTER
    | {
        "group_id": 1,
        "node_set": "set",
        "full_cores": [],
        "full_memories": [],
        "limit": 200,
        "at_most": 200,
        "free_cores": 100,
        "free_memory_mb": 400_000,
        "most_combinations": 100,
        "memory_steps": [4000, 8000],
    },
    "undispatched_attempts": CLUSTER | {"paused_groups": [], "limit": 200},
    "note_dispatched": ATTEMPTS | {"nomad_job_ids": each("child")},
    # The tracker.
    "note_running": ATTEMPTS | {"node_ids": each(NODE), "times": each(NOW)},
    "note_allocations": ATTEMPTS
    | {
        "node_ids": each(NODE),
        "allocation_ids": each("allocation"),
        "deads": each(False),
        "silents": each(False),
    },
    "note_unplaced_reasons": ATTEMPTS | {"reasons": each("why")},
    # Maintenance and the stopper.
    "release_reserved_nodes": CLUSTER | {"reserve_after_s": 300.0},
    "reserve_nodes": CLUSTER | {"reserve_after_s": 300.0, "after_slots_s": 10.0},
    "attempts_in_flight": CLUSTER,
    "unplaced_attempts": CLUSTER,
    "overdue_attempts": CLUSTER
    | {
        "reports_come_since": None,
        "receipt_grace_s": 60.0,
        "start_grace_s": 60.0,
        "node_silence_s": 60.0,
    }
    | {"after": FIRST, "limit": 500},
    "note_unheard": CLUSTER | {"node_ids": [NODE]},
    "note_gone": ATTEMPTS,
    "abandon_attempts": ATTEMPTS
    | RETRY
    | {
        "reasons": each("why"),
        "losts": each(True),
        "laters": each(True),
        "unstarteds": each(False),
        "max_attempts": 3,
    },
    "attempts_to_stop": CLUSTER | {"limit": 200},
    "note_stopped": ATTEMPT | {"child": True},
    "between_attempts": ATTEMPTS | {"young_s": 360.0},
    # Calls of nodes.
    "start_attempt": ATTEMPT | {"node_id": NODE, "start_key": "key", "lease": True},
    "why_no_start": {"job_id": IDS[0], "node_id": NODE},
    "allow_upload": ATTEMPT | {"node_id": NODE, "marks": True},
    "attempt_for_receipt": ATTEMPT,
    "end_attempt": ATTEMPT
    | {
        "outcome": "ended",
        "exit_code": 0,
        "message": None,
        "wall_s": 1.0,
        "cpu_s": 1.0,
        "peak_memory_mb": 1,
        "uploaded_bytes": 1,
        "uploaded_files": 1,
    }
    | {"peak_no_cache_mb": 1, "disk_mb": 1, "image_s": 1.0, "input_s": 1.0, "output_s": 1.0},
    "end_job": ATTEMPT | {"state": "completed", "reason": None, "exit_code": 0},
    "requeue_job": ATTEMPT | RETRY | {"reason": "why", "lost": 1, "later": True},
    "retry_job": ATTEMPT | {"reason": "why", "memory_mb": 4000, "time_limit_s": 60},
    # Slots, which ask together.
    "granted_before": ATTEMPTS | {"node_id": NODE, "keys": each("key")},
    "asking_slots": ATTEMPTS
    | {"node_id": NODE, "keys": each("key"), "containers": each(None), "slot_max_s": 300.0}
    | {"wait_s": 1.0, "again_s": 10.0},
    "waiting_in_nomad": {"group_id": 1, "node_id": NODE, "wait_s": 1.0, "again_s": 10.0}
    | {"limit": 200},
    "free_on_node": {"node_id": NODE},
    "make_room": ATTEMPT | {"slot_job": IDS[1], "slot_number": 2, "again_s": 10.0},
    "run_in_slots": ATTEMPTS | SEATS | {"group_id": 1, "node_id": NODE, "nomad_memory_mb": 4000},
    "grant_in_slots": SEATS
    | {"group_id": 1, "node_id": NODE, "cores": 1, "memory_mb": 4000, "nomad_memory_mb": 4000}
    | {"shm_mb": None, "spare": 32, "at_least": MANY // 4, "left_for_others": 32},
    "deal_again": ATTEMPTS | SEATS,
    "end_attempts": ATTEMPTS
    | {
        "node_id": NODE,
        "states": each("completed"),
        "reasons": each(None),
        "exit_codes": each(0),
        "messages": each(None),
        "walls": each(1.0),
        "cpus": each(1.0),
        "memories": each(1),
        "bytes": each(1),
        "files": each(1),
    }
    | {"no_caches": each(1), "disks": each(1)}
    | {"images": each(1.0), "inputs": each(1.0), "outputs": each(1.0)},
    "return_attempts": ATTEMPTS | {"node_id": NODE},
    "note_running_in_slots": ATTEMPTS | {"node_id": NODE},
    # Nodes that fail, and jobs that avoid them.
    "failed_elsewhere": ATTEMPT | {"node_id": NODE},
    "mark_failed_attempt": ATTEMPT,
    "other_nodes_outcomes": ATTEMPT | {"node_id": NODE, "outcomes": ["image_unknown"]},
    "doubt_node": {"job_id": IDS[0], "node_id": NODE},
    "platform_works": {"job_id": IDS[0]},
    "nodes_to_probe": CLUSTER,
    "claim_probe": CLUSTER | {"node_id": NODE, "node_set": "set", "pause_s": 60.0},
    "release_long_probed_nodes": {"long_s": 3600.0},
    "avoided_nodes": CLUSTER | ATTEMPTS | {"most": 4},
    "set_node_sets": ATTEMPTS | {"node_sets": each("set")},
    "attempts_to_end": ATTEMPTS | {"node_id": NODE, "unreported": True},
    "followed_on_node": {"node_id": NODE},
    "attempts_on_node": {"group_id": 1, "node_id": NODE},
    "lock_attempts_on_node": {"group_id": 1, "node_id": NODE},
    "node_leaves": {"node_id": NODE},
}
# Rows and index entries that a statement may read:
# - a statement about one job,
# - any other: none needs all jobs of a state, which are 9,900 and more (600 of those in flight),
# - a statement that counts the backlog.
ONE_JOB, SOME, BACKLOG = 20, 5000, JOBS // 2 + 5000
COUNTING = {"count_backlog", "count_backlog_of_user", "group_overview"}
OF_A_JOB = {name for name, arguments in STATEMENTS.items() if "job_id" in arguments} - {
    "count_ahead"
}

_READS = re.compile(rf"\b(FROM|JOIN|UPDATE)\s+({'|'.join(LARGE)})\b")


@pytest.fixture
async def user(pool: Pool, group: GroupOfTest) -> User:
    return await make_user(pool, group)


@pytest.fixture
async def filled(pool: Pool, group: GroupOfTest, user: User) -> AsyncIterator[Connection]:
    async with filled_group(pool, group, user) as connection:
        yield connection


def test_every_statement_that_reads_a_large_table_is_checked() -> None:
    reading = {
        name
        for name in queries.available_queries
        # aiosql adds a method that gives a cursor for each that selects.
        if not name.endswith("_cursor") and _READS.search(getattr(queries, name).sql)
    }
    assert reading == STATEMENTS.keys()


async def test_no_statement_scans_a_large_table(filled: Connection) -> None:
    offenders = {}
    leading = await leading_columns(filled)
    for name in STATEMENTS:
        for generic in (False, True):
            plan = await plan_of(filled, name, STATEMENTS[name], generic=generic)
            reading = [node for node in nodes(plan) if reads_large_table(node)]
            assert reading, name
            whole = [
                (node["Node Type"], node.get("Relation Name") or node["Index Name"])
                for node in reading
                if reads_whole(node, leading)
            ]
            if whole:
                offenders[name, generic] = whole
    assert offenders == {}


async def test_an_index_without_its_first_column_is_scanned(pool: Pool) -> None:
    async with pool.acquire() as connection, connection.transaction():
        leading = await leading_columns(connection)
        for kind in ("seqscan", "bitmapscan"):
            await connection.execute(f"SET LOCAL enable_{kind} = off")
        asked = {
            "EXPLAIN (FORMAT JSON) SELECT state FROM jobs WHERE state = 'failed'": True,
            "EXPLAIN (FORMAT JSON) SELECT state FROM jobs WHERE group_id = 1": False,
        }
        for sql, whole in asked.items():
            plan = json.loads(await connection.fetchval(sql))[0]["Plan"]
            assert "Index Cond" in plan
            assert reads_whole(plan, leading) is whole, plan


async def test_no_statement_reads_more_rows_than_it_has_to(filled: Connection) -> None:
    """A scan of an index, or a start at its wrong end, reads much too. So reads are counted."""
    offenders = {}
    for name, arguments in STATEMENTS.items():
        for mode in ("force_custom_plan", "force_generic_plan"):
            await filled.execute(f"SET plan_cache_mode = {mode}")
            read, _ = await run_and_count(filled, name, arguments)
            most = BACKLOG if name in COUNTING else ONE_JOB if name in OF_A_JOB else SOME
            if read > most:
                offenders[name, mode] = read
    assert offenders == {}


async def test_argument_lists_are_read_once(filled: Connection) -> None:
    """Reads of an argument list are not in the statistics. So each step's rows are counted."""
    offenders = {}
    for name, arguments in STATEMENTS.items():
        if "job_ids" not in arguments:
            continue
        sql, values = prepared(name, arguments)
        trial = filled.transaction()
        await trial.start()
        # So that each entry leads to a change.
        await filled.execute(
            "UPDATE jobs SET state = 'running', started_at = now(), ended_at = NULL "
            "WHERE id = ANY($1)",
            arguments["job_ids"],
        )
        text = await filled.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", *values)
        await trial.rollback()
        gone_through = sum(rows_of(node) for node in nodes(json.loads(text)[0]["Plan"]))
        if gone_through > 30 * len(arguments["job_ids"]):
            offenders[name] = gone_through
    assert offenders == {}


async def test_a_poll_reads_little_when_all_jobs_ask_for_different_resources(
    filled: Connection, group: GroupOfTest, user: User
) -> None:
    """With 50,000 combinations of one user a poll took 0.4 s, and all groups waited for it."""
    await filled.execute(
        """
        INSERT INTO jobs (id, group_id, user_id, bucket, name, code, version, cores, memory_mb,
                          time_limit_s)
        SELECT (lpad(to_hex($3::int + n), 12, '0') || '70008000000000000000')::uuid, $1, $2,
               'size-' || n, 'default', 'psi4', '1.5', 1 + n % $4, 16 + n * 7919 % 100003, 60
        FROM generate_series(1, $5::int) AS n
        """,
        group.id,
        user.id,
        JOBS,
        8,
        50_000,
    )
    await filled.execute("VACUUM ANALYZE")
    last = job_id(JOBS + 50_000)
    claim = STATEMENTS["claim_jobs"]
    statements: list[tuple[str, dict[str, Any]]] = [
        ("claim_jobs", claim),
        ("claim_jobs", claim | {"free_cores": 0, "free_memory_mb": 0}),
        ("count_ahead", {"job_id": last, "most": 1001}),
    ]
    # Most combinations are too large for the first node.
    for largest in (8000, 2_000_000):
        await filled.execute("UPDATE nodes SET memory_mb = $1, cores = 64", largest)
        for name, arguments in statements:
            read, found = await run_and_count(filled, name, arguments)
            assert found
            assert read < SOME, (name, arguments, largest)


async def test_submitting_jobs_scans_no_large_table(filled: Connection, user: User) -> None:
    """EXPLAIN does not show the statements of a function. So their reads are counted."""
    # Without its plan_cache_mode PostgreSQL would plan the function's first few calls by their
    # arguments. So there are 20 calls.
    for number in range(20):
        jobs = [
            (user, NewJob(f"bucket-{place}", "default", "psi4", "1.5", 1, 4000, 60))
            # Some buckets have a job already, others do not.
            for place in range(JOBS - 500 + number, JOBS + 500 + number)
        ]
        async with filled.transaction():
            # Earlier reads of the session may be counted late.
            before = await scanned(filled)
            assert all(await submit_jobs(filled, jobs))
            assert await scanned(filled) == before
