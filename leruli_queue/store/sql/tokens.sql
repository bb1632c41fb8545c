-- name: valid_token_key_id$
SELECT key_id FROM group_tokens
WHERE group_id = :group_id AND valid_from IS NOT NULL AND ended_at IS NULL;

-- name: tokens_of_group
-- From the first token to the prepared one.
SELECT key_id, token_hash, valid_from, ended_at, sealed_under_last, sealed_under_next
FROM group_tokens WHERE group_id = :group_id
ORDER BY valid_from NULLS LAST;

-- name: hold_group_tokens$
-- No token of the group begins or ends until the transaction ends. Holders of this lock do not wait for each
-- other.
SELECT true FROM groups WHERE id = :group_id FOR SHARE;

-- name: seize_group_tokens$
SELECT true FROM groups WHERE id = :group_id FOR NO KEY UPDATE;

-- name: insert_prepared_token!
INSERT INTO group_tokens (key_id, group_id, token_hash, sealed_under_last)
VALUES (:key_id, :group_id, :token_hash, :sealed_under_last);

-- name: delete_prepared_token!
DELETE FROM group_tokens WHERE group_id = :group_id AND valid_from IS NULL;

-- name: end_token!
-- The clock's time, not the time of the transaction's start: it has waited for nodes that were joining.
UPDATE group_tokens SET ended_at = clock_timestamp(), sealed_under_next = :sealed_under_next
WHERE key_id = :key_id;

-- name: begin_token!
UPDATE group_tokens SET valid_from = clock_timestamp() WHERE key_id = :key_id;

-- name: clear_spent_links!
-- Clears text that is sealed under an older token, once no user needs it: users who left know that token.
UPDATE group_tokens t SET sealed_under_last = NULL
WHERE t.group_id = :group_id AND t.valid_from IS NOT NULL AND t.sealed_under_last IS NOT NULL
  AND NOT EXISTS (
    SELECT FROM users u JOIN groups g ON g.id = u.group_id
    WHERE u.group_id = :group_id AND u.revoked_at IS NULL
      AND coalesce(u.sealed_key_id, g.token_key_id) <> (
        SELECT v.key_id FROM group_tokens v
        WHERE v.group_id = :group_id AND v.valid_from IS NOT NULL AND v.ended_at IS NULL));

-- name: forget_ended_tokens
UPDATE group_tokens SET sealed_under_next = NULL
WHERE group_id = :group_id AND sealed_under_next IS NOT NULL
RETURNING key_id;

-- name: users_to_seal_for
SELECT id, public_key FROM users
WHERE group_id = :group_id AND revoked_at IS NULL AND public_key IS NOT NULL
ORDER BY id;

-- name: seal_for_users!
UPDATE users u SET group_token_sealed = s.sealed, sealed_key_id = :token_key_id
FROM unnest(:ids::int[], :sealed::bytea[]) AS s (id, sealed)
WHERE u.id = s.id;

-- name: seal_for_user!
-- Unless a rotation has sealed a newer token meanwhile.
UPDATE users SET public_key = :public_key, group_token_sealed = :sealed, sealed_key_id = :token_key_id
WHERE id = :user_id AND group_token_sealed = :earlier;

-- name: nodes_to_seal_for
SELECT id, public_key FROM nodes
WHERE group_id = :group_id AND removed_at IS NULL AND left_at IS NULL AND public_key IS NOT NULL
ORDER BY id;

-- name: seal_for_nodes!
UPDATE nodes n SET group_token_sealed = s.sealed
FROM unnest(:ids::uuid[], :sealed::bytea[]) AS s (id, sealed)
WHERE n.id = s.id;

-- name: note_joined_with!
-- A node that joined has the group's token, and finds images by it.
UPDATE nodes SET public_key = :public_key, group_token_sealed = NULL, images_key_id = :token_key_id
WHERE id = :node_id;

-- name: note_public_key!
UPDATE nodes SET public_key = :public_key WHERE id = :node_id AND key_id = :key_id;

-- name: note_images_key!
UPDATE nodes SET images_key_id = :token_key_id WHERE id = :node_id;
