-- name: start_attempt^
-- The start grant, given once: for the current attempt, to a usable node of the job's group. A quarantined
-- node gets it only for the attempt that probes it. cancel_jobs and a second start wait for the row lock on
-- the job. After a lost answer the node asks again with the same start key, and gets the same answer, even
-- if the job is being cancelled meanwhile: the receipt makes it cancelled.
-- "lease": the grant is the first upload lease too, for an agent that marks objects.
WITH granted AS (
    UPDATE jobs j
    SET node_id = :node_id, start_key = :start_key, started_at = coalesce(j.started_at, now()),
        waiting_since = NULL, unstarted_attempts = 0
    FROM usable_nodes n
    WHERE n.id = :node_id AND n.group_id = j.group_id
      AND j.id = :job_id AND j.attempt = :number AND j.state = 'submitted'
      AND NOT EXISTS (SELECT 1 FROM nodes h WHERE h.id = n.id AND h.held_at IS NOT NULL
                      AND (h.probe_job, h.probe_attempt) IS DISTINCT FROM (j.id, j.attempt)
                      AND j.started_at IS NULL)
      AND (j.started_at IS NULL OR (j.start_key = :start_key AND j.node_id = :node_id))
    RETURNING j.id, j.attempt, j.bucket, j.code, j.version, j.cores, j.memory_mb, j.time_limit_s,
              j.disk_mb, j.batch, n.token_key_id, n.token_hash
), noted AS (
    UPDATE attempts a
    SET node_id = :node_id, started_at = coalesce(a.started_at, now()),
        upload_at = CASE WHEN :lease::bool THEN now() ELSE a.upload_at END,
        marks_objects = CASE WHEN :lease::bool THEN a.upload_at IS NULL OR a.marks_objects
                             ELSE a.marks_objects END
    FROM granted l
    WHERE a.job_id = l.id AND a.number = l.attempt
)
SELECT bucket, code, version, cores, memory_mb, time_limit_s, disk_mb, token_key_id,
       token_hash, (SELECT b.id FROM batches b WHERE b.number = l.batch) AS batch,
       -- An earlier attempt uploaded by an agent that did not mark objects yet.
       EXISTS (SELECT 1 FROM attempts e
               WHERE e.job_id = l.id AND e.number < l.attempt
                 AND e.upload_at IS NOT NULL AND NOT e.marks_objects) AS unmarked_output
FROM granted l;

-- name: why_no_start^
-- The conditions of start_attempt, for the sentence of its refusal.
SELECT j.group_id = n.group_id AS same_group, n.epoch = g.compute_epoch AS current_secret,
       n.left_at IS NOT NULL AS has_left, n.drained_at IS NOT NULL AS is_drained,
       n.cluster = g.cluster AS current_cluster, g.disabled_at IS NOT NULL AS group_is_disabled,
       n.held_at IS NOT NULL
         AND (n.probe_job, n.probe_attempt) IS DISTINCT FROM (j.id, j.attempt) AS is_held,
       j.attempt, j.state, j.started_at, j.cancel_requested_at
FROM nodes n
JOIN groups g ON g.id = n.group_id
LEFT JOIN jobs j ON j.id = :job_id
WHERE n.id = :node_id;

-- name: allow_upload$
-- The upload lease, given if the attempt is still current and was started by this node. The job is locked
-- first: a row that is only joined would be judged as it was before the transaction that we wait for.
WITH current AS (
    SELECT id, attempt FROM jobs
    WHERE id = :job_id AND attempt = :number AND node_id = :node_id
      AND started_at IS NOT NULL AND state IN ('submitted', 'running')
    FOR SHARE
)
UPDATE attempts a
SET upload_at = now(),
    -- True only if all agents that had the lease mark objects: the node may be updated in between.
    marks_objects = :marks AND (a.upload_at IS NULL OR a.marks_objects)
FROM current c
WHERE a.job_id = c.id AND a.number = c.attempt AND a.ended_at IS NULL
RETURNING a.number;

-- name: attempt_for_receipt^
-- Locks the job until its end is written. A requeued job still takes the receipt of its last attempt if
-- that attempt had the upload lease.
SELECT j.state, j.attempt, j.code, j.version, j.memory_mb, j.time_limit_s, j.lost_attempts,
       j.cancel_requested_at, j.doubted_node, j.retries, j.most_retries, j.retry_on, j.most_memory_mb,
       j.most_time_limit_s, a.node_id, a.upload_at, a.started_at,
       EXISTS (SELECT 1 FROM node_failures f WHERE f.node_id = a.node_id) AS node_failed_before,
       -- Nomad may have been told to stop another attempt of the slot, by the same child job.
       a.stop_requested_at IS NOT NULL OR a.stopped_at IS NOT NULL
         OR EXISTS (SELECT 1 FROM attempts f WHERE f.job_id = a.slot_job AND f.number = a.slot_number
                    AND f.stopped_at IS NOT NULL)
         OR EXISTS (SELECT 1 FROM nodes n WHERE n.id = a.node_id
                    AND (n.left_at IS NOT NULL OR n.drained_at IS NOT NULL))
         AS stop_expected
FROM jobs j JOIN attempts a ON a.job_id = j.id AND a.number = :number
WHERE j.id = :job_id
FOR UPDATE OF j;

-- name: end_attempt$
-- Null if the attempt had ended before: the receipt is a repeated one.
UPDATE attempts
SET ended_at = now(), outcome = :outcome, exit_code = :exit_code, message = :message,
    wall_s = :wall_s, cpu_s = :cpu_s, peak_memory_mb = :peak_memory_mb,
    uploaded_bytes = :uploaded_bytes, uploaded_files = :uploaded_files,
    peak_no_cache_mb = :peak_no_cache_mb, disk_mb = :disk_mb,
    image_s = :image_s, input_s = :input_s, output_s = :output_s
WHERE job_id = :job_id AND number = :number AND ended_at IS NULL
RETURNING number;

-- name: end_job!
-- Makes a job final, because of its receipt.
UPDATE jobs
SET state = :state::job_state, reason = :reason, exit_code = :exit_code, ended_at = now(),
    running_at = coalesce(running_at, started_at)
WHERE id = :job_id AND attempt = :number AND state IN ('received', 'submitted', 'running');

-- name: requeue_job!
-- Puts a job back into the backlog, at its place by age. The attempt's start grant ends.
UPDATE jobs
SET state = 'received', reason = :reason, lost_attempts = lost_attempts + :lost::int,
    not_before = CASE WHEN :later::bool
                      THEN now() + retry_delay(lost_attempts, :retry_delay_s) END,
    started_at = NULL, start_key = NULL, submitted_at = NULL, running_at = NULL
WHERE id = :job_id AND attempt = :number AND state IN ('submitted', 'running');

-- name: retry_job!
-- Puts a job back into the backlog because its user's rule says so, with what its next attempt gets. The attempts
-- since the last retry keep what they had. The job's row is locked (attempt_for_receipt), so "had" is its newest
-- version. A job that is in the backlog already (a delayed receipt) stays there.
WITH had AS (
    SELECT memory_mb, nomad_memory_mb, time_limit_s FROM jobs WHERE id = :job_id
), again AS (
    UPDATE jobs
    SET state = 'received', reason = :reason, retry_reason = :reason, retries = retries + 1,
        memory_mb = :memory_mb, time_limit_s = :time_limit_s, doubted_node = NULL, not_before = NULL,
        started_at = NULL, start_key = NULL, submitted_at = NULL, running_at = NULL
    WHERE id = :job_id AND attempt = :number AND state IN ('received', 'submitted', 'running')
      AND cancel_requested_at IS NULL AND retries < most_retries
    RETURNING id, attempt
)
UPDATE attempts a
SET memory_mb = h.memory_mb, nomad_memory_mb = h.nomad_memory_mb, time_limit_s = h.time_limit_s
FROM again r, had h
WHERE a.job_id = r.id AND a.number <= r.attempt AND a.memory_mb IS NULL;

-- name: abandon_attempts
-- Abandons attempts, any number at once. A job whose cancellation waits for the receipt becomes cancelled.
-- "losts": the attempt counts towards the limit of attempts.
-- "laters": the job waits before it is tried again.
-- "unstarteds": leave the attempt alone if it was started meanwhile.
WITH given AS (
    SELECT * FROM unnest(:job_ids::uuid[], :numbers::int[], :reasons::text[], :losts::bool[],
                         :laters::bool[], :unstarteds::bool[])
        AS t (job_id, number, reason, lost, later, unstarted)
    ORDER BY job_id
), changed AS (
    UPDATE jobs j
    SET state = CASE WHEN j.cancel_requested_at IS NOT NULL THEN 'cancelled'::job_state
                     WHEN t.lost AND j.lost_attempts + 1 >= :max_attempts THEN 'failed'
                     ELSE 'received' END,
        reason = CASE WHEN j.cancel_requested_at IS NOT NULL
                      THEN 'cancelled; ' || t.reason || ', so there is no output'
                      WHEN t.lost AND j.lost_attempts + 1 >= :max_attempts
                      THEN t.reason || '; given up after ' || (j.lost_attempts + 1) || ' attempts'
                      ELSE t.reason || '; it will run again' END,
        ended_at = CASE WHEN j.cancel_requested_at IS NOT NULL
                          OR (t.lost AND j.lost_attempts + 1 >= :max_attempts) THEN now() END,
        lost_attempts = j.lost_attempts + t.lost::int,
        not_before = CASE WHEN t.later
                          THEN now() + retry_delay(CASE WHEN t.lost THEN j.lost_attempts
                                                        ELSE j.unstarted_attempts END,
                                                   :retry_delay_s) END,
        unstarted_attempts = j.unstarted_attempts + (t.later AND NOT t.lost)::int,
        started_at = NULL, start_key = NULL, submitted_at = NULL, running_at = NULL
    FROM given t
    WHERE j.id = t.job_id AND j.attempt = t.number AND j.state IN ('submitted', 'running')
      AND (NOT t.unstarted OR j.started_at IS NULL)
    -- With the reason: to look it up in "given" again would read all of "given" for each row.
    RETURNING j.id, j.attempt, j.state, t.reason AS why, t.lost
), stopping AS (
    UPDATE attempts a
    SET stop_requested_at = coalesce(a.stop_requested_at, now()), message = c.why,
        failed_on_node = a.failed_on_node OR (c.lost AND a.node_id IS NOT NULL)
    FROM changed c
    WHERE a.job_id = c.id AND a.number = c.attempt
)
SELECT id, attempt, state FROM changed;
