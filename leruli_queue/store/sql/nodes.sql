-- name: upsert_node$
-- A node that joins (again): its earlier token ends with the new key id.
INSERT INTO nodes (id, group_id, name, key_id, token_hash, epoch, cores, memory_mb, agent_version)
VALUES (:id, :group_id, :name, :key_id, :token_hash, :epoch, :cores, :memory_mb, :agent_version)
ON CONFLICT (id) DO UPDATE
SET name = excluded.name, key_id = excluded.key_id, token_hash = excluded.token_hash,
    epoch = excluded.epoch, cores = excluded.cores, memory_mb = excluded.memory_mb,
    agent_version = excluded.agent_version, joined_at = now(), last_seen_at = now(), left_at = NULL,
    alive = true
WHERE nodes.group_id = excluded.group_id
RETURNING id;

-- name: group_has_node$
SELECT EXISTS (SELECT 1 FROM nodes WHERE id = :node_id AND group_id = :group_id);

-- name: living_capacity
-- What sizes the usable nodes of a group that Nomad has as ready are of.
SELECT DISTINCT n.cores, n.memory_mb
FROM nodes n JOIN groups g ON g.id = n.group_id
WHERE n.group_id = :group_id AND n.left_at IS NULL AND n.alive AND n.epoch = g.compute_epoch;

-- name: node_leaves$
-- Marks the node as leaving and counts the attempts that it started and did not end.
WITH leaving AS (
    UPDATE nodes SET left_at = coalesce(left_at, now()), last_seen_at = now()
    WHERE id = :node_id
    RETURNING id, group_id
)
SELECT count(*)
FROM jobs j JOIN leaving l ON l.group_id = j.group_id AND l.id = j.node_id
WHERE j.state IN ('submitted', 'running') AND j.started_at IS NOT NULL;

-- name: usable_nodes
-- The nodes that may start jobs, by group.
SELECT n.group_id, g.token_key_id, n.id, n.cores, n.memory_mb
FROM nodes n JOIN groups g ON g.id = n.group_id
WHERE n.left_at IS NULL AND n.epoch = g.compute_epoch AND g.disabled_at IS NULL
ORDER BY n.group_id, n.id;

-- name: note_nodes_alive!
-- From Nomad's list of nodes. One that has just joined gets the time to register there.
UPDATE nodes SET alive = (id = ANY(:ready::uuid[]))
WHERE left_at IS NULL AND alive <> (id = ANY(:ready::uuid[]))
  AND (id = ANY(:ready::uuid[]) OR joined_at < now() - interval '1 minute');

-- name: touch_node!
UPDATE nodes SET last_seen_at = now() WHERE id = :node_id;
