-- What changed among jobs, for clients that wait: docs/developers/events.md.

-- An event for each change of a job's state, until the dispatcher deletes it. Without foreign keys, which would cost
-- each event the locks of two rows: no job and no user is ever deleted.
CREATE TABLE events (
    -- The transaction that made the event. Transactions commit in another order than they write. A reader goes as
    -- far as the oldest transaction that may still commit, so no event appears behind it.
    xid       xid8        NOT NULL DEFAULT pg_current_xact_id(),
    -- Orders the events of one transaction, and all events of one job.
    id        bigint      GENERATED ALWAYS AS IDENTITY,
    user_id   integer     NOT NULL,
    job_id    uuid        NOT NULL,
    at        timestamptz NOT NULL DEFAULT now(),
    state     job_state   NOT NULL,
    attempt   integer     NOT NULL,
    exit_code integer,
    reason    text,
    PRIMARY KEY (xid, id)
) WITH (
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_vacuum_cost_limit = 2000,
    autovacuum_analyze_scale_factor = 0.05
);
CREATE INDEX events_of_user ON events (user_id, xid, id);

-- One row: the last transaction of which events were deleted.
CREATE TABLE events_deleted (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    xid      xid8    NOT NULL DEFAULT '0'
);
INSERT INTO events_deleted DEFAULT VALUES;

-- By a trigger, so that every statement of every release makes events. Once a statement, whatever the number of
-- jobs that it changes. The plan is made once a connection, maybe for one job: a nested loop would read all jobs of
-- a later, larger statement for each of them. No NOTIFY: transactions that notify commit one after the other.
CREATE FUNCTION note_events() RETURNS trigger LANGUAGE plpgsql
SET enable_nestloop = off
AS $$
BEGIN
    INSERT INTO events (user_id, job_id, state, attempt, exit_code, reason)
    SELECT n.user_id, n.id, n.state, n.attempt, n.exit_code, n.reason
    FROM changed n JOIN before o ON o.id = n.id AND o.state <> n.state;
    RETURN NULL;
END $$;
CREATE TRIGGER jobs_make_events AFTER UPDATE ON jobs
    REFERENCING OLD TABLE AS before NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION note_events();
