-- The group token can be rotated: docs/security.md, "Rotating the group token".

-- Every token that a group has, had, or is about to have. groups.token_key_id and groups.token_hash stay
-- those of its first token: the node pool, images and parents in Nomad are named by them for good.
CREATE TABLE group_tokens (
    key_id            text PRIMARY KEY,
    group_id          integer     NOT NULL REFERENCES groups,
    token_hash        bytea       NOT NULL,
    -- NULL: prepared, and not valid yet.
    valid_from        timestamptz,
    ended_at          timestamptz,
    -- This token, sealed under the one before it: while it is prepared, and as long as some user's row
    -- still has an older one.
    sealed_under_last bytea,
    -- This token, sealed under the one after it: as long as its bucket may hold images.
    sealed_under_next bytea,
    CHECK (ended_at IS NULL OR valid_from IS NOT NULL)
);
CREATE UNIQUE INDEX group_tokens_valid ON group_tokens (group_id)
    WHERE valid_from IS NOT NULL AND ended_at IS NULL;
CREATE UNIQUE INDEX group_tokens_prepared ON group_tokens (group_id) WHERE valid_from IS NULL;
CREATE INDEX group_tokens_of_group ON group_tokens (group_id, valid_from);

INSERT INTO group_tokens (key_id, group_id, token_hash, valid_from)
SELECT token_key_id, id, token_hash, created_at FROM groups;

-- By a trigger, so that copies of the service that are older than this table do it too.
CREATE FUNCTION note_first_token() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO group_tokens (key_id, group_id, token_hash, valid_from)
    VALUES (NEW.token_key_id, NEW.id, NEW.token_hash, NEW.created_at);
    RETURN NULL;
END $$;
CREATE TRIGGER groups_have_a_token AFTER INSERT ON groups
    FOR EACH ROW EXECUTE FUNCTION note_first_token();

-- To seal a new token to: derived from the secret, so only its holder can open what is sealed to it.
-- NULL until the user has called once since this column is there.
ALTER TABLE users ADD COLUMN public_key bytea;
-- Which token group_token_sealed is; NULL: the group's first.
ALTER TABLE users ADD COLUMN sealed_key_id text;

ALTER TABLE nodes ADD COLUMN public_key bytea;
-- The group token of the last rotation since the node joined.
ALTER TABLE nodes ADD COLUMN group_token_sealed bytea;
-- By which token the node finds the bucket of the images, as far as it has said.
ALTER TABLE nodes ADD COLUMN images_key_id text;

ALTER TYPE audit_action ADD VALUE 'group-token-rotated';
ALTER TYPE audit_action ADD VALUE 'group-images-moved';
