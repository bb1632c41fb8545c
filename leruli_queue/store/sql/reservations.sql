-- name: release_nodes
-- Nodes that are kept for no job any more: it has its place, is over or was taken back; the node is
-- not the group's now, or does not live; or it has been empty since, and kept for as long as patience
-- lasts: then room is not what the job lacks. Nor is one that is held back kept for any.
UPDATE nodes n SET reserved_for = NULL, reserved_at = NULL
WHERE n.cluster = :cluster AND n.reserved_for IS NOT NULL
  AND (n.held_at IS NOT NULL OR n.agent_trouble IS NOT NULL
       OR NOT EXISTS (SELECT 1 FROM usable_nodes u WHERE u.id = n.id AND u.alive)
       OR NOT EXISTS (
           SELECT 1 FROM jobs j JOIN attempts a ON a.job_id = j.id AND a.number = j.attempt
           WHERE j.id = n.reserved_for AND j.state = 'submitted' AND j.started_at IS NULL
             AND j.cancel_requested_at IS NULL AND a.allocation_id IS NULL)
       OR (n.reserved_at < now() - make_interval(secs => :patience_s)
           AND NOT EXISTS (
               SELECT 1 FROM jobs r
               WHERE r.group_id = n.group_id AND r.node_id = n.id
                 AND r.state IN ('submitted', 'running'))))
RETURNING n.id AS node_id;

-- name: reserve_nodes
-- One node for each group of which none is kept: for the job that has waited longest for a place,
-- longer than patience, while one that asks for less began after it. The node is the one of the living,
-- of those large enough, that lacks least; one with nothing on it would have taken the job already. A node
-- that failed the job comes last: the job avoids it.
WITH starving AS (
    SELECT j.id, j.group_id, j.cores, coalesce(j.nomad_memory_mb, j.memory_mb) AS memory_mb,
           j.waiting_since
    FROM jobs j CROSS JOIN LATERAL (
        SELECT * FROM attempts a WHERE a.job_id = j.id AND a.number = j.attempt LIMIT 1
    ) AS a
    WHERE j.state IN ('submitted', 'running') AND j.state = 'submitted' AND j.started_at IS NULL
      AND j.cancel_requested_at IS NULL
      AND j.waiting_since < now() - make_interval(secs => :patience_s)
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
    GROUP BY r.node_id
), chosen AS (
    SELECT DISTINCT ON (s.group_id) s.id AS job_id, n.id AS node_id
    FROM starving s
    JOIN usable_nodes n ON n.group_id = s.group_id AND n.alive
                       AND n.cores >= s.cores AND n.memory_mb >= s.memory_mb
    JOIN nodes m ON m.id = n.id AND m.held_at IS NULL AND m.agent_trouble IS NULL
    JOIN in_use u ON u.node_id = n.id
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
