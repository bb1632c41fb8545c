-- name: granted_before
-- What these slots were granted under these keys, and has not ended: the answer that said so was lost.
SELECT a.slot_job, a.slot_number, j.id AS job_id, j.attempt AS number, j.user_id, j.bucket, j.code, j.version,
       j.cores, j.memory_mb, j.time_limit_s, j.disk_mb, j.share_container, g.token_key_id, g.token_hash,
       (SELECT b.id FROM batches b WHERE b.number = j.batch) AS batch,
       j.attempt > 1 AND EXISTS (SELECT 1 FROM attempts e
                                 WHERE e.job_id = j.id AND e.number < j.attempt
                                   AND e.upload_at IS NOT NULL AND NOT e.marks_objects) AS unmarked_output
FROM unnest(:job_ids::uuid[], :numbers::int[], :keys::text[]) AS s (job_id, number, key)
JOIN attempts a ON a.slot_job = s.job_id AND a.slot_number = s.number AND a.ended_at IS NULL
CROSS JOIN LATERAL (SELECT * FROM jobs WHERE id = a.job_id LIMIT 1) AS j
JOIN groups g ON g.id = j.group_id
WHERE j.attempt = a.number AND j.start_key = s.key AND j.node_id = :node_id AND j.state IN ('submitted', 'running')
ORDER BY a.job_id;

-- name: asking_slots
-- The slots that a node asks for, with what the container that they keep may be shared for.
-- "asked_before": this question was answered with attempts that have not ended.
-- "is_open": the slot may run another attempt now. All of these hold:
-- 1. The node may start jobs: usable, alive, not reserved, not held, without trouble.
-- 2. The slot's child job was not stopped, and nobody has asked for its stop.
-- 3. Nomad does not say that the slot's allocation is over.
-- 4. The slot is younger than :slot_max_s.
-- 5. It has not ended so that Nomad can place another attempt.
-- 6. The dispatcher that was heard last knows slots.
-- "others_wait": waiting_in_nomad may find attempts that matter to the slot.
-- The memory is that of the slot's first attempt, also where its job gets more in its next attempt.
-- LIMIT 1 makes PostgreSQL look up each job by its id. For a plain join it reads all jobs of the group.
SELECT s.job_id, s.number, j.cores, coalesce(a.memory_mb, j.memory_mb) AS memory_mb,
       coalesce(a.nomad_memory_mb, a.memory_mb, j.nomad_memory_mb, j.memory_mb) AS nomad_memory_mb,
       j.shm_mb, k.user_id, k.code, k.version,
       EXISTS (SELECT 1 FROM attempts b JOIN jobs g ON g.id = b.job_id AND g.attempt = b.number
               WHERE b.slot_job = s.job_id AND b.slot_number = s.number AND b.ended_at IS NULL
                 AND g.start_key = s.key) AS asked_before,
       coalesce(
           u.alive AND u.reserved_for IS NULL AND n.held_at IS NULL AND n.agent_trouble IS NULL
           AND a.nomad_job_id IS NOT NULL AND a.stop_requested_at IS NULL AND a.stopped_at IS NULL
           AND a.slot_ended_at IS NULL
           AND EXISTS (SELECT 1 FROM dispatchers d WHERE d.cluster = n.cluster AND d.slots_at >= d.seen_at)
           AND a.allocation_dead_at IS NULL AND a.started_at > now() - make_interval(secs => :slot_max_s)
           AND NOT EXISTS (SELECT 1 FROM attempts f
                           WHERE f.slot_job = s.job_id AND f.slot_number = s.number AND f.ended_at IS NULL
                             AND (f.stop_requested_at IS NOT NULL OR f.allocation_dead_at IS NOT NULL)),
           false) AS is_open,
       EXISTS (SELECT 1 FROM jobs o
               WHERE o.group_id = j.group_id AND o.state = 'submitted' AND o.started_at IS NULL
                 AND o.submitted_at < now() - make_interval(secs => :wait_s)
                 AND (o.submitted_at < now() - make_interval(secs => :again_s)
                      OR (o.cores, o.memory_mb, o.shm_mb)
                         IS DISTINCT FROM (j.cores, coalesce(a.memory_mb, j.memory_mb), j.shm_mb)
                      OR o.lost_attempts > 0 OR o.doubted_node IS NOT NULL)) AS others_wait
FROM unnest(:job_ids::uuid[], :numbers::int[], :keys::text[], :containers::uuid[])
    AS s (job_id, number, key, container)
JOIN attempts a ON a.job_id = s.job_id AND a.number = s.number AND a.node_id = :node_id AND a.slot_job IS NULL
CROSS JOIN LATERAL (SELECT * FROM jobs WHERE id = s.job_id LIMIT 1) AS j
JOIN nodes n ON n.id = :node_id AND n.group_id = j.group_id
LEFT JOIN usable_nodes u ON u.id = n.id
LEFT JOIN LATERAL (SELECT * FROM jobs WHERE id = coalesce(s.container, s.job_id) LIMIT 1) AS k
    ON k.group_id = j.group_id;

-- name: waiting_in_nomad
-- The attempts of a group that have been unplaced for longer than :wait_s, the oldest first. "needs_room": Nomad
-- has to place it, and no slot has ended for it lately. Otherwise a slot with the same resources may run it.
-- Left out: probes, which wait for their node, and attempts that avoid this node while another one fits.
SELECT j.id AS job_id, j.attempt AS number, j.cores, j.memory_mb, j.shm_mb,
       coalesce(j.nomad_memory_mb, j.memory_mb) AS nomad_memory_mb,
       j.lost_attempts > 0 OR j.doubted_node IS NOT NULL AS chooses_nodes,
       coalesce(w.room_made_at < now() - make_interval(secs => :again_s), true) AS needs_room,
       j.submitted_at < now() - make_interval(secs => :again_s) AS waits_long
FROM jobs j CROSS JOIN LATERAL (
    SELECT * FROM attempts w WHERE w.job_id = j.id AND w.number = j.attempt LIMIT 1
) AS w
WHERE j.group_id = :group_id AND j.state = 'submitted' AND j.started_at IS NULL
  AND j.submitted_at < now() - make_interval(secs => :wait_s)
  AND w.allocation_id IS NULL AND w.nomad_job_id IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM nodes h
                  WHERE h.held_at IS NOT NULL AND h.probe_job = j.id AND h.probe_attempt = j.attempt)
  AND ((j.lost_attempts = 0 AND j.doubted_node IS NULL)
       OR NOT EXISTS (SELECT 1 FROM attempts f
                      WHERE f.job_id = j.id AND f.failed_on_node AND f.node_id = :node_id)
       OR NOT EXISTS (
           SELECT 1 FROM usable_nodes u JOIN nodes n ON n.id = u.id
           WHERE u.group_id = j.group_id AND u.alive AND u.id <> :node_id AND n.held_at IS NULL
             AND n.agent_trouble IS NULL AND u.cores >= j.cores
             AND u.memory_mb >= coalesce(j.nomad_memory_mb, j.memory_mb)
             AND NOT EXISTS (SELECT 1 FROM attempts f
                             WHERE f.job_id = j.id AND f.failed_on_node AND f.node_id = u.id)))
ORDER BY j.submitted_at, j.id
LIMIT :limit;

-- name: free_on_node^
-- The cores and MB of a node that no slot has: its attempts count once.
SELECT n.cores - coalesce(sum(s.cores), 0)::int AS cores,
       n.memory_mb - coalesce(sum(s.memory_mb), 0)::int AS memory_mb
FROM nodes n LEFT JOIN LATERAL (
    SELECT DISTINCT ON (coalesce(a.slot_job, j.id), coalesce(a.slot_number, j.attempt))
           j.cores, coalesce(j.nomad_memory_mb, j.memory_mb) AS memory_mb
    FROM jobs j CROSS JOIN LATERAL (
        SELECT * FROM attempts a WHERE a.job_id = j.id AND a.number = j.attempt LIMIT 1
    ) AS a
    -- The expression of the index jobs_on_node.
    WHERE (CASE WHEN j.state IN ('submitted', 'running') AND j.started_at IS NOT NULL THEN j.node_id END) = n.id
    ORDER BY coalesce(a.slot_job, j.id), coalesce(a.slot_number, j.attempt)
) AS s ON true
WHERE n.id = :node_id
GROUP BY n.id;

-- name: make_room$
-- Ends a slot for an attempt that waits in Nomad. Null if another slot has ended for it lately.
WITH made AS (
    UPDATE attempts SET room_made_at = now()
    WHERE job_id = :job_id AND number = :number AND allocation_id IS NULL
      AND coalesce(room_made_at < now() - make_interval(secs => :again_s), true)
    RETURNING number
)
UPDATE attempts a SET slot_ended_at = now()
FROM made
WHERE a.job_id = :slot_job AND a.number = :slot_number
RETURNING a.number;

-- name: run_in_slots
-- Slots run jobs that wait in Nomad for the same resources: each is started on the node as a new attempt, and
-- its attempt in Nomad is stopped, uncounted. The slots are given once for each attempt that they may run.
WITH seat AS (
    SELECT * FROM unnest(:slot_jobs::uuid[], :slot_numbers::int[], :keys::text[])
        WITH ORDINALITY AS t (slot_job, slot_number, key, place)
), waiting AS (
    SELECT * FROM unnest(:job_ids::uuid[], :numbers::int[]) WITH ORDINALITY AS t (job_id, number, place)
), picked AS (
    SELECT j.id, w.place FROM waiting w JOIN jobs j ON j.id = w.job_id AND j.attempt = w.number
    WHERE j.group_id = :group_id AND j.state = 'submitted' AND j.started_at IS NULL
    ORDER BY w.place
    LIMIT cardinality(:keys::text[])
    FOR UPDATE OF j SKIP LOCKED
), numbered AS (
    SELECT id, row_number() OVER (ORDER BY place) AS place FROM picked
), started AS (
    UPDATE jobs j
    SET attempt = j.attempt + 1, submitted_at = now(), started_at = now(), reason = NULL, start_key = s.key,
        node_id = :node_id, not_before = NULL, waiting_since = NULL, unstarted_attempts = 0,
        nomad_memory_mb = :nomad_memory_mb
    FROM numbered p JOIN seat s ON s.place = p.place
    WHERE j.id = p.id AND j.state = 'submitted' AND j.started_at IS NULL
    RETURNING p.place, s.slot_job, s.slot_number, j.id, j.attempt, j.user_id, j.bucket, j.code, j.version,
              j.cores, j.memory_mb, j.time_limit_s, j.disk_mb, j.share_container, j.batch
), stopping AS (
    UPDATE attempts a SET stop_requested_at = now(), ended_at = now(), message = 'a slot runs the job instead'
    FROM started s
    WHERE a.job_id = s.id AND a.number = s.attempt - 1
), made AS (
    INSERT INTO attempts (job_id, number, node_set, cluster, nomad_job_id, node_id, allocation_id, placed_at,
                          started_at, upload_at, marks_objects, slot_job, slot_number)
    SELECT s.id, s.attempt, f.node_set, f.cluster, f.nomad_job_id, f.node_id, f.allocation_id, now(), now(),
           now(), true, s.slot_job, s.slot_number
    FROM started s JOIN attempts f ON f.job_id = s.slot_job AND f.number = s.slot_number
)
SELECT s.slot_job, s.slot_number, s.id AS job_id, s.attempt AS number, s.user_id, s.bucket, s.code, s.version,
       s.cores, s.memory_mb, s.time_limit_s, s.disk_mb, s.share_container, g.token_key_id, g.token_hash,
       (SELECT b.id FROM batches b WHERE b.number = s.batch) AS batch,
       s.attempt > 1 AND EXISTS (SELECT 1 FROM attempts e
                                 WHERE e.job_id = s.id AND e.number < s.attempt
                                   AND e.upload_at IS NOT NULL AND NOT e.marks_objects) AS unmarked_output
FROM started s JOIN groups g ON g.id = :group_id
ORDER BY s.place;

-- name: grant_in_slots
-- Slots run the next jobs of the backlog that ask for exactly their resources. Each job is started on the node as
-- a new attempt, with the slot's allocation, and with the lease to upload. The order is the feeder's: next is the
-- user with the fewest jobs in flight, and of one user the highest priority, then the oldest job. Left out are
-- jobs that failed before: the feeder chooses nodes for those.
-- The slots are given once for each attempt that they may run. Jobs that another call is granting are skipped, so
-- :spare more are looked at. Of the attempts after the first :at_least, only as many are granted that
-- :left_for_others jobs still wait.
WITH seat AS (
    SELECT * FROM unnest(:slot_jobs::uuid[], :slot_numbers::int[], :keys::text[])
        WITH ORDINALITY AS t (slot_job, slot_number, key, place)
), able AS MATERIALIZED (
    SELECT u.id AS user_id, j.id, j.priority
    FROM users u CROSS JOIN LATERAL (
        SELECT w.id, w.priority FROM jobs w
        WHERE w.user_id = u.id AND w.state = 'received'
          AND w.cores = :cores AND w.memory_mb = :memory_mb
          AND w.shm_mb IS NOT DISTINCT FROM :shm_mb::int
          AND w.lost_attempts = 0 AND w.doubted_node IS NULL
          AND (w.not_before IS NULL OR w.not_before <= now())
        ORDER BY w.priority DESC, w.id
        LIMIT cardinality(:keys::text[]) + :spare::int
    ) AS j
    WHERE u.group_id = :group_id
), member AS MATERIALIZED (
    -- Once a user, and only where users take turns: thousands of jobs may be in flight.
    SELECT a.user_id,
           CASE WHEN (SELECT count(DISTINCT user_id) FROM able) > 1
                THEN (SELECT count(*) FROM jobs f
                      WHERE f.user_id = a.user_id AND f.state IN ('submitted', 'running'))
                ELSE 0 END AS in_flight
    FROM able a GROUP BY a.user_id
), candidate AS (
    SELECT a.id, m.in_flight + row_number() OVER (
               PARTITION BY a.user_id ORDER BY a.priority DESC, a.id) AS turn
    FROM able a JOIN member m USING (user_id)
), picked AS (
    SELECT j.id, c.place FROM unnest(ARRAY(
        SELECT id FROM candidate ORDER BY turn, id LIMIT cardinality(:keys::text[]) + :spare::int
    )) WITH ORDINALITY AS c (id, place)
    JOIN jobs j ON j.id = c.id
    WHERE j.state = 'received'
    ORDER BY c.place
    LIMIT (SELECT least(cardinality(:keys::text[]), greatest(:at_least::int, count(*) - :left_for_others::int))
           FROM candidate)
    FOR UPDATE OF j SKIP LOCKED
), numbered AS (
    SELECT id, row_number() OVER (ORDER BY place) AS place FROM picked
), started AS (
    UPDATE jobs j
    SET state = 'submitted', attempt = j.attempt + 1, submitted_at = now(), started_at = now(), reason = NULL,
        start_key = s.key, node_id = :node_id, not_before = NULL, waiting_since = NULL, unstarted_attempts = 0,
        nomad_memory_mb = :nomad_memory_mb
    FROM numbered p JOIN seat s ON s.place = p.place
    WHERE j.id = p.id AND j.state = 'received'
    RETURNING p.place, s.slot_job, s.slot_number, j.id, j.attempt, j.user_id, j.bucket, j.code, j.version,
              j.cores, j.memory_mb, j.time_limit_s, j.disk_mb, j.share_container, j.batch
), made AS (
    INSERT INTO attempts (job_id, number, node_set, cluster, nomad_job_id, node_id, allocation_id, placed_at,
                          started_at, upload_at, marks_objects, slot_job, slot_number)
    SELECT s.id, s.attempt, f.node_set, f.cluster, f.nomad_job_id, f.node_id, f.allocation_id, now(), now(),
           now(), true, s.slot_job, s.slot_number
    FROM started s JOIN attempts f ON f.job_id = s.slot_job AND f.number = s.slot_number
)
SELECT s.slot_job, s.slot_number, s.id AS job_id, s.attempt AS number, s.user_id, s.bucket, s.code, s.version,
       s.cores, s.memory_mb, s.time_limit_s, s.disk_mb, s.share_container, g.token_key_id, g.token_hash,
       (SELECT b.id FROM batches b WHERE b.number = s.batch) AS batch,
       s.attempt > 1 AND EXISTS (SELECT 1 FROM attempts e
                                 WHERE e.job_id = s.id AND e.number < s.attempt
                                   AND e.upload_at IS NOT NULL AND NOT e.marks_objects) AS unmarked_output
FROM started s JOIN groups g ON g.id = :group_id
ORDER BY s.place;

-- name: deal_again!
-- Other slots of the same node run these attempts than those that they were granted in.
WITH dealt AS (
    SELECT * FROM unnest(:job_ids::uuid[], :numbers::int[], :slot_jobs::uuid[], :slot_numbers::int[],
                         :keys::text[]) AS t (job_id, number, slot_job, slot_number, key)
), keyed AS (
    -- The jobs first, as everywhere.
    UPDATE jobs j SET start_key = d.key FROM dealt d WHERE j.id = d.job_id AND j.attempt = d.number
    RETURNING j.id
)
UPDATE attempts a
SET slot_job = d.slot_job, slot_number = d.slot_number, nomad_job_id = f.nomad_job_id,
    allocation_id = f.allocation_id
FROM keyed k JOIN dealt d ON d.job_id = k.id
JOIN attempts f ON f.job_id = d.slot_job AND f.number = d.slot_number
WHERE a.job_id = d.job_id AND a.number = d.number;

-- name: end_attempts
-- Receipts of commands that ran to their end, any number at once. Only receipts without any other consequence:
-- the attempt is its job's current one, nobody wants the job cancelled, neither it nor its node failed before, and
-- no retry rule has to be asked.
-- The others are left to end_attempt, one by one. Jobs are locked in the order of their ids, as elsewhere.
WITH given AS (
    SELECT * FROM unnest(:job_ids::uuid[], :numbers::int[], :states::text[], :reasons::text[],
                         :exit_codes::int[], :messages::text[], :walls::float8[], :cpus::float8[],
                         :memories::int[], :bytes::bigint[], :files::int[], :no_caches::int[], :disks::int[],
                         :images::float8[], :inputs::float8[], :outputs::float8[])
        AS t (job_id, number, state, reason, exit_code, message, wall_s, cpu_s, peak_memory_mb,
              uploaded_bytes, uploaded_files, peak_no_cache_mb, disk_mb, image_s, input_s, output_s)
    ORDER BY job_id
), plain AS MATERIALIZED (
    -- LIMIT 1: PostgreSQL looks up the jobs one by one, in this order. With the receipt: to look it up in "given"
    -- again would read all of "given" for each row.
    SELECT t.* FROM given t CROSS JOIN LATERAL (
        SELECT id FROM jobs j
        WHERE j.id = t.job_id AND j.attempt = t.number AND j.node_id = :node_id
          AND j.state IN ('submitted', 'running') AND j.started_at IS NOT NULL
          AND j.cancel_requested_at IS NULL AND j.doubted_node IS NULL
          AND (j.retries IS NULL OR t.state = 'completed')
        LIMIT 1
        FOR UPDATE
    ) AS j
    WHERE NOT EXISTS (SELECT 1 FROM node_failures f WHERE f.node_id = :node_id)
), ended AS (
    UPDATE attempts a
    SET ended_at = now(), outcome = 'ended', exit_code = p.exit_code, message = p.message, wall_s = p.wall_s,
        cpu_s = p.cpu_s, peak_memory_mb = p.peak_memory_mb, uploaded_bytes = p.uploaded_bytes,
        uploaded_files = p.uploaded_files, peak_no_cache_mb = p.peak_no_cache_mb, disk_mb = p.disk_mb,
        image_s = p.image_s, input_s = p.input_s, output_s = p.output_s
    FROM plain p
    WHERE a.job_id = p.job_id AND a.number = p.number AND a.ended_at IS NULL
    RETURNING a.job_id, p.state, p.reason, p.exit_code, p.wall_s
)
UPDATE jobs j
SET state = e.state::job_state, reason = e.reason, exit_code = e.exit_code, ended_at = now(),
    -- Not since the grant: a job that is granted ahead waits for the one before it.
    running_at = coalesce(j.running_at, greatest(j.started_at, now() - make_interval(secs => e.wall_s)))
FROM ended e
WHERE j.id = e.job_id
RETURNING j.id AS job_id, j.attempt AS number;

-- name: return_attempts!
-- A node hands back attempts that it was granted ahead and has not begun. None is counted, and the jobs have
-- their places by age again.
WITH given AS (
    SELECT * FROM unnest(:job_ids::uuid[], :numbers::int[]) AS t (job_id, number)
), returned AS (
    UPDATE jobs j
    SET state = CASE WHEN j.cancel_requested_at IS NULL THEN 'received'::job_state ELSE 'cancelled' END,
        reason = CASE WHEN j.cancel_requested_at IS NULL THEN NULL ELSE 'cancelled before it ran' END,
        ended_at = CASE WHEN j.cancel_requested_at IS NULL THEN NULL ELSE now() END,
        started_at = NULL, start_key = NULL, submitted_at = NULL, running_at = NULL
    FROM given t
    WHERE j.id = t.job_id AND j.attempt = t.number AND j.node_id = :node_id AND j.state = 'submitted'
      AND EXISTS (SELECT 1 FROM attempts o
                  WHERE o.job_id = t.job_id AND o.number = t.number AND o.slot_job IS NOT NULL)
    RETURNING j.id, j.attempt
)
UPDATE attempts a SET ended_at = now(), message = 'handed back by its node before it began'
FROM returned r
WHERE a.job_id = r.id AND a.number = r.attempt;

-- name: note_running_in_slots!
-- A node says that the commands of these attempts run. Nomad does not know of them: their allocation has run
-- since its first attempt.
WITH given AS (
    SELECT * FROM unnest(:job_ids::uuid[], :numbers::int[]) AS t (job_id, number) ORDER BY job_id
), current AS MATERIALIZED (
    -- The jobs first, in the order of their ids, as everywhere.
    SELECT j.id, j.attempt FROM given t CROSS JOIN LATERAL (
        SELECT id, attempt FROM jobs j
        WHERE j.id = t.job_id AND j.attempt = t.number AND j.node_id = :node_id
          AND j.state = 'submitted' AND j.started_at IS NOT NULL
        LIMIT 1
        FOR NO KEY UPDATE
    ) AS j
), noted AS (
    UPDATE attempts a SET running_at = coalesce(a.running_at, now())
    FROM current c
    WHERE a.job_id = c.id AND a.number = c.attempt AND a.slot_job IS NOT NULL AND a.ended_at IS NULL
    RETURNING a.job_id
)
UPDATE jobs j SET state = 'running', running_at = now()
FROM noted n
WHERE j.id = n.job_id;

-- name: between_attempts
-- Of these child jobs, named by their attempts, those whose slot may run another attempt in a moment.
SELECT a.job_id, a.number
FROM unnest(:job_ids::uuid[], :numbers::int[]) AS s (job_id, number)
JOIN attempts a ON a.job_id = s.job_id AND a.number = s.number
WHERE a.slot_job IS NULL AND a.stop_requested_at IS NULL AND a.stopped_at IS NULL
  AND a.started_at > now() - make_interval(secs => :young_s);
