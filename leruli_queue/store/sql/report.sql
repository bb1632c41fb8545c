-- What jobs that ended used (jobs/measured.py).

-- name: report_of_jobs
-- Of these jobs the user's own that have ended, in their order. Jobs and attempts are looked up one by one: for a plain
-- join PostgreSQL would read all of them. attempts.memory_mb and time_limit_s are what the attempt had, where the job
-- has something else since.
SELECT j.id, j.name, j.code, j.version, j.state, j.attempt AS attempts, j.cores,
       coalesce(a.memory_mb, j.memory_mb) AS memory_mb, coalesce(a.time_limit_s, j.time_limit_s) AS time_limit_s,
       j.disk_mb AS disk_limit_mb, a.outcome,
       extract(epoch FROM a.claimed_at - j.received_at)::float8 AS queue_s,
       extract(epoch FROM a.started_at - a.claimed_at)::float8 AS place_s,
       a.image_s, a.input_s, a.wall_s, a.output_s, a.cpu_s, a.peak_memory_mb, a.peak_no_cache_mb, a.disk_mb
FROM unnest(:ids::uuid[]) WITH ORDINALITY AS asked (id, place)
CROSS JOIN LATERAL (SELECT * FROM jobs WHERE id = asked.id LIMIT 1) AS j
LEFT JOIN LATERAL (
    SELECT * FROM attempts WHERE job_id = j.id AND number = j.attempt LIMIT 1
) AS a ON true
WHERE j.user_id = :user_id AND j.state IN ('completed', 'failed', 'cancelled')
ORDER BY asked.place;

-- name: place_among_ended^
-- The place of a job among those of its batch that have ended.
SELECT state, ended_at, id FROM jobs
WHERE id = :job_id AND batch = :batch AND state IN ('completed', 'failed', 'cancelled');

-- name: ended_of_batch
-- A page of the jobs of a batch that have ended, in the order of the index jobs_of_batch. The final states are the
-- last ones of their type.
SELECT id FROM jobs
WHERE batch = :batch AND (state, ended_at, id) > (:state::job_state, :ended_at::timestamptz, :id::uuid)
ORDER BY state, ended_at, id
LIMIT :limit;
