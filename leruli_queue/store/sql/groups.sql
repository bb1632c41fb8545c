-- name: insert_group$
INSERT INTO groups (name, token_key_id, token_hash)
VALUES (:name, :token_key_id, :token_hash)
RETURNING id;

-- name: insert_user$
INSERT INTO users (group_id, name, role, key_id, secret_hash, group_token_sealed)
VALUES (:group_id, :name, :role, :key_id, :secret_hash, :group_token_sealed)
RETURNING id;

-- name: rotate_compute_secret$
-- The new epoch; nodes that joined in an older one get no leave to start from here on.
UPDATE groups
SET compute_key_id = :key_id, compute_hash = :hash, compute_epoch = compute_epoch + 1
WHERE id = :group_id
RETURNING compute_epoch;

-- name: group_names
SELECT name FROM groups ORDER BY name;
