-- Who reads the output of a job while it runs says so again every few seconds: docs/developers/live-output.md.

-- Without a foreign key: to make one would lock the job.
CREATE TABLE follows (
    job_id  uuid        PRIMARY KEY,
    until   timestamptz NOT NULL,
    -- The attempt that had started when the job was followed last. NULL: none had.
    attempt integer
) WITH (fillfactor = 50);

CREATE FUNCTION tell_node_of_follow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('leruli_node', j.node_id::text) FROM jobs j
    WHERE j.id = NEW.job_id AND j.node_id IS NOT NULL AND j.started_at IS NOT NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER follows_begin AFTER INSERT ON follows FOR EACH ROW
    WHEN (NEW.attempt IS NOT NULL)
    EXECUTE FUNCTION tell_node_of_follow();
-- Not at each repetition: a node with many followers would read its news all the time.
CREATE TRIGGER follows_go_on AFTER UPDATE ON follows FOR EACH ROW
    WHEN (NEW.attempt IS NOT NULL AND (OLD.attempt IS DISTINCT FROM NEW.attempt OR OLD.until <= now()))
    EXECUTE FUNCTION tell_node_of_follow();

-- A job that is followed while it waits: its node is told when it starts.
CREATE FUNCTION tell_node_of_followed_start() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM follows f WHERE f.job_id = NEW.id AND f.until > now()) THEN
        PERFORM pg_notify('leruli_node', NEW.node_id::text);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER jobs_tell_node AFTER UPDATE OF started_at ON jobs FOR EACH ROW
    WHEN (NEW.node_id IS NOT NULL AND OLD.started_at IS NULL AND NEW.started_at IS NOT NULL)
    EXECUTE FUNCTION tell_node_of_followed_start();
