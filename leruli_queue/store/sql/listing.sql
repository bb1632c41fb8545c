-- Pages of jobs, newest first. There is one index scan per state (and user), each of at most a page. So a
-- page costs the same at any depth and with any filter.

-- name: page_of_group
SELECT found.id
FROM unnest(:states::job_state[]) AS wanted (state)
CROSS JOIN LATERAL (
    SELECT j.id FROM jobs j
    WHERE j.group_id = :group_id AND j.state = wanted.state
      AND j.id >= :from_id AND j.id < :before_id
    ORDER BY j.id DESC
    LIMIT :limit
) AS found
ORDER BY found.id DESC
LIMIT :limit;

-- name: page_of_users
SELECT found.id
FROM unnest(:user_ids::int[]) AS owner (id)
CROSS JOIN unnest(:states::job_state[]) AS wanted (state)
CROSS JOIN LATERAL (
    SELECT j.id FROM jobs j
    WHERE j.user_id = owner.id AND j.state = wanted.state
      AND j.id >= :from_id AND j.id < :before_id
    ORDER BY j.id DESC
    LIMIT :limit
) AS found
ORDER BY found.id DESC
LIMIT :limit;

-- name: page_of_jobs_in_batches
SELECT found.id
FROM unnest(:batches::bigint[]) AS asked (number)
CROSS JOIN unnest(:states::job_state[]) AS wanted (state)
CROSS JOIN LATERAL (
    SELECT j.id FROM jobs j
    WHERE j.batch = asked.number AND j.state = wanted.state
      AND j.id >= :from_id AND j.id < :before_id
    ORDER BY j.id DESC
    LIMIT :limit
) AS found
ORDER BY found.id DESC
LIMIT :limit;

-- name: scan_jobs^
-- Scans the next jobs of a user in a state, newest first, for ids that end in "tail" (null: none does) or
-- for the name "name". Returns the ids found, how many jobs were scanned, and the last of these. The number
-- is bounded, because neither the end of an id nor the name is in an index.
WITH scanned AS MATERIALIZED (
    SELECT id, name FROM jobs
    -- The whole index key, so that only one index has this order. By the index of ids PostgreSQL would
    -- read the jobs of all users.
    WHERE (user_id, state, id) >= (:user_id::int, :state::job_state, :from_id::uuid)
      AND (user_id, state, id) < (:user_id::int, :state::job_state, :before_id::uuid)
    ORDER BY user_id DESC, state DESC, id DESC
    LIMIT :limit
)
SELECT array_agg(id ORDER BY id DESC)
           FILTER (WHERE name = :name OR id::text LIKE '%' || :tail::text) AS found,
       count(*) AS count, (SELECT id FROM scanned ORDER BY id LIMIT 1) AS last
FROM scanned;

-- name: found_jobs
SELECT id, name, state, received_at FROM jobs WHERE id = ANY(:ids::uuid[]) ORDER BY id DESC;

-- name: listed_jobs
SELECT j.id, u.name AS user_name, j.name, j.code, j.version, j.cores, j.memory_mb, j.disk_mb, j.shm_mb,
       j.share_container,
       j.state, j.reason, j.retry_reason, j.cancel_requested_at, a.waiting_reason, j.started_at IS NOT NULL AS started,
       -- As in job_statuses.
       coalesce(j.state IN ('submitted', 'running') AND j.started_at IS NOT NULL
                AND a.silent_since > coalesce(n.reported_at, '-infinity'), false) AS silent,
       j.exit_code, j.attempt, j.received_at, j.submitted_at, j.running_at, j.ended_at,
       b.id AS batch_id, b.name AS batch_name
FROM jobs j
JOIN users u ON u.id = j.user_id
LEFT JOIN attempts a ON a.job_id = j.id AND a.number = j.attempt
LEFT JOIN nodes n ON n.id = a.node_id
LEFT JOIN LATERAL (SELECT id, name FROM batches WHERE number = j.batch LIMIT 1) AS b ON true
WHERE j.id = ANY(:ids::uuid[])
ORDER BY j.id DESC;

-- name: usage_of_group
-- Ended jobs, grouped by user, code, month or batch as requested. A job's time is the sum over all its attempts
-- with a receipt. "measured" is the part of the core hours of which the CPU time is known. batches null: of the
-- whole group; else of these batches, by an index of their own. The first half is not executed then. Without OFFSET 0
-- PostgreSQL may read all jobs that ended in the time, to find those of the batches.
WITH used AS (
    SELECT CASE WHEN :by_user THEN u.name END AS user_name,
           CASE WHEN :by_user THEN u.id END AS user_id,
           CASE WHEN :by_code THEN j.code || ':' || j.version END AS code,
           CASE WHEN :by_month THEN to_char(j.ended_at AT TIME ZONE 'UTC', 'YYYY-MM') END AS month,
           CASE WHEN :by_batch THEN j.batch END AS batch,
           count(*) AS jobs,
           count(*) FILTER (WHERE j.state = 'completed') AS completed,
           count(*) FILTER (WHERE j.state = 'failed') AS failed,
           count(*) FILTER (WHERE j.state = 'cancelled') AS cancelled,
           coalesce(sum(j.cores * used.wall_s), 0) / 3600 AS core_hours,
           coalesce(sum(j.cores * used.measured_s), 0) / 3600 AS measured_core_hours,
           coalesce(sum(used.cpu_s), 0) / 3600 AS cpu_hours
    FROM (
        SELECT id, user_id, code, version, cores, state, ended_at, batch FROM jobs
        WHERE :batches::bigint[] IS NULL AND group_id = :group_id AND ended_at IS NOT NULL
          AND ended_at >= :since AND ended_at < :until
        UNION ALL
        SELECT of_batch.* FROM unnest(:batches::bigint[]) AS asked (number)
        CROSS JOIN unnest(ARRAY['completed', 'failed', 'cancelled']::job_state[]) AS final (state)
        CROSS JOIN LATERAL (
            SELECT id, user_id, code, version, cores, jobs.state, ended_at, batch FROM jobs
            WHERE batch = asked.number AND jobs.state = final.state
              AND ended_at >= :since AND ended_at < :until
            OFFSET 0
        ) AS of_batch
    ) AS j
    JOIN users u ON u.id = j.user_id
    CROSS JOIN LATERAL (
        SELECT sum(a.wall_s) AS wall_s, sum(a.wall_s) FILTER (WHERE a.cpu_s IS NOT NULL) AS measured_s,
               sum(a.cpu_s) AS cpu_s
        FROM attempts a WHERE a.job_id = j.id
    ) AS used
    GROUP BY 1, 2, 3, 4, 5
    ORDER BY 4, 1, 2, 3, 5
    LIMIT :limit
)
SELECT used.*, b.id AS batch_id, b.name AS batch_name
FROM used
LEFT JOIN LATERAL (SELECT id, name FROM batches WHERE number = used.batch LIMIT 1) AS b ON true
ORDER BY month, user_name, user_id, code, batch;
