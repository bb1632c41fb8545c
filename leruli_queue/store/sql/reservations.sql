-- name: release_reserved_nodes
-- Releases nodes whose reservation is no longer needed. One of these holds:
-- - the job is placed, over or requeued,
-- - the node is no longer usable, or not alive,
-- - the node is held: such nodes are never reserved,
-- - the node is empty, and was reserved for longer than "reserve_after_s". Then the job does not lack room.
UPDATE nodes n SET reserved_for = NULL, reserved_at = NULL
WHERE n.cluster = :cluster AND n.reserved_for IS NOT NULL
  AND (n.held_at IS NOT NULL OR n.agent_trouble IS NOT NULL
       OR NOT EXISTS (SELECT 1 FROM usable_nodes u WHERE u.id = n.id AND u.alive)
       OR NOT EXISTS (
           SELECT 1 FROM jobs j JOIN attempts a ON a.job_id = j.id AND a.number = j.attempt
           WHERE j.id = n.reserved_for AND j.state = 'submitted' AND j.started_at IS NULL
             AND j.cancel_requested_at IS NULL AND a.allocation_id IS NULL)
       OR (n.reserved_at < now() - make_interval(secs => :reserve_after_s)
           AND NOT EXISTS (
               SELECT 1 FROM jobs r
               WHERE r.group_id = n.group_id AND r.node_id = n.id
                 AND r.state IN ('submitted', 'running'))))
RETURNING n.id AS node_id;

-- name: reserve_nodes
-- Reserves one node for each group that has none reserved. It is for the job that has been unplaced longest,
-- if that is longer than "reserve_after_s" and a job that asks for less was started meanwhile. Where slots run one
-- job after the other, Nomad has no moment in which to place it. So after "after_slots_s" a node is reserved whose
-- free resources, together with those of its slots with short jobs, are enough for it: it is free in a moment.
-- Candidates are living nodes that are large enough and run something: an empty node would have taken the job
-- already. The node that lacks the least free resources is chosen. Nodes that failed the job come last, because
-- the job avoids them.
WITH starving AS (
    SELECT j.id, j.group_id, j.cores, coalesce(j.nomad_memory_mb, j.memory_mb) AS memory_mb,
           j.waiting_since, j.waiting_since >= now() - make_interval(secs => :reserve_after_s) AS early
    FROM jobs j CROSS JOIN LATERAL (
        SELECT * FROM attempts a WHERE a.job_id = j.id AND a.number = j.attempt LIMIT 1
    ) AS a
    WHERE j.state IN ('submitted', 'running') AND j.state = 'submitted' AND j.started_at IS NULL
      AND j.cancel_requested_at IS NULL
      AND j.waiting_since < now() - make_interval(secs => least(:reserve_after_s, :after_slots_s))
      AND a.cluster = :cluster AND a.allocation_id IS NULL AND a.nomad_job_id IS NOT NULL
      AND NOT EXISTS (SELECT 1 FROM nodes k
                      WHERE k.group_id = j.group_id AND k.reserved_for IS NOT NULL)
      AND EXISTS (SELECT 1 FROM jobs r
                  WHERE r.group_id = j.group_id AND r.state IN ('submitted', 'running')
                    AND r.started_at > j.waiting_since
                    AND (r.cores < j.cores OR r.memory_mb < j.memory_mb))
), in_use AS (
    SELECT r.node_id, sum(r.cores) AS cores, sum(coalesce(r.nomad_memory_mb, r.memory_mb)) AS memory_mb
    FROM jobs r
    WHERE r.group_id IN (SELECT group_id FROM starving)
      AND r.state IN ('submitted', 'running') AND r.started_at IS NOT NULL
      AND r.id NOT IN (SELECT job_id FROM jobs_beside)
    GROUP BY r.node_id
), of_slots AS (
    -- The slots whose newest attempt is a further one that began in the last minute.
    SELECT node_id, sum(cores) AS cores, sum(memory_mb) AS memory_mb
    FROM (
        SELECT DISTINCT ON (a.slot_job, a.slot_number)
               j.node_id, j.cores, coalesce(j.nomad_memory_mb, j.memory_mb) AS memory_mb, a.started_at
        FROM attempts a JOIN jobs j ON j.id = a.job_id AND j.attempt = a.number
        WHERE a.slot_job IS NOT NULL AND a.ended_at IS NULL AND j.state IN ('submitted', 'running')
        ORDER BY a.slot_job, a.slot_number, a.started_at DESC
    ) AS newest
    WHERE started_at > now() - interval '1 minute'
    GROUP BY node_id
), chosen AS (
    SELECT DISTINCT ON (s.group_id) s.id AS job_id, n.id AS node_id
    FROM starving s
    JOIN usable_nodes n ON n.group_id = s.group_id AND n.alive
                       AND n.cores >= s.cores AND n.memory_mb >= s.memory_mb
    JOIN nodes m ON m.id = n.id AND m.held_at IS NULL AND m.agent_trouble IS NULL
    JOIN in_use u ON u.node_id = n.id
    LEFT JOIN of_slots o ON o.node_id = n.id
    WHERE NOT s.early OR (n.cores - u.cores + o.cores >= s.cores
                          AND n.memory_mb - u.memory_mb + o.memory_mb >= s.memory_mb)
    ORDER BY s.group_id, s.waiting_since, s.id,
             EXISTS (SELECT 1 FROM attempts f
                     WHERE f.job_id = s.id AND f.failed_on_node AND f.node_id = n.id),
             greatest((u.cores + s.cores - n.cores)::float8 / s.cores,
                      (u.memory_mb + s.memory_mb - n.memory_mb)::float8 / s.memory_mb),
             n.id
)
UPDATE nodes n SET reserved_for = c.job_id, reserved_at = now()
FROM chosen c
WHERE n.id = c.node_id
RETURNING n.id AS node_id, c.job_id;
