-- name: groups_with_backlog
-- Groups of a cluster that have jobs to dispatch.
SELECT g.id
FROM groups g
WHERE g.cluster = :cluster AND EXISTS (SELECT 1 FROM jobs j WHERE j.group_id = g.id AND j.state = 'received')
ORDER BY g.id;

-- name: in_flight_by_resources
-- Jobs in flight by the resources that they ask for: how many there are, how many of them are unplaced,
-- and for how many of these Nomad has said that it has no room. Left out, because they take no room from
-- the others:
-- - what runs on reserved or held nodes,
-- - the jobs that nodes are reserved for, and the probes,
-- - all jobs of a slot but one.
--
-- Both states are named because the index jobs_in_flight covers both: one alone would not use it. LIMIT 1
-- makes PostgreSQL look up the attempts of jobs in flight one by one, here and below. For a plain join it
-- reads all attempts there ever were as soon as it expects some thousands in flight.
WITH reserved AS MATERIALIZED (
    SELECT coalesce(array_agg(id), '{}') AS nodes,
           array_remove(array_agg(reserved_for) || array_agg(CASE WHEN held_at IS NOT NULL
                                                             THEN probe_job END), NULL) AS jobs
    FROM nodes
    WHERE cluster = :cluster
      AND (reserved_for IS NOT NULL OR held_at IS NOT NULL OR agent_trouble IS NOT NULL)
), unplaced_jobs AS (
    SELECT j.group_id, j.cores, coalesce(j.nomad_memory_mb, j.memory_mb) AS nomad_memory_mb,
           count(*) AS unplaced, count(a.waiting_reason) AS refused
    FROM jobs j CROSS JOIN LATERAL (
        SELECT * FROM attempts a WHERE a.job_id = j.id AND a.number = j.attempt LIMIT 1
    ) AS a
    WHERE j.state IN ('submitted', 'running') AND j.state = 'submitted' AND j.started_at IS NULL
      AND a.allocation_id IS NULL AND j.id <> ALL(coalesce((SELECT jobs FROM reserved), '{}')::uuid[])
    GROUP BY 1, 2, 3
), in_flight AS (
    SELECT j.group_id, j.cores, coalesce(j.nomad_memory_mb, j.memory_mb) AS nomad_memory_mb,
           count(*) AS in_flight
    FROM jobs j JOIN groups g ON g.id = j.group_id
    WHERE g.cluster = :cluster AND j.state IN ('submitted', 'running')
      AND j.id <> ALL(coalesce((SELECT jobs FROM reserved), '{}')::uuid[])
      AND (j.node_id IS NULL OR j.node_id <> ALL((SELECT nodes FROM reserved)::uuid[]))
      AND j.id NOT IN (SELECT job_id FROM jobs_beside)
    GROUP BY 1, 2, 3
)
SELECT group_id, cores, nomad_memory_mb, in_flight, coalesce(unplaced, 0) AS unplaced,
       coalesce(refused, 0) AS refused
FROM in_flight LEFT JOIN unplaced_jobs USING (group_id, cores, nomad_memory_mb);

-- name: claim_jobs
-- Submits the next jobs of a group, each with a new attempt, if a living node of the group is large
-- enough for them and not reserved for another job:
-- 1. Jobs that fit into the free cores and memory together.
-- 2. Up to "limit" more, except those whose resources have a full window ("full_cores", "full_memories").
--
-- At most "at_most" in all. Users take turns: the user with the fewest jobs in flight goes first. A user's
-- own jobs go by priority, then by age.
-- Per user at most "most_combinations" combinations of cores and memory are examined. Of a user with more
-- of them the first jobs by priority and age are examined too.
-- Nomad is asked for the smallest of "memory_steps" (ascending) that holds what a job asks for.
-- The claim is committed before its dispatch. A crash in between leaves an attempt without nomad_job_id,
-- which is dispatched again under the same token.
WITH member AS MATERIALIZED (
    -- MATERIALIZED: counted once per user. PostgreSQL would count again for each candidate.
    SELECT u.id, (SELECT count(*) FROM jobs f
                  WHERE f.user_id = u.id AND f.state IN ('submitted', 'running')) AS in_flight,
           l.cores AS from_cores, l.memory_mb AS from_memory_mb
    FROM users u LEFT JOIN size_looks l ON l.user_id = u.id
    WHERE u.group_id = :group_id
), room AS MATERIALIZED (
    -- The largest memory for each number of cores.
    SELECT u.cores, max(u.memory_mb) AS memory_mb FROM usable_nodes u JOIN nodes n ON n.id = u.id
    WHERE u.group_id = :group_id AND u.cluster = :cluster AND u.alive AND u.reserved_for IS NULL
      AND n.held_at IS NULL AND n.agent_trouble IS NULL
    GROUP BY u.cores
), full_size AS MATERIALIZED (
    SELECT * FROM unnest(:full_cores::int[], :full_memories::int[]) AS f (cores, memory_mb)
), seen AS MATERIALIZED (
    -- The combinations of cores and memory that jobs of the backlog ask for. Each costs one index lookup
    -- per user, however many jobs there are. The scan starts where the user's last scan stopped
    -- (size_looks). After a combination that fits no node it goes on with more cores: with more memory
    -- it would not fit either.
    SELECT m.id AS user_id, m.in_flight, s.step, s.cores, s.memory_mb, s.fits,
           coalesce((:memory_steps::int[])[width_bucket(s.memory_mb - 1, :memory_steps::int[]) + 1],
                    s.memory_mb) AS nomad_memory_mb
    FROM member m
    CROSS JOIN LATERAL (
        WITH RECURSIVE asked AS (
            SELECT 0 AS step, coalesce(m.from_cores, 0) AS cores,
                   coalesce(m.from_memory_mb, 0) AS memory_mb, false AS fits
            UNION ALL
            SELECT asked.step + 1, further.cores,
                   CASE WHEN further.fits THEN further.memory_mb ELSE 2147483647 END, further.fits
            FROM asked
            CROSS JOIN LATERAL (
                SELECT j.cores, j.memory_mb,
                       EXISTS (SELECT FROM room r
                               WHERE r.cores >= j.cores AND r.memory_mb >= j.memory_mb) AS fits
                FROM jobs j
                WHERE j.user_id = m.id AND j.state = 'received'
                  AND (j.cores, j.memory_mb) > (asked.cores, asked.memory_mb)
                  AND j.cores <= (SELECT max(cores) FROM room)
                ORDER BY j.cores, j.memory_mb LIMIT 1
            ) AS further
            WHERE asked.step < :most_combinations
        )
        SELECT * FROM asked WHERE step > 0
    ) AS s
), broken_off AS MATERIALIZED (
    SELECT user_id, cores, memory_mb FROM seen WHERE step = :most_combinations
), goes_on AS (
    -- The next scan of these users goes on here, so each combination is examined at some time.
    INSERT INTO size_looks (user_id, cores, memory_mb)
    SELECT user_id, cores, memory_mb FROM broken_off ORDER BY user_id
    ON CONFLICT (user_id) DO UPDATE SET cores = excluded.cores, memory_mb = excluded.memory_mb
), begins_again AS (
    DELETE FROM size_looks
    WHERE user_id IN (SELECT id FROM member WHERE from_cores IS NOT NULL)
      AND user_id NOT IN (SELECT user_id FROM broken_off)
), first AS (
    -- The first jobs of users of whom not all combinations were examined.
    SELECT m.id AS user_id, m.in_flight, j.cores, j.id, j.priority,
           coalesce((:memory_steps::int[])[width_bucket(j.memory_mb - 1, :memory_steps::int[]) + 1],
                    j.memory_mb) AS nomad_memory_mb
    FROM member m
    CROSS JOIN LATERAL (
        SELECT * FROM jobs j
        WHERE j.user_id = m.id AND j.state = 'received'
        ORDER BY j.priority DESC, j.id
        LIMIT :at_most::int + :most_combinations
    ) AS j
    WHERE (m.from_cores IS NOT NULL OR m.id IN (SELECT user_id FROM broken_off))
      AND (j.not_before IS NULL OR j.not_before <= now())
      AND EXISTS (SELECT FROM room r WHERE r.cores >= j.cores AND r.memory_mb >= j.memory_mb)
      -- Jobs with a combination in "seen" are found by it.
      AND NOT EXISTS (SELECT FROM seen s
                      WHERE s.user_id = m.id AND s.cores = j.cores AND s.memory_mb = j.memory_mb)
), able AS (
    SELECT user_id, in_flight, cores, nomad_memory_mb, id, priority,
           (cores, nomad_memory_mb) IN (SELECT cores, memory_mb FROM full_size) AS is_full
    FROM first
    UNION ALL
    SELECT s.user_id, s.in_flight, s.cores, s.nomad_memory_mb, j.id, j.priority, s.is_full
    FROM (
        SELECT *, (cores, nomad_memory_mb) IN (SELECT cores, memory_mb FROM full_size) AS is_full
        FROM seen WHERE fits
    ) AS s
    CROSS JOIN LATERAL (
        SELECT j.id, j.priority FROM jobs j
        WHERE j.user_id = s.user_id AND j.state = 'received'
          AND j.cores = s.cores AND j.memory_mb = s.memory_mb
          AND (j.not_before IS NULL OR j.not_before <= now())
        ORDER BY j.priority DESC, j.id
        LIMIT :at_most
    ) AS j
    WHERE :free_cores::bigint > 0 OR NOT s.is_full
), candidate AS (
    SELECT id, cores, nomad_memory_mb, is_full, in_flight + row_number() OVER (
               PARTITION BY user_id ORDER BY priority DESC, id) AS turn
    FROM able
    WHERE :free_cores::bigint > 0 OR NOT is_full
), in_turn AS (
    SELECT id, turn, is_full, count(*) FILTER (WHERE NOT is_full) OVER w AS position,
           sum(cores) OVER w AS cores_so_far, sum(nomad_memory_mb) OVER w AS memory_so_far
    FROM candidate
    WINDOW w AS (ORDER BY turn, id)
), picked AS (
    -- Ids go through arrays for the reason given at lock_own_to_cancel.
    SELECT id FROM jobs
    WHERE id = ANY(ARRAY(
              SELECT id FROM in_turn
              WHERE (cores_so_far <= :free_cores::bigint AND memory_so_far <= :free_memory_mb::bigint)
                 OR (position <= :limit::bigint AND NOT is_full)
              ORDER BY turn, id LIMIT :at_most))
      AND state = 'received'
    FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE jobs j
    SET state = 'submitted', attempt = j.attempt + 1, submitted_at = now(), reason = NULL,
        node_id = NULL, not_before = NULL, waiting_since = coalesce(j.waiting_since, now()),
        nomad_memory_mb = coalesce((:memory_steps::int[])[width_bucket(j.memory_mb - 1, :memory_steps::int[]) + 1],
                    j.memory_mb)
    WHERE j.id = ANY(ARRAY(SELECT id FROM picked)) AND j.state = 'received'
    RETURNING j.id, j.attempt, j.code, j.version, j.cores, j.nomad_memory_mb, j.shm_mb
), noted AS (
    INSERT INTO attempts (job_id, number, node_set, cluster)
    SELECT id, attempt, :node_set, :cluster FROM claimed
)
SELECT id AS job_id, attempt AS number, code, version, cores, nomad_memory_mb, shm_mb
FROM claimed ORDER BY id;

-- name: undispatched_attempts
-- Attempts that are claimed and have no committed answer of Nomad. A started one is certainly in Nomad.
-- Groups that are paused after a failure are left out: they would keep other groups from their turn.
SELECT a.job_id, a.number, a.node_set, j.started_at IS NOT NULL AS started, j.group_id, j.code,
       j.version, j.cores, coalesce(j.nomad_memory_mb, j.memory_mb) AS nomad_memory_mb, j.shm_mb
FROM attempts a JOIN jobs j ON j.id = a.job_id AND j.attempt = a.number
WHERE a.cluster = :cluster
  AND a.ended_at IS NULL AND a.nomad_job_id IS NULL AND a.stop_requested_at IS NULL
  AND j.state IN ('submitted', 'running') AND j.group_id <> ALL(:paused_groups::int[])
ORDER BY a.job_id
LIMIT :limit;

-- name: note_dispatched!
-- Written once: a dispatcher that is no longer active must not overwrite a known id.
UPDATE attempts a SET nomad_job_id = s.nomad_job_id
FROM unnest(:job_ids::uuid[], :numbers::int[], :nomad_job_ids::text[])
    AS s (job_id, number, nomad_job_id)
WHERE a.job_id = s.job_id AND a.number = s.number AND a.nomad_job_id IS NULL;
