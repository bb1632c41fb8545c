-- name: user_by_key_id^
-- A user who is not revoked, with what of the group every request needs.
SELECT u.id, u.name, u.role, u.secret_hash, u.group_token_sealed,
       g.id AS group_id, g.token_key_id, g.compute_epoch
FROM users u JOIN groups g ON g.id = u.group_id
WHERE u.key_id = :key_id AND u.revoked_at IS NULL;

-- name: group_by_token_key_id^
SELECT id, token_key_id, token_hash, compute_hash, compute_epoch
FROM groups WHERE token_key_id = :key_id;

-- name: node_by_key_id^
SELECT id, group_id, token_hash, last_seen_at < now() - interval '30 seconds' AS seen_long_ago
FROM nodes WHERE key_id = :key_id;
