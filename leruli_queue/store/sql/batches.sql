-- name: batch_now^
-- One batch of a user, with counts and times of now (migrations/0024_batches.sql).
SELECT * FROM batches_now WHERE user_id = :user_id AND id = :id;

-- name: page_of_batches
-- Batches of a user, the newest first. reference null: all; else those with this name, or whose id begins with
-- these digits.
SELECT n.* FROM batches_now n
WHERE n.user_id = :user_id
  AND (:after::uuid IS NULL
       OR n.number < (SELECT b.number FROM batches b WHERE b.user_id = :user_id AND b.id = :after::uuid))
  AND (:reference::text IS NULL OR n.name = :reference::text
       OR replace(n.id::text, '-', '') LIKE :digits::text || '%')
ORDER BY n.number DESC
LIMIT :limit;

-- name: batches_named
-- Batches of some users with a name, or with an id in a range (null: none).
SELECT DISTINCT found.number
FROM unnest(:user_ids::int[]) AS owner (id)
CROSS JOIN LATERAL (
    (SELECT b.number FROM batches b WHERE b.user_id = owner.id AND b.name = :name LIMIT :limit)
    UNION ALL
    (SELECT b.number FROM batches b
     WHERE b.user_id = owner.id AND b.id >= :first::uuid AND b.id <= :last::uuid LIMIT :limit)
) AS found
LIMIT :limit;

-- name: ends_of_batch^
-- Of the last jobs of a batch that completed or failed: how many there are, and when the first of them ended.
-- "last_ended_at" is of cancelled jobs too.
WITH ends AS MATERIALIZED (
    SELECT last.* FROM unnest(ARRAY['completed', 'failed', 'cancelled']::job_state[]) AS final (state)
    CROSS JOIN LATERAL (
        SELECT j.state, j.ended_at FROM jobs j
        WHERE j.batch = :batch AND j.state = final.state
        ORDER BY j.ended_at DESC
        LIMIT :most
    ) AS last
), own AS (
    SELECT ended_at FROM ends WHERE state <> 'cancelled' ORDER BY ended_at DESC LIMIT :most
)
SELECT now() AS now, (SELECT max(ended_at) FROM ends) AS last_ended_at,
       count(*) AS jobs, min(ended_at) AS since
FROM own;

-- name: failures_of_batch
-- The last failures of a batch, the newest first.
SELECT id, name, reason, exit_code, ended_at FROM jobs
WHERE batch = :batch AND state = 'failed'
ORDER BY ended_at DESC
LIMIT :limit;

-- name: lock_batch_to_cancel
-- As lock_own_to_cancel, the jobs of one batch. Jobs that have not ended have no time of end, so they are in the
-- order of ids.
WITH oldest AS (
    SELECT found.id
    FROM unnest(:states::job_state[]) AS wanted (state)
    CROSS JOIN LATERAL (
        SELECT j.id FROM jobs j
        WHERE j.batch = :batch AND j.state = wanted.state AND j.cancel_requested_at IS NULL
        ORDER BY j.ended_at, j.id
        LIMIT :limit
    ) AS found
)
SELECT id FROM jobs
WHERE id = ANY(ARRAY(SELECT id FROM oldest))
  AND state = ANY(:states::job_state[]) AND cancel_requested_at IS NULL
ORDER BY id
FOR UPDATE;

-- name: fold_batch_changes$
-- Adds some changes to their batches and deletes them; returns how many. A reader has each change once: in
-- one snapshot it is either a row or a part of the sum. Of several dispatchers one does it at a time: two could
-- deadlock.
WITH mine AS MATERIALIZED (
    SELECT pg_try_advisory_xact_lock(:lock) AS is_held
), portion AS MATERIALIZED (
    -- By the index, which drops dead entries as it meets them. The table's dead rows wait for vacuum.
    SELECT ctid FROM batch_changes WHERE (SELECT is_held FROM mine) AND batch >= 1
    ORDER BY batch
    LIMIT :most
), folded AS (
    DELETE FROM batch_changes WHERE ctid = ANY(ARRAY(SELECT ctid FROM portion)) RETURNING *
), sums AS (
    SELECT batch, sum(received) AS received, sum(submitted) AS submitted, sum(running) AS running,
           sum(completed) AS completed, sum(failed) AS failed, sum(cancelled) AS cancelled,
           max(at) FILTER (WHERE received + submitted + running + completed + failed + cancelled > 0)
               AS last_submitted_at,
           min(at) FILTER (WHERE running > 0) AS first_running_at
    FROM folded GROUP BY batch
), noted AS (
    UPDATE batches b
    SET received = b.received + s.received,
        submitted = b.submitted + s.submitted,
        running = b.running + s.running,
        completed = b.completed + s.completed,
        failed = b.failed + s.failed,
        cancelled = b.cancelled + s.cancelled,
        last_submitted_at = greatest(b.last_submitted_at, s.last_submitted_at),
        first_running_at = least(b.first_running_at, s.first_running_at)
    FROM sums s
    WHERE b.number = s.batch
)
SELECT count(*) FROM folded;
