-- name: insert_group$
INSERT INTO groups (name, token_key_id, token_hash)
VALUES (:name, :token_key_id, :token_hash)
RETURNING id;

-- name: rotate_compute_secret$
-- Returns the new epoch. Nodes of earlier epochs get no start grant from now on.
UPDATE groups
SET compute_key_id = :key_id, compute_hash = :hash, compute_epoch = compute_epoch + 1
WHERE id = :group_id
RETURNING compute_epoch;

-- name: group_names
SELECT name FROM groups ORDER BY name;

-- name: group_by_name^
SELECT g.id, g.name, t.token_hash, g.disabled_at
FROM groups g JOIN group_tokens t
    ON t.group_id = g.id AND t.valid_from IS NOT NULL AND t.ended_at IS NULL
WHERE g.name = :name;

-- name: set_group_disabled$
-- Null if the group is in that state already.
UPDATE groups SET disabled_at = CASE WHEN :disabled::bool THEN now() END
WHERE id = :group_id AND (disabled_at IS NOT NULL) <> :disabled
RETURNING id;

-- name: group_overview
-- For the operator: the size of each group and its jobs. Small indexes make the counts cheap.
SELECT g.name, g.created_at, g.disabled_at, g.compute_epoch > 0 AS has_compute_secret,
       (SELECT count(*) FROM users u WHERE u.group_id = g.id AND u.revoked_at IS NULL) AS users,
       (SELECT count(*) FROM nodes n
        WHERE n.group_id = g.id AND n.left_at IS NULL AND n.epoch = g.compute_epoch AND n.alive)
           AS nodes,
       (SELECT count(*) FROM jobs j WHERE j.group_id = g.id AND j.state = 'received') AS waiting,
       (SELECT count(*) FROM jobs j
        WHERE j.group_id = g.id AND j.state IN ('submitted', 'running')) AS in_flight
FROM groups g
ORDER BY g.name;

-- name: set_cluster$
UPDATE groups SET cluster = :cluster WHERE id = :group_id AND cluster <> :cluster RETURNING id;
