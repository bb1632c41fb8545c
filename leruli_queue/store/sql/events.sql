-- name: events_after
-- The events of some users after a cursor, in the order of cursors, with the position of this snapshot. One row
-- without an event if there is none. All parts are of one snapshot, so nothing is deleted in between.
-- - "xmin": every event of an earlier transaction is visible or will never be.
-- - At most :most_scanned events are looked at. The last one of them is "scanned_xid", "scanned_id".
-- LIMIT 1 makes PostgreSQL look up each job by its id. "batches" null: of all jobs.
WITH position AS MATERIALIZED (
    SELECT pg_snapshot_xmin(pg_current_snapshot()) AS xmin, pg_snapshot_xmax(pg_current_snapshot()) AS xmax,
           (SELECT xid FROM events_deleted) AS deleted
), scanned AS MATERIALIZED (
    SELECT e.* FROM unnest(:user_ids::int[]) AS u (id) CROSS JOIN LATERAL (
        SELECT * FROM events e
        WHERE e.user_id = u.id AND (e.xid, e.id) > (:xid::text::xid8, :number::bigint)
          AND e.xid < (SELECT xmin FROM position)
        ORDER BY e.xid, e.id
        LIMIT :most_scanned
    ) AS e
    ORDER BY e.xid, e.id
    LIMIT :most_scanned
), wanted AS MATERIALIZED (
    SELECT * FROM scanned
    WHERE (:job_ids::uuid[] IS NULL OR job_id = ANY(:job_ids::uuid[])) AND state = ANY(:states::job_state[])
      AND (:batches::bigint[] IS NULL
           OR (SELECT batch FROM jobs WHERE id = job_id LIMIT 1) = ANY(:batches::bigint[]))
    ORDER BY xid, id
    LIMIT :limit
)
SELECT p.xmin::text::bigint AS xmin, p.xmax::text::bigint AS xmax, p.deleted::text::bigint AS deleted,
       (SELECT count(*) FROM scanned) AS scanned,
       l.xid::text::bigint AS scanned_xid, l.id AS scanned_id,
       w.xid::text::bigint AS xid, w.id, w.job_id, w.at, w.state, w.attempt, w.exit_code, w.reason,
       j.name, j.bucket, u.name AS user_name, b.id AS batch_id, b.name AS batch_name
FROM position p
LEFT JOIN LATERAL (SELECT xid, id FROM scanned ORDER BY xid DESC, id DESC LIMIT 1) AS l ON true
LEFT JOIN wanted w ON true
LEFT JOIN LATERAL (SELECT name, bucket, batch FROM jobs WHERE id = w.job_id LIMIT 1) AS j ON true
LEFT JOIN LATERAL (SELECT id, name FROM batches WHERE number = j.batch LIMIT 1) AS b ON true
LEFT JOIN LATERAL (SELECT name FROM users WHERE id = w.user_id LIMIT 1) AS u ON true
ORDER BY w.xid, w.id;

-- name: newest_position$
-- From here on: every event of an earlier transaction is visible or will never be.
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint;

-- name: users_with_new_events^
-- Whose events readers may read now and could not when :xid was the "xmin".
WITH position AS MATERIALIZED (SELECT pg_snapshot_xmin(pg_current_snapshot()) AS xmin)
SELECT p.xmin::text::bigint AS xmin,
       ARRAY(SELECT DISTINCT e.user_id FROM events e
             WHERE e.xid >= :xid::text::xid8 AND e.xid < (SELECT xmin FROM position)) AS user_ids
FROM position p;

-- name: users_with_events
-- Revoked users too: their jobs may still run.
SELECT id FROM users WHERE group_id = :group_id;

-- name: delete_events$
-- Deletes the oldest events that are older than :keep_s, and notes how far. No transaction that may still commit is
-- passed: its events would be missing for readers who begin now. Two dispatchers do not wait for each other.
WITH oldest AS MATERIALIZED (
    SELECT ctid, xid, at FROM events
    WHERE xid < pg_snapshot_xmin(pg_current_snapshot())
    ORDER BY xid, id
    LIMIT :most
    FOR UPDATE SKIP LOCKED
), deleted AS (
    DELETE FROM events
    WHERE ctid = ANY(ARRAY(SELECT ctid FROM oldest WHERE at < now() - make_interval(secs => :keep_s)))
    RETURNING xid
), noted AS (
    UPDATE events_deleted SET xid = greatest(xid, (SELECT xid FROM deleted ORDER BY xid DESC LIMIT 1))
    WHERE EXISTS (SELECT FROM deleted)
)
SELECT count(*) FROM deleted;

-- name: delete_foreign_events!
-- Events of transactions that this server has not begun. They came with a dump of another server, whose numbers no
-- longer mean anything.
WITH deleted AS (
    DELETE FROM events WHERE xid >= pg_snapshot_xmax(pg_current_snapshot())
)
UPDATE events_deleted SET xid = '0' WHERE xid >= pg_snapshot_xmax(pg_current_snapshot());
