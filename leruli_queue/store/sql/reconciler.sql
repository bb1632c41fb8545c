-- name: note_unheard!
-- Notes the silence of nodes that do not answer Nomad. Nomad's status of an allocation that is over does not
-- show that its node is silent.
UPDATE attempts a SET silent_since = now()
FROM jobs j
WHERE a.job_id = j.id AND a.number = j.attempt AND j.state IN ('submitted', 'running')
  -- The job of a started attempt also names its node. That condition limits the lookups in attempts.
  AND j.node_id = ANY(:node_ids::uuid[]) AND a.node_id = j.node_id
  AND a.cluster = :cluster AND a.ended_at IS NULL AND a.silent_since IS NULL
  AND a.allocation_id IS NOT NULL;

-- name: attempts_in_flight
-- The attempts that should be in Nomad, for the comparison with its lists. The child job of a further attempt
-- of a slot is named after the slot's first attempt.
SELECT a.job_id, a.number, coalesce(a.slot_job, a.job_id) AS child_job,
       coalesce(a.slot_number, a.number) AS child_number, a.nomad_job_id, j.group_id, j.started_at,
       a.allocation_dead_at IS NOT NULL AS dead, a.claimed_at < now() - make_interval(secs => 60) AS old
FROM jobs j CROSS JOIN LATERAL (
    SELECT * FROM attempts a WHERE a.job_id = j.id AND a.number = j.attempt LIMIT 1
) AS a
WHERE j.state IN ('submitted', 'running') AND a.cluster = :cluster;

-- name: unplaced_attempts
-- Attempts that are dispatched and have no node yet.
SELECT j.group_id, a.job_id, a.number, a.node_set, j.cores,
       coalesce(j.nomad_memory_mb, j.memory_mb) AS nomad_memory_mb
FROM jobs j CROSS JOIN LATERAL (
    SELECT * FROM attempts a WHERE a.job_id = j.id AND a.number = j.attempt LIMIT 1
) AS a
WHERE j.state IN ('submitted', 'running') AND j.state = 'submitted' AND j.started_at IS NULL
  AND a.allocation_id IS NULL AND a.nomad_job_id IS NOT NULL AND a.cluster = :cluster;

-- name: note_gone!
-- These attempts are no longer in Nomad. From now on their receipts have the usual grace time.
UPDATE attempts a SET allocation_dead_at = coalesce(a.allocation_dead_at, now())
FROM unnest(:job_ids::uuid[], :numbers::int[]) AS s (job_id, number)
WHERE a.job_id = s.job_id AND a.number = s.number;

-- name: overdue_attempts
-- Attempts to abandon. One of these holds:
-- - it is over in Nomad, without a receipt for the whole grace time,
-- - its node has been silent in Nomad for too long,
-- - its node does not ask for a start grant in time,
-- - its node was granted it in a slot, and its reports do not have it: the answer was lost ("unknown_there").
--
-- Keep an attempt while its node itself says otherwise: the node uploads, or reports that it holds the
-- attempt. Then only Nomad does not hear the node, or another node lied to Nomad. The node's word counts
-- for as long as the job may take, because a node ends what exceeds its time limit.
--
-- Keep an attempt on a silent node also where abandoning it would gain nothing. All of these hold:
-- - it was started,
-- - nobody wants it cancelled,
-- - no other node that is large enough has been heard for as long.
--
-- "heard" has the distinct sizes of nodes, which are few: when a whole group is silent, this is asked for
-- all of its attempts.
-- Ordered by job id, from "after" on. They are sorted after they are found (MATERIALIZED): by the index of
-- ids PostgreSQL would go through all jobs there are.
WITH heard AS MATERIALIZED (
    SELECT DISTINCT u.group_id, u.cores, u.memory_mb FROM usable_nodes u JOIN nodes n ON n.id = u.id
    WHERE u.alive AND u.alive_since <= now() - make_interval(secs => :node_silence_s)
      AND n.held_at IS NULL AND n.agent_trouble IS NULL
), overdue AS MATERIALIZED (
    SELECT a.job_id, a.number, a.allocation_id, j.group_id, a.silent_since IS NOT NULL AS silent,
           j.started_at IS NOT NULL AS started,
           l.id IS NOT NULL AS unknown_there
    FROM jobs j CROSS JOIN LATERAL (
        SELECT * FROM attempts a WHERE a.job_id = j.id AND a.number = j.attempt LIMIT 1
    ) AS a
    LEFT JOIN nodes l ON l.id = a.node_id AND a.slot_job IS NOT NULL AND a.running_at IS NULL
                     AND a.silent_since IS NULL
                     AND l.reported_at > a.started_at + make_interval(secs => :node_silence_s)
                     AND a.job_id || 'x' || a.number <> ALL(l.holds)
    WHERE j.state IN ('submitted', 'running') AND a.ended_at IS NULL AND a.cluster = :cluster
      AND j.id > :after
      -- Time in which no node of the cluster could deliver a receipt does not count as grace time.
      AND (greatest(a.allocation_dead_at, :reports_come_since::timestamptz)
             < now() - make_interval(secs => :receipt_grace_s)
             AND a.allocation_dead_at IS NOT NULL
           OR (j.started_at IS NULL
               AND (a.allocation_dead_at IS NOT NULL
                    OR a.placed_at < now() - make_interval(secs => :start_grace_s)))
           OR a.silent_since < now() - make_interval(secs => :node_silence_s)
           OR l.id IS NOT NULL)
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
