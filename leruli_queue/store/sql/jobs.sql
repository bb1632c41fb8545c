-- name: insert_jobs
-- The ids of all given buckets: of the new rows, and of rows that an earlier statement made.
WITH given AS (
    -- In one order for everybody: two calls with the same buckets wait, and do not deadlock.
    SELECT * FROM unnest(
        :ids::uuid[], :group_ids::int[], :user_ids::int[], :buckets::text[], :names::text[],
        :codes::text[], :versions::text[], :cores::int[], :memory_mbs::int[], :time_limits::int[]
    ) AS t (id, group_id, user_id, bucket, name, code, version, cores, memory_mb, time_limit_s)
    ORDER BY group_id, bucket
), inserted AS (
    INSERT INTO jobs (id, group_id, user_id, bucket, name, code, version, cores, memory_mb,
                      time_limit_s)
    SELECT * FROM given
    ON CONFLICT (group_id, bucket) DO NOTHING
    RETURNING id, group_id, bucket
)
SELECT id, group_id, bucket FROM inserted
UNION
SELECT j.id, j.group_id, j.bucket
FROM jobs j JOIN given USING (group_id, bucket);

-- name: jobs_by_bucket
SELECT id, group_id, bucket
FROM jobs
JOIN unnest(:group_ids::int[], :buckets::text[]) AS t (group_id, bucket) USING (group_id, bucket);

-- name: job_status^
-- owner_id null: any job of the group.
SELECT j.state, j.reason, j.cancel_requested_at, j.cores, j.memory_mb,
       a.waiting_reason
FROM jobs j LEFT JOIN attempts a ON a.job_id = j.id AND a.number = j.attempt
WHERE j.id = :job_id AND j.group_id = :group_id
  AND (:owner_id::int IS NULL OR j.user_id = :owner_id);

-- name: job_bucket^
-- owner_id null: any job of the group.
SELECT bucket, user_id FROM jobs
WHERE id = :job_id AND group_id = :group_id AND (:owner_id::int IS NULL OR user_id = :owner_id);

-- name: cancel_job^
-- The new state and the owner, or no row when there is nothing to cancel. A job without leave to
-- start is over at once; one that may be running is only marked, and its receipt makes it cancelled.
WITH cancelled AS (
    UPDATE jobs
    SET state = CASE WHEN started_at IS NULL THEN 'cancelled' ELSE state END,
        reason = CASE WHEN started_at IS NULL THEN :reason ELSE reason END,
        ended_at = CASE WHEN started_at IS NULL THEN now() END,
        cancel_requested_at = coalesce(cancel_requested_at, now()),
        cancelled_by = coalesce(cancelled_by, :user_id)
    WHERE id = :job_id AND group_id = :group_id AND (:owner_id::int IS NULL OR user_id = :owner_id)
      AND state IN ('received', 'submitted', 'running')
    RETURNING id, attempt, state, user_id, cancel_requested_at = now() AS is_first_request
), stopping AS (
    UPDATE attempts a
    SET stop_requested_at = coalesce(stop_requested_at, now())
    FROM cancelled c
    WHERE a.job_id = c.id AND a.number = c.attempt
)
SELECT state, user_id, is_first_request FROM cancelled;
