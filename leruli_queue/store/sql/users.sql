-- name: insert_user$
INSERT INTO users (group_id, name, role, key_id, secret_hash, public_key, group_token_sealed,
                   sealed_key_id)
VALUES (:group_id, :name, :role, :key_id, :secret_hash, :public_key, :group_token_sealed,
        :token_key_id)
RETURNING id;

-- name: user_by_name^
-- The user who has this name, or had it last; or the user with this key id.
SELECT id, name, role, key_id, revoked_at
FROM users
WHERE group_id = :group_id AND (name = :name OR key_id = :key_id)
ORDER BY revoked_at DESC NULLS FIRST
LIMIT 1;

-- name: users_named
-- All users who ever had the name.
SELECT id FROM users WHERE group_id = :group_id AND name = :name;

-- name: count_admins$
SELECT count(*) FROM users
WHERE group_id = :group_id AND role = 'admin' AND revoked_at IS NULL;

-- name: revoke_user$
-- The clock's time, not the time of the transaction's start: it has waited for writes under the secret.
UPDATE users SET revoked_at = clock_timestamp()
WHERE id = :user_id AND revoked_at IS NULL
RETURNING revoked_at;

-- name: users_of_group
SELECT name, role, key_id, created_at, last_used_at, revoked_at
FROM users
WHERE group_id = :group_id AND (:with_revoked OR revoked_at IS NULL)
ORDER BY revoked_at IS NOT NULL, name, created_at;

-- name: keys_of_group
SELECT key_id FROM users WHERE group_id = :group_id AND revoked_at IS NULL;
