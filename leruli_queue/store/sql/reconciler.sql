-- name: note_unheard!
-- These nodes do not answer Nomad. Of an allocation that is over it does not say so.
UPDATE attempts a SET silent_since = now()
FROM jobs j
WHERE a.job_id = j.id AND a.number = j.attempt AND j.state IN ('submitted', 'running')
  -- The job of a started attempt has its node as well. By that, few are looked up in attempts.
  AND j.node_id = ANY(:node_ids::uuid[]) AND a.node_id = j.node_id
  AND a.cluster = :cluster AND a.ended_at IS NULL AND a.silent_since IS NULL
  AND a.allocation_id IS NOT NULL;

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
