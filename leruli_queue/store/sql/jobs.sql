-- name: insert_jobs$
-- The function (migrations/0014_other_parameters.sql) itself takes the locks of the secrets with these key
-- ids.
SELECT take_in(
    :lock, :key_ids, :ids, :group_ids, :user_ids, :buckets, :names, :codes, :versions, :cores,
    :memory_mbs, :time_limits, :priorities
);

-- name: insert_jobs_with_options$
-- The same, for jobs of which some ask for disk, for /dev/shm or for a shared container
-- (migrations/0021_slots.sql).
SELECT take_in_with_options(
    :lock, :key_ids, :ids, :group_ids, :user_ids, :buckets, :names, :codes, :versions, :cores,
    :memory_mbs, :time_limits, :priorities, :disk_mbs, :shm_mbs, :shares
);

-- name: insert_jobs_in_batches$
-- The same, for jobs of which some have a batch (migrations/0024_batches.sql).
SELECT take_in_batches(
    :lock, :key_ids, :ids, :group_ids, :user_ids, :buckets, :names, :codes, :versions, :cores,
    :memory_mbs, :time_limits, :priorities, :disk_mbs, :shm_mbs, :shares, :batch_ids, :batch_names
);

-- name: insert_jobs_with_rules$
-- The same, for jobs of which some have a retry rule (migrations/0026_retry_rules.sql).
SELECT take_in_with_rules(
    :lock, :key_ids, :ids, :group_ids, :user_ids, :buckets, :names, :codes, :versions, :cores,
    :memory_mbs, :time_limits, :priorities, :disk_mbs, :shm_mbs, :shares, :batch_ids, :batch_names,
    :most_retries, :retry_ons, :most_memory_mbs, :most_time_limits
);

-- name: why_not_submitted
-- For jobs that got no id from insert_jobs, in their order: whether another job has their bucket, and the id
-- of that job if it is the same user's. Revoked users and disabled groups get neither.
SELECT other.bucket IS NOT NULL AS in_use, other.own_id
FROM unnest(:user_ids::int[], :buckets::text[]) WITH ORDINALITY AS t (user_id, bucket, place)
JOIN users u ON u.id = t.user_id
JOIN groups g ON g.id = u.group_id
LEFT JOIN LATERAL (
    SELECT j.bucket, CASE WHEN j.user_id = u.id THEN j.id END AS own_id FROM jobs j
    WHERE j.group_id = u.group_id AND j.bucket = t.bucket
      AND u.revoked_at IS NULL AND g.disabled_at IS NULL
    LIMIT 1
) AS other ON true
ORDER BY t.place;

-- name: count_backlog$
-- The size of a group's backlog, up to "most". ORDER BY is the order of the index: without it PostgreSQL may
-- read the whole table.
SELECT count(*)
FROM (
    SELECT FROM jobs WHERE group_id = :group_id AND state = 'received' ORDER BY id LIMIT :most
) AS backlog;

-- name: count_backlog_of_user$
-- As count_backlog, for one user.
SELECT count(*)
FROM (
    SELECT FROM jobs WHERE user_id = :user_id AND state = 'received' ORDER BY id LIMIT :most
) AS backlog;

-- name: job_bucket^
-- owner_id null: any job of the group.
SELECT bucket, user_id FROM jobs
WHERE id = :job_id AND group_id = :group_id AND (:owner_id::int IS NULL OR user_id = :owner_id);

-- name: limits_of_job^
-- Columns of one job that lists do not show. owner_id null: any job of the group.
SELECT time_limit_s, priority, cancel_requested_at, retries, most_retries, retry_on, first_memory_mb,
       first_time_limit_s, most_memory_mb, most_time_limit_s
FROM jobs
WHERE id = :job_id AND group_id = :group_id AND (:owner_id::int IS NULL OR user_id = :owner_id);

-- name: attempts_of_job
-- The last attempts of a job, newest first. An attempt without a receipt that is not the current one was
-- abandoned or cancelled.
SELECT a.number, n.name AS node,
       CASE WHEN a.ended_at IS NOT NULL THEN 'ended'
            WHEN a.number <> j.attempt OR j.state NOT IN ('submitted', 'running') THEN 'stopped'
            WHEN a.stop_requested_at IS NOT NULL THEN 'stopping'
            WHEN a.running_at IS NOT NULL THEN 'running'
            WHEN a.started_at IS NOT NULL THEN 'started'
            ELSE 'waiting' END AS state,
       a.outcome, a.message, a.started_at,
       coalesce(a.ended_at, CASE WHEN a.number <> j.attempt OR j.state NOT IN ('submitted', 'running')
                                 THEN a.stop_requested_at END) AS ended_at,
       a.exit_code, a.peak_memory_mb, a.cpu_s, coalesce(a.memory_mb, j.memory_mb) AS memory_mb,
       coalesce(a.time_limit_s, j.time_limit_s) AS time_limit_s
FROM jobs j
JOIN attempts a ON a.job_id = j.id
LEFT JOIN nodes n ON n.id = a.node_id
WHERE j.id = :job_id
ORDER BY a.number DESC
LIMIT :limit;

-- name: jobs_of_buckets
-- owner_id null: any job of the group.
SELECT id, bucket FROM jobs
WHERE group_id = :group_id AND bucket = ANY(:buckets::text[])
  AND (:owner_id::int IS NULL OR user_id = :owner_id);

-- name: job_statuses
-- owner_id null: any job of the group. LIMIT 1 makes PostgreSQL look up the attempts one by one: for a plain
-- join it would read all of them. "silent": the attempt was started, and neither Nomad nor the service hears
-- its node.
SELECT j.id, j.state, j.reason, j.retry_reason, j.cancel_requested_at, j.cores, j.memory_mb, a.waiting_reason,
       j.started_at IS NOT NULL AS started,
       coalesce(j.state IN ('submitted', 'running') AND j.started_at IS NOT NULL
                AND a.silent_since > coalesce(n.reported_at, '-infinity'), false) AS silent
FROM jobs j
LEFT JOIN LATERAL (
    SELECT * FROM attempts a WHERE a.job_id = j.id AND a.number = j.attempt LIMIT 1
) AS a ON true
LEFT JOIN nodes n ON n.id = a.node_id
WHERE j.id = ANY(:job_ids::uuid[]) AND j.group_id = :group_id
  AND (:owner_id::int IS NULL OR j.user_id = :owner_id);

-- name: count_ahead$
-- How many older jobs in the backlog of the same user the feeder claims before this one. They are counted
-- priority by priority, in the order of the index jobs_in_order. Only within one priority an index scan can
-- end at the job's own age; a higher priority may have any number of younger jobs.
WITH RECURSIVE asked AS (
    SELECT user_id, priority, id FROM jobs WHERE id = :job_id
), higher AS (
    SELECT user_id, id, priority AS own, 32767::smallint AS priority FROM asked
    UNION ALL
    SELECT higher.user_id, higher.id, higher.own, next.priority
    FROM higher
    CROSS JOIN LATERAL (
        SELECT w.priority FROM jobs w
        WHERE w.user_id = higher.user_id AND w.state = 'received'
          AND w.priority < higher.priority AND w.priority >= higher.own
        ORDER BY w.priority DESC, w.id
        LIMIT 1
    ) AS next
)
SELECT count(*)
FROM (
    SELECT FROM higher
    CROSS JOIN LATERAL (
        SELECT FROM jobs older
        WHERE older.user_id = higher.user_id AND older.state = 'received'
          AND older.priority = higher.priority AND older.id < higher.id
        ORDER BY older.id
        LIMIT :most
    ) AS older
    LIMIT :most
) AS ahead;

-- name: lock_to_cancel
-- Waits for transactions that claim, start or end these jobs. Locks in the order of ids, so two calls with
-- the same jobs wait for each other and do not deadlock. It runs before cancel_jobs in the same transaction:
-- an attempt that was made during the wait is not in the snapshot of the statement that waited.
SELECT id FROM jobs
WHERE id = ANY(:job_ids::uuid[]) AND group_id = :group_id
  AND (:owner_id::int IS NULL OR user_id = :owner_id)
  AND state IN ('received', 'submitted', 'running')
ORDER BY id
FOR UPDATE;

-- name: cancel_jobs
-- Cancels jobs that lock_to_cancel returned; returns the new states of those that had not ended. A job
-- without a start grant ends at once. A job that may be running is only marked, and its receipt makes it
-- cancelled.
WITH cancelled AS (
    UPDATE jobs j
    SET state = CASE WHEN started_at IS NULL THEN 'cancelled' ELSE state END,
        reason = CASE WHEN started_at IS NULL THEN :reason ELSE reason END,
        ended_at = CASE WHEN started_at IS NULL THEN now() END,
        cancel_requested_at = coalesce(cancel_requested_at, now()),
        cancelled_by = coalesce(cancelled_by, :user_id)
    WHERE j.id = ANY(:job_ids::uuid[]) AND j.state IN ('received', 'submitted', 'running')
    RETURNING j.id, j.attempt, j.state, j.user_id,
              j.cancel_requested_at = now() AS is_first_request
), stopping AS (
    UPDATE attempts a
    SET stop_requested_at = coalesce(stop_requested_at, now())
    FROM cancelled c
    WHERE a.job_id = c.id AND a.number = c.attempt
), noted AS (
    INSERT INTO audit (group_id, actor_id, action, subject)
    SELECT :group_id, :user_id, :action::audit_action, id::text
    FROM cancelled
    WHERE user_id <> :user_id AND is_first_request
    ORDER BY id
)
SELECT id, state FROM cancelled;

-- name: lock_own_to_cancel
-- A user's jobs in some states, locked as by lock_to_cancel. Jobs that are marked already are left out, so
-- repeated calls come to an end. They are found state by state. The ids go through an array: for a join
-- PostgreSQL expects so many rows that it would read the whole table.
WITH oldest AS (
    SELECT found.id
    FROM unnest(:states::job_state[]) AS wanted (state)
    CROSS JOIN LATERAL (
        SELECT j.id FROM jobs j
        WHERE j.user_id = :user_id AND j.state = wanted.state AND j.cancel_requested_at IS NULL
        ORDER BY j.id
        LIMIT :limit
    ) AS found
)
SELECT id FROM jobs
WHERE id = ANY(ARRAY(SELECT id FROM oldest))
  AND state = ANY(:states::job_state[]) AND cancel_requested_at IS NULL
ORDER BY id
FOR UPDATE;

-- name: cancel_own_jobs^
-- Cancels jobs that lock_own_to_cancel returned; returns how many ended and how many are only marked. Jobs of
-- another user are noted in the audit.
WITH cancelled AS (
    UPDATE jobs j
    SET state = CASE WHEN started_at IS NULL THEN 'cancelled' ELSE state END,
        reason = CASE WHEN started_at IS NULL THEN :reason ELSE reason END,
        ended_at = CASE WHEN started_at IS NULL THEN now() END,
        cancel_requested_at = now(),
        cancelled_by = :user_id
    WHERE j.id = ANY(:job_ids::uuid[]) AND j.state IN ('received', 'submitted', 'running')
    RETURNING j.id, j.attempt, j.state, j.user_id
), stopping AS (
    UPDATE attempts a
    SET stop_requested_at = coalesce(stop_requested_at, now())
    FROM cancelled c
    WHERE a.job_id = c.id AND a.number = c.attempt
), noted AS (
    INSERT INTO audit (group_id, actor_id, action, subject)
    SELECT :group_id, :user_id, :action::audit_action, id::text
    FROM cancelled WHERE user_id <> :user_id ORDER BY id
)
SELECT count(*) FILTER (WHERE state = 'cancelled') AS cancelled,
       count(*) FILTER (WHERE state <> 'cancelled') AS stopping
FROM cancelled;
