-- name: groups_with_backlog
-- Groups of a cluster that have jobs to dispatch.
SELECT g.id
FROM groups g
WHERE g.cluster = :cluster AND EXISTS (SELECT 1 FROM jobs j WHERE j.group_id = g.id AND j.state = 'received')
ORDER BY g.id;

-- name: in_flight_by_shape
-- What is in flight, by what it asks for; how many of it have no place in Nomad yet, and of how many
-- of these Nomad has said so: there is no room for them. (Both states are named because the index
-- jobs_in_flight is on both: one alone would not use it. The attempts of jobs in flight are looked up
-- one by one, here and below, which LIMIT 1 is for: of a plain join PostgreSQL reads all attempts
-- there ever were as soon as it expects some thousands in flight.) Without what runs on nodes that are
-- kept for a job or held back, and without that job or the probe: they take no room from the others.
WITH kept AS MATERIALIZED (
    SELECT coalesce(array_agg(id), '{}') AS nodes,
           array_remove(array_agg(reserved_for) || array_agg(CASE WHEN held_at IS NOT NULL
                                                             THEN probe_job END), NULL) AS jobs
    FROM nodes
    WHERE cluster = :cluster
      AND (reserved_for IS NOT NULL OR held_at IS NOT NULL OR agent_trouble IS NOT NULL)
), unplaced AS (
    SELECT j.group_id, j.cores, coalesce(j.nomad_memory_mb, j.memory_mb) AS nomad_memory_mb,
           count(*) AS waiting, count(a.waiting_reason) AS refused
    FROM jobs j CROSS JOIN LATERAL (
        SELECT * FROM attempts a WHERE a.job_id = j.id AND a.number = j.attempt LIMIT 1
    ) AS a
    WHERE j.state IN ('submitted', 'running') AND j.state = 'submitted' AND j.started_at IS NULL
      AND a.allocation_id IS NULL AND j.id <> ALL(coalesce((SELECT jobs FROM kept), '{}')::uuid[])
    GROUP BY 1, 2, 3
), in_flight AS (
    SELECT j.group_id, j.cores, coalesce(j.nomad_memory_mb, j.memory_mb) AS nomad_memory_mb,
           count(*) AS in_flight
    FROM jobs j JOIN groups g ON g.id = j.group_id
    WHERE g.cluster = :cluster AND j.state IN ('submitted', 'running')
      AND j.id <> ALL(coalesce((SELECT jobs FROM kept), '{}')::uuid[])
      AND (j.node_id IS NULL OR j.node_id <> ALL((SELECT nodes FROM kept)::uuid[]))
    GROUP BY 1, 2, 3
)
SELECT group_id, cores, nomad_memory_mb, in_flight, coalesce(waiting, 0) AS waiting,
       coalesce(refused, 0) AS refused
FROM in_flight LEFT JOIN unplaced USING (group_id, cores, nomad_memory_mb);

-- name: claim_jobs
-- The next jobs of a group that a living node of it is large enough for, one that is kept for no other
-- job, become submitted, each with a new attempt. Users take turns: next is who has the fewest in
-- flight. A user's own jobs go by priority, then by age. First those that together fit into what is free; then as many as the limit,
-- but for those that ask for what enough jobs wait for already; "at_most" in all. Of each user
-- "most_sizes" different sizes are looked at, and of one who has more the first jobs of all besides.
-- Nomad is asked for the smallest of "memory_steps" (ascending) that holds what a job asks for.
-- Committed before Nomad hears of it: a crash in between leaves an attempt without nomad_job_id,
-- which is dispatched again under the same token.
WITH member AS MATERIALIZED (
    -- Once a user: PostgreSQL would count again for each candidate.
    SELECT u.id, (SELECT count(*) FROM jobs f
                  WHERE f.user_id = u.id AND f.state IN ('submitted', 'running')) AS in_flight,
           l.cores AS from_cores, l.memory_mb AS from_memory_mb
    FROM users u LEFT JOIN size_looks l ON l.user_id = u.id
    WHERE u.group_id = :group_id
), room AS MATERIALIZED (
    -- For each number of cores, the most memory.
    SELECT u.cores, max(u.memory_mb) AS memory_mb FROM usable_nodes u JOIN nodes n ON n.id = u.id
    WHERE u.group_id = :group_id AND u.cluster = :cluster AND u.alive AND u.reserved_for IS NULL
      AND n.held_at IS NULL AND n.agent_trouble IS NULL
    GROUP BY u.cores
), full_size AS MATERIALIZED (
    SELECT * FROM unnest(:full_cores::int[], :full_memories::int[]) AS f (cores, memory_mb)
), seen AS MATERIALIZED (
    -- What waiting jobs ask for: an index probe for each user and size, however many jobs. It begins
    -- where the last look at the user broke off. After a size that fits no node the next one has more
    -- cores: with more memory it would not fit either.
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
            WHERE asked.step < :most_sizes
        )
        SELECT * FROM asked WHERE step > 0
    ) AS s
), broken_off AS MATERIALIZED (
    SELECT user_id, cores, memory_mb FROM seen WHERE step = :most_sizes
), goes_on AS (
    -- So that each size has its look, whatever stands before it.
    INSERT INTO size_looks (user_id, cores, memory_mb)
    SELECT user_id, cores, memory_mb FROM broken_off ORDER BY user_id
    ON CONFLICT (user_id) DO UPDATE SET cores = excluded.cores, memory_mb = excluded.memory_mb
), begins_again AS (
    DELETE FROM size_looks
    WHERE user_id IN (SELECT id FROM member WHERE from_cores IS NOT NULL)
      AND user_id NOT IN (SELECT user_id FROM broken_off)
), first AS (
    -- Of users of whom not all sizes were seen.
    SELECT m.id AS user_id, m.in_flight, j.cores, j.id, j.priority,
           coalesce((:memory_steps::int[])[width_bucket(j.memory_mb - 1, :memory_steps::int[]) + 1],
                    j.memory_mb) AS nomad_memory_mb
    FROM member m
    CROSS JOIN LATERAL (
        SELECT * FROM jobs j
        WHERE j.user_id = m.id AND j.state = 'received'
        ORDER BY j.priority DESC, j.id
        LIMIT :at_most::int + :most_sizes
    ) AS j
    WHERE (m.from_cores IS NOT NULL OR m.id IN (SELECT user_id FROM broken_off))
      AND (j.not_before IS NULL OR j.not_before <= now())
      AND EXISTS (SELECT FROM room r WHERE r.cores >= j.cores AND r.memory_mb >= j.memory_mb)
      -- Those of a size that was seen are found there.
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
    -- Through arrays, as in cancel_own_jobs.
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
-- Claimed, but whether Nomad has them was not committed. One that was started is there for sure. Without
-- those of groups that are held because their work failed: they would keep others from their turn.
SELECT a.job_id, a.number, a.node_set, j.started_at IS NOT NULL AS started, j.group_id, j.code,
       j.version, j.cores, coalesce(j.nomad_memory_mb, j.memory_mb) AS nomad_memory_mb, j.shm_mb
FROM attempts a JOIN jobs j ON j.id = a.job_id AND j.attempt = a.number
WHERE a.cluster = :cluster
  AND a.ended_at IS NULL AND a.nomad_job_id IS NULL AND a.stop_requested_at IS NULL
  AND j.state IN ('submitted', 'running') AND j.group_id <> ALL(:held_groups::int[])
ORDER BY a.job_id
LIMIT :limit;

-- name: note_dispatched!
-- Once: a dispatcher that is not the active one any more must not write over what is known.
UPDATE attempts a SET nomad_job_id = s.nomad_job_id
FROM unnest(:job_ids::uuid[], :numbers::int[], :nomad_job_ids::text[])
    AS s (job_id, number, nomad_job_id)
WHERE a.job_id = s.job_id AND a.number = s.number AND a.nomad_job_id IS NULL;
