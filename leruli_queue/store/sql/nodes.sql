-- name: upsert_node$
-- A node that joins (again): its earlier token ends with the new key id. Null when the id belongs
-- to another group.
INSERT INTO nodes (id, group_id, name, key_id, token_hash, epoch, cores, memory_mb, agent_version)
VALUES (:id, :group_id, :name, :key_id, :token_hash, :epoch, :cores, :memory_mb, :agent_version)
ON CONFLICT (id) DO UPDATE
SET name = excluded.name, key_id = excluded.key_id, token_hash = excluded.token_hash,
    epoch = excluded.epoch, cores = excluded.cores, memory_mb = excluded.memory_mb,
    agent_version = excluded.agent_version, joined_at = now(), last_seen_at = now(), left_at = NULL,
    alive = true
WHERE nodes.group_id = excluded.group_id
RETURNING id;

-- name: group_of_node$
SELECT group_id FROM nodes WHERE id = :node_id;

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
WHERE n.left_at IS NULL AND n.epoch = g.compute_epoch
ORDER BY n.group_id, n.id;

-- name: note_nodes_alive!
-- From Nomad's list of nodes. One that has just joined gets the time to register there.
UPDATE nodes SET alive = (id = ANY(:ready::uuid[]))
WHERE left_at IS NULL AND alive <> (id = ANY(:ready::uuid[]))
  AND (id = ANY(:ready::uuid[]) OR joined_at < now() - interval '1 minute');

-- name: touch_node!
UPDATE nodes SET last_seen_at = now() WHERE id = :node_id;
