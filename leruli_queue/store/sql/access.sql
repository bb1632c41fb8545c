-- name: user_by_key_id^
-- A user who is not revoked, with the columns of the group that every request needs.
SELECT u.id, u.name, u.role, u.secret_hash, u.group_token_sealed, u.public_key IS NULL AS keyless,
       u.last_used_at IS NULL OR u.last_used_at < now() - interval '1 minute' AS used_long_ago,
       g.id AS group_id, g.compute_epoch, g.disabled_at
FROM users u JOIN groups g ON g.id = u.group_id
WHERE u.key_id = :key_id AND u.revoked_at IS NULL;

-- name: group_by_token_key_id^
-- The token may have ended. A token that is only prepared is not found.
SELECT g.id, g.token_key_id AS group_key_id, t.key_id AS token_key_id, t.token_hash, t.ended_at,
       g.compute_hash, g.compute_epoch, g.disabled_at
FROM group_tokens t JOIN groups g ON g.id = t.group_id
WHERE t.key_id = :key_id AND t.valid_from IS NOT NULL;

-- name: node_by_key_id^
SELECT id, group_id, token_hash, last_seen_at < now() - interval '30 seconds' AS seen_long_ago,
       public_key IS NULL AS keyless, group_token_sealed, images_key_id
FROM nodes WHERE key_id = :key_id;

-- name: touch_user!
-- The condition is checked again, so only one of many concurrent requests writes. SKIP LOCKED: another
-- request is updating the same timestamp, or a revocation holds the row, which may last as long as a large
-- cancellation.
UPDATE users SET last_used_at = now(), public_key = coalesce(public_key, :public_key)
WHERE id = (
    SELECT id FROM users
    WHERE id = :user_id
      AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute' OR public_key IS NULL)
    FOR NO KEY UPDATE SKIP LOCKED
);

-- name: hold_secret$
-- Held until the transaction ends. An advisory lock, because PostgreSQL grants these in the order of the
-- requests. Requests that share a row lock without a pause could keep a revocation from it for ever.
SELECT pg_advisory_xact_lock_shared(:lock, hashtext(:key_id));

-- name: seize_secret$
-- Waits for all writes under the secret, and keeps new ones from starting.
SELECT pg_advisory_xact_lock(:lock, hashtext(:key_id));

-- name: hold_administration$
SELECT pg_advisory_xact_lock(:lock, :group_id);
