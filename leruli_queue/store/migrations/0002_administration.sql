-- Users that are revoked, groups that are disabled, who did what.

ALTER TABLE users ADD COLUMN last_used_at timestamptz;

-- While it is set no secret of the group is accepted and nothing of it is dispatched.
ALTER TABLE groups ADD COLUMN disabled_at timestamptz;

CREATE TYPE audit_action AS ENUM (
    'group-created', 'group-disabled', 'group-enabled', 'user-created', 'user-revoked',
    'compute-secret-rotated', 'job-cancelled', 'job-fetched', 'job-purged'
);

-- Appended to, and never changed: what the triggers below see to, for the service as well.
CREATE TABLE audit (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    group_id integer      NOT NULL REFERENCES groups,
    at       timestamptz  NOT NULL DEFAULT clock_timestamp(),
    -- Null for the operator of the service, who has no secret.
    actor_id integer      REFERENCES users,
    action   audit_action NOT NULL,
    -- A user's name or a job's id; null where the group itself is meant.
    subject  text,
    detail   text
);
CREATE INDEX audit_of_group ON audit (group_id, id);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the table % is only appended to', TG_TABLE_NAME;
END $$;
CREATE TRIGGER audit_is_appended_to
    BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
