-- name: clusters_in_use
SELECT cluster, array_agg(name ORDER BY name) AS groups FROM groups GROUP BY cluster;

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
    RETURNING j.id, j.attempt, j.code, j.version, j.cores, j.nomad_memory_mb
), noted AS (
    INSERT INTO attempts (job_id, number, node_set, cluster)
    SELECT id, attempt, :node_set, :cluster FROM claimed
)
SELECT id AS job_id, attempt AS number, code, version, cores, nomad_memory_mb FROM claimed ORDER BY id;

-- name: undispatched_attempts
-- Claimed, but whether Nomad has them was not committed. One that was started is there for sure. Without
-- those of groups that are held because their work failed: they would keep others from their turn.
SELECT a.job_id, a.number, a.node_set, j.started_at IS NOT NULL AS started, j.group_id, j.code,
       j.version, j.cores, coalesce(j.nomad_memory_mb, j.memory_mb) AS nomad_memory_mb
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

-- name: use_parent$
-- Notes the use of a parent, before it is registered. Null where it is a new one and the group has as many
-- as it may have.
INSERT INTO nomad_parents (id, cluster, group_id, few_nodes)
SELECT :id, :cluster, :group_id::int, :few_nodes
WHERE EXISTS (SELECT FROM nomad_parents WHERE id = :id AND cluster = :cluster)
   OR (SELECT count(*) FROM nomad_parents
       WHERE group_id = :group_id::int AND cluster = :cluster) < :most::bigint
ON CONFLICT (id, cluster) DO UPDATE SET last_used_at = now()
RETURNING true;

-- name: note_parent_uses!
UPDATE nomad_parents p SET last_used_at = now() - make_interval(secs => s.ago_s)
FROM unnest(:ids::text[], :agos_s::float8[]) AS s (id, ago_s)
WHERE p.id = s.id AND p.cluster = :cluster;

-- name: oldest_parents
-- Those of a group that were used longest ago.
SELECT id FROM nomad_parents WHERE group_id = :group_id AND cluster = :cluster
ORDER BY last_used_at LIMIT :limit;

-- name: idle_parents
SELECT id FROM nomad_parents
WHERE cluster = :cluster
  AND last_used_at < now() - make_interval(
          secs => CASE WHEN few_nodes THEN :few_idle_s::float8 ELSE :idle_s::float8 END)
ORDER BY last_used_at LIMIT :limit;

-- name: forget_parent!
DELETE FROM nomad_parents WHERE id = :id AND cluster = :cluster;

-- name: note_running!
-- From Nomad's events: the commands of these attempts run. Since when is a node's word, which any node
-- can forge, and what a node holds is believed for so long from there (overdue_attempts). So not before
-- leave to start, nor later than now.
WITH seen AS (
    SELECT * FROM unnest(:job_ids::uuid[], :numbers::int[], :node_ids::uuid[],
                         :times::timestamptz[])
        AS t (job_id, number, node_id, at)
), noted AS (
    UPDATE attempts a
    SET running_at = coalesce(a.running_at, least(greatest(s.at, a.started_at), now()))
    FROM seen s
    WHERE a.job_id = s.job_id AND a.number = s.number AND a.node_id = s.node_id
), contradicted AS (
    -- Another node could not use its image or input: what begins here shows that it is that node.
    INSERT INTO node_failures (node_id, job_id, reason, counts)
    SELECT n.id, j.id, 'it could not use an image or an input that another node could use', true
    FROM seen s JOIN jobs j ON j.id = s.job_id JOIN nodes n ON n.id = j.doubted_node
    WHERE j.attempt = s.number AND j.state = 'submitted' AND j.started_at IS NOT NULL
      AND j.node_id = s.node_id AND n.id <> s.node_id
    ON CONFLICT (node_id, job_id) DO NOTHING
)
UPDATE jobs j
SET state = 'running', running_at = least(greatest(s.at, j.started_at), now()), doubted_node = NULL
FROM seen s
WHERE j.id = s.job_id AND j.attempt = s.number AND j.state = 'submitted'
  AND j.started_at IS NOT NULL AND j.node_id = s.node_id;

-- name: note_allocations!
-- From Nomad's events and lists: which allocation an attempt has and since when that is known, whether
-- it is over, and whether its node is silent. Nomad can have placed a child twice; once an attempt has
-- leave to start on a node, only its allocation there counts.
UPDATE attempts a
SET allocation_id = s.allocation_id,
    placed_at = CASE WHEN a.allocation_id = s.allocation_id THEN coalesce(a.placed_at, now())
                     ELSE now() END,
    waiting_reason = NULL,
    allocation_dead_at = CASE WHEN s.dead THEN coalesce(a.allocation_dead_at, now()) END,
    silent_since = CASE WHEN s.silent THEN coalesce(a.silent_since, now()) END
FROM unnest(:job_ids::uuid[], :numbers::int[], :node_ids::uuid[], :allocation_ids::text[],
            :deads::bool[], :silents::bool[])
    AS s (job_id, number, node_id, allocation_id, dead, silent)
WHERE a.job_id = s.job_id AND a.number = s.number AND a.ended_at IS NULL
  AND (a.node_id IS NULL OR a.node_id = s.node_id)
  AND (a.allocation_id IS DISTINCT FROM s.allocation_id OR a.placed_at IS NULL
       OR (a.allocation_dead_at IS NOT NULL) <> s.dead
       OR (a.silent_since IS NOT NULL) <> s.silent
       OR a.waiting_reason IS NOT NULL);

-- name: note_unheard!
-- These nodes do not answer Nomad. Of an allocation that is over it does not say so.
UPDATE attempts a SET silent_since = now()
FROM jobs j
WHERE a.job_id = j.id AND a.number = j.attempt AND j.state IN ('submitted', 'running')
  -- The job of a started attempt has its node as well. By that, few are looked up in attempts.
  AND j.node_id = ANY(:node_ids::uuid[]) AND a.node_id = j.node_id
  AND a.cluster = :cluster AND a.ended_at IS NULL AND a.silent_since IS NULL
  AND a.allocation_id IS NOT NULL;

-- name: note_waiting!
-- From Nomad's evaluations: why these attempts have no place yet.
UPDATE attempts a SET waiting_reason = s.reason
FROM unnest(:job_ids::uuid[], :numbers::int[], :reasons::text[]) AS s (job_id, number, reason)
WHERE a.job_id = s.job_id AND a.number = s.number AND a.allocation_id IS NULL
  AND a.waiting_reason IS DISTINCT FROM s.reason;

-- name: attempts_in_flight
-- What should be in Nomad, for the comparison with what is.
SELECT a.job_id, a.number, a.nomad_job_id, j.group_id, j.started_at,
       a.allocation_dead_at IS NOT NULL AS dead, a.claimed_at < now() - make_interval(secs => 60) AS old
FROM jobs j CROSS JOIN LATERAL (
    SELECT * FROM attempts a WHERE a.job_id = j.id AND a.number = j.attempt LIMIT 1
) AS a
WHERE j.state IN ('submitted', 'running') AND a.cluster = :cluster;

-- name: attempts_without_a_place
-- Dispatched, and not placed on any node yet.
SELECT j.group_id, a.job_id, a.number, a.node_set, j.cores,
       coalesce(j.nomad_memory_mb, j.memory_mb) AS nomad_memory_mb
FROM jobs j CROSS JOIN LATERAL (
    SELECT * FROM attempts a WHERE a.job_id = j.id AND a.number = j.attempt LIMIT 1
) AS a
WHERE j.state IN ('submitted', 'running') AND j.state = 'submitted' AND j.started_at IS NULL
  AND a.allocation_id IS NULL AND a.nomad_job_id IS NOT NULL AND a.cluster = :cluster;

-- name: note_gone!
-- Not in Nomad any more: if a receipt is under way, it has the usual time to come.
UPDATE attempts a SET allocation_dead_at = coalesce(a.allocation_dead_at, now())
FROM unnest(:job_ids::uuid[], :numbers::int[]) AS s (job_id, number)
WHERE a.job_id = s.job_id AND a.number = s.number;

-- name: overdue_attempts
-- Over in Nomad without a receipt for the whole grace, or on a node that is silent there for too
-- long, or on one that does not ask for leave to start it. Not so while the node itself tells us
-- otherwise: it uploads, or reports that it holds the attempt. Then it is only Nomad that does not hear
-- it, or another node told Nomad a lie. Its word is good for as long as the job may take: a node ends what
-- is over its time limit. Nor so, of a silent node, where giving up would gain nothing: it was started,
-- nobody wants it cancelled, and no node that is large enough has been heard for as long. (By size, of
-- which there are few: when a whole group is silent, all of its attempts are asked about.) In the order of
-- the jobs' ids, from one on; put in order when they are found, for by the index of ids PostgreSQL would go
-- through all jobs there are.
WITH heard AS MATERIALIZED (
    SELECT DISTINCT u.group_id, u.cores, u.memory_mb FROM usable_nodes u JOIN nodes n ON n.id = u.id
    WHERE u.alive AND u.alive_since <= now() - make_interval(secs => :node_silence_s)
      AND n.held_at IS NULL AND n.agent_trouble IS NULL
), overdue AS MATERIALIZED (
    SELECT a.job_id, a.number, a.allocation_id, j.group_id, a.silent_since IS NOT NULL AS silent,
           j.started_at IS NOT NULL AS started
    FROM jobs j CROSS JOIN LATERAL (
        SELECT * FROM attempts a WHERE a.job_id = j.id AND a.number = j.attempt LIMIT 1
    ) AS a
    WHERE j.state IN ('submitted', 'running') AND a.ended_at IS NULL AND a.cluster = :cluster
      AND j.id > :after
      -- Time in which no node of the cluster could deliver a receipt does not count.
      AND (greatest(a.allocation_dead_at, :reports_come_since::timestamptz)
             < now() - make_interval(secs => :receipt_grace_s)
             AND a.allocation_dead_at IS NOT NULL
           OR (j.started_at IS NULL
               AND (a.allocation_dead_at IS NOT NULL
                    OR a.placed_at < now() - make_interval(secs => :start_grace_s)))
           OR a.silent_since < now() - make_interval(secs => :node_silence_s))
      AND (a.silent_since IS NULL OR j.started_at IS NULL OR j.cancel_requested_at IS NOT NULL
           OR EXISTS (SELECT 1 FROM heard h
                      WHERE h.group_id = j.group_id AND h.cores >= j.cores
                        AND h.memory_mb >= j.memory_mb))
      AND (a.upload_at IS NULL OR a.upload_at < now() - make_interval(secs => :node_silence_s))
      AND NOT EXISTS (
          SELECT 1 FROM nodes n
          WHERE n.id = a.node_id AND n.removed_at IS NULL
            AND n.reported_at > now() - make_interval(secs => :node_silence_s)
            AND a.job_id || 'x' || a.number = ANY(n.holds)
            AND now() < coalesce(a.running_at, a.started_at)
                        + make_interval(secs => j.time_limit_s + :receipt_grace_s))
)
SELECT * FROM overdue ORDER BY job_id LIMIT :limit;

-- name: attempts_to_stop
SELECT job_id, number, nomad_job_id
FROM attempts
WHERE stop_requested_at IS NOT NULL AND stopped_at IS NULL AND nomad_job_id IS NOT NULL
  AND cluster = :cluster
-- The index's order. Without it PostgreSQL, which expects to come upon so many soon, reads the table.
ORDER BY job_id, number
LIMIT :limit;

-- name: note_stopped!
UPDATE attempts SET stopped_at = now() WHERE job_id = :job_id AND number = :number;
