-- name: upsert_node$
-- A node joins, or joins again. The new key id ends its earlier token. Null if the id belongs to another
-- group, or to a node that an admin removed. A node is alive once the dispatcher has seen it in Nomad. A node
-- that comes back unchanged stays alive until the dispatcher sees that it is not.
INSERT INTO nodes (id, group_id, cluster, name, key_id, token_hash, epoch, cores, memory_mb,
                   agent_version)
VALUES (:id, :group_id, :cluster, :name, :key_id, :token_hash, :epoch, :cores, :memory_mb,
        :agent_version)
ON CONFLICT (id) DO UPDATE
SET cluster = excluded.cluster, name = excluded.name, key_id = excluded.key_id, token_hash = excluded.token_hash,
    epoch = excluded.epoch, cores = excluded.cores, memory_mb = excluded.memory_mb,
    agent_version = excluded.agent_version, joined_at = now(), last_seen_at = now(), left_at = NULL,
    alive = nodes.alive AND (nodes.cluster, nodes.cores, nodes.memory_mb)
                          = (excluded.cluster, excluded.cores, excluded.memory_mb),
    alive_since = NULL, nomad_trouble = NULL, agent_trouble = NULL,
    -- A quarantined node is probed at once: somebody may have repaired it.
    failed_probes = 0, probe_at = CASE WHEN nodes.held_at IS NOT NULL THEN now() END
WHERE nodes.group_id = excluded.group_id AND nodes.removed_at IS NULL
RETURNING id;

-- name: earlier_node^
-- The node that comes back. No row if the id is not the group's, or the node was removed.
SELECT id, drained_at IS NOT NULL AS drained FROM nodes
WHERE id = :node_id AND group_id = :group_id AND removed_at IS NULL;

-- name: living_capacity
-- The sizes of a group's nodes that were not shut down, why some of them take no jobs, and which of the others
-- are reserved for a job. The order of "why" is that of leruli_queue.nodes.standing.
SELECT n.cores, n.memory_mb, n.reserved_for IS NOT NULL AS reserved,
       CASE WHEN n.epoch <> g.compute_epoch THEN 'outdated'
            WHEN n.cluster <> g.cluster THEN 'moved'
            WHEN n.drained_at IS NOT NULL THEN 'drained'
            WHEN NOT n.alive OR n.agent_trouble IS NOT NULL OR n.held_at IS NOT NULL THEN 'troubled'
       END AS why,
       count(*) AS nodes, min(n.name) AS name
FROM nodes n JOIN groups g ON g.id = n.group_id
WHERE n.group_id = :group_id AND n.removed_at IS NULL AND n.left_at IS NULL
GROUP BY 1, 2, 3, 4;

-- name: cluster_of_group$
SELECT cluster FROM groups WHERE id = :group_id;

-- name: cluster_of_node$
SELECT cluster FROM nodes WHERE id = :node_id;

-- name: node_leaves$
-- Marks the node as left, and counts the attempts that it started and did not end.
WITH leaving AS (
    UPDATE nodes SET left_at = coalesce(left_at, now()), last_seen_at = now()
    WHERE id = :node_id
    RETURNING id, group_id
)
SELECT count(*)
FROM jobs j JOIN leaving l ON l.group_id = j.group_id AND l.id = j.node_id
WHERE j.state IN ('submitted', 'running') AND j.started_at IS NOT NULL;

-- name: usable_nodes
-- The nodes of a cluster that may start jobs, by group, and which of them are held. Nodes that Nomad does not
-- hear, and that the service has not seen for long, are left out.
SELECT u.group_id, u.token_key_id, u.token_hash, u.id, u.cores, u.memory_mb, u.alive, u.reserved_for,
       n.held_at IS NOT NULL OR n.agent_trouble IS NOT NULL AS held
FROM usable_nodes u JOIN nodes n ON n.id = u.id
WHERE u.cluster = :cluster
  AND (n.alive OR n.last_seen_at > now() - make_interval(secs => :unseen_s))
ORDER BY u.group_id, u.id;

-- name: nodes_of_cluster
-- The nodes of a cluster and their pools, for the comparison with Nomad. Nodes that were not seen for long and
-- have no job are left out: where machines come and go, these are most nodes there ever were.
SELECT n.id, g.token_key_id, n.joined_at < now() - interval '1 minute' AS old,
       n.reported_at, greatest(n.joined_at, n.reported_at) AS last_report_at, now() AS now,
       EXISTS (SELECT 1 FROM usable_nodes u WHERE u.id = n.id) AS usable
FROM nodes n JOIN groups g ON g.id = n.group_id
WHERE n.cluster = :cluster AND n.removed_at IS NULL
  AND (n.alive OR n.last_seen_at > now() - make_interval(secs => :unseen_s)
       OR n.id IN (SELECT j.node_id FROM jobs j
                   WHERE j.state IN ('submitted', 'running') AND j.node_id IS NOT NULL));

-- name: count_seen_nodes$
-- The nodes of a group that count towards its limit of nodes.
SELECT count(*) FROM nodes
WHERE group_id = :group_id AND removed_at IS NULL
  AND (alive OR last_seen_at > now() - make_interval(secs => :unseen_s));

-- name: note_nodes!
-- Notes the nodes' status in Nomad: whether they can take jobs, and what is wrong if not. "unobserved": no
-- comparison was made for so long that nodes which are heard again may have been silent in between.
UPDATE nodes n
SET alive = s.alive, nomad_trouble = s.trouble,
    alive_since = CASE WHEN NOT s.alive THEN NULL
                       WHEN :unobserved::bool THEN now()
                       ELSE coalesce(n.alive_since, now()) END
FROM unnest(:ids::uuid[], :alives::bool[], :troubles::text[]) AS s (id, alive, trouble)
WHERE n.id = s.id
  AND (n.alive <> s.alive OR n.nomad_trouble IS DISTINCT FROM s.trouble
       OR s.alive <> (n.alive_since IS NOT NULL) OR (s.alive AND :unobserved::bool));

-- name: touch_node!
UPDATE nodes SET last_seen_at = now() WHERE id = :node_id;

-- name: note_report!
UPDATE nodes
SET last_seen_at = now(), reported_at = now(), agent_version = :agent_version,
    nomad_version = :nomad_version, images = :images, disk_free_mb = :disk_free_mb,
    disk_total_mb = :disk_total_mb, holds = :holds, agent_trouble = :trouble,
    unenforced = :unenforced
WHERE id = :node_id;

-- name: attempts_to_end
-- Of the given attempts: those that this node must not run, or no longer ("cancelled" is null), and those
-- that somebody wants cancelled. A subquery looks up each attempt: with NOT EXISTS PostgreSQL may go through
-- all jobs in flight, at each report of each node.
-- "unreported": also attempts on the node that are not given. It was granted them while its report waited.
SELECT * FROM (
    SELECT s.job_id, s.number, (
        SELECT j.cancel_requested_at IS NOT NULL
        FROM jobs j JOIN attempts a ON a.job_id = j.id AND a.number = j.attempt
        WHERE j.id = s.job_id AND j.attempt = s.number AND j.node_id = :node_id
          AND j.started_at IS NOT NULL AND j.state IN ('submitted', 'running')
          AND a.ended_at IS NULL
    ) AS cancelled
    FROM unnest(:job_ids::uuid[], :numbers::int[]) AS s (job_id, number)
) AS held
WHERE cancelled IS DISTINCT FROM false
UNION
SELECT j.id, j.attempt, true FROM jobs j
-- The expression of the index jobs_on_node.
WHERE :unreported::bool
  AND (CASE WHEN j.state IN ('submitted', 'running') AND j.started_at IS NOT NULL THEN j.node_id END) = :node_id
  AND j.cancel_requested_at IS NOT NULL
  AND (SELECT a.ended_at IS NULL FROM attempts a WHERE a.job_id = j.id AND a.number = j.attempt);

-- name: standing_of_node^
-- The columns that decide whether a node may start jobs.
SELECT n.id, n.left_at, n.drained_at, n.removed_at, n.nomad_trouble, n.alive, n.agent_trouble,
       n.held_at, n.held_failures, n.held_reason,
       n.epoch = g.compute_epoch AS current_secret, n.cluster = g.cluster AS current_cluster
FROM nodes n JOIN groups g ON g.id = n.group_id
WHERE n.id = :node_id;

-- name: nodes_of_group
-- A page of all that group-nodes shows. Removed nodes are left out.
SELECT n.id, n.name, n.cores, n.memory_mb, n.images[1 : 100] AS images,
       cardinality(n.images) AS image_count, n.disk_free_mb, n.disk_total_mb,
       n.agent_version, n.nomad_version, n.joined_at, n.last_seen_at, n.left_at, n.drained_at,
       n.removed_at, n.nomad_trouble, n.alive, n.agent_trouble,
       n.held_at, n.held_failures, n.held_reason, n.failed_probes, n.probe_at, n.unenforced,
       n.epoch = g.compute_epoch AS current_secret, n.cluster = g.cluster AS current_cluster,
       -- NULL: the node has not joined since tokens can be rotated, and has the first one.
       coalesce(n.images_key_id, g.token_key_id) = t.key_id AS current_images,
       coalesce(r.jobs, 0) AS jobs, coalesce(r.cores, 0) AS cores_used,
       coalesce(r.memory_mb, 0) AS memory_used_mb
FROM nodes n JOIN groups g ON g.id = n.group_id
JOIN group_tokens t ON t.group_id = g.id AND t.valid_from IS NOT NULL AND t.ended_at IS NULL
LEFT JOIN (
    -- All jobs of a slot have its cores and memory together.
    SELECT node_id, count(*) AS jobs, sum(cores) FILTER (WHERE NOT beside) AS cores,
           sum(coalesce(nomad_memory_mb, memory_mb)) FILTER (WHERE NOT beside) AS memory_mb
    FROM (SELECT *, id IN (SELECT job_id FROM jobs_beside) AS beside FROM jobs) AS j
    WHERE group_id = :group_id AND state IN ('submitted', 'running') AND started_at IS NOT NULL
    GROUP BY node_id
) r ON r.node_id = n.id
WHERE n.group_id = :group_id AND n.removed_at IS NULL
  AND (:after::uuid IS NULL
       OR (n.name, n.id) > (SELECT b.name, b.id FROM nodes b
                            WHERE b.id = :after::uuid AND b.group_id = :group_id))
ORDER BY n.name, n.id
LIMIT :limit;

-- name: nodes_by_name_or_id
-- The nodes of a group with this name or id.
SELECT id, name, cluster FROM nodes
WHERE group_id = :group_id AND removed_at IS NULL AND (name = :name OR id::text = lower(:name))
ORDER BY id;

-- name: drain_node!
UPDATE nodes SET drained_at = coalesce(drained_at, now()) WHERE id = :node_id;

-- name: resume_node!
UPDATE nodes SET drained_at = NULL WHERE id = :node_id;

-- name: remove_node!
UPDATE nodes SET removed_at = coalesce(removed_at, now()) WHERE id = :node_id;

-- name: attempts_on_node
-- The attempts for which a node has the start grant. They are abandoned when the node is removed.
SELECT j.id AS job_id, j.attempt AS number
FROM jobs j
WHERE j.group_id = :group_id AND j.node_id = :node_id AND j.started_at IS NOT NULL
  AND j.state IN ('submitted', 'running');

-- name: lock_attempts_on_node
-- Locks in the order of ids, as lock_to_cancel does.
SELECT id FROM jobs
WHERE group_id = :group_id AND node_id = :node_id AND started_at IS NOT NULL
  AND state IN ('submitted', 'running')
ORDER BY id
FOR UPDATE;
