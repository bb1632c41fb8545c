-- A node's report waits at the service until there is something to tell the node. A notification wakes it.

-- By triggers, so that every statement of every release tells it. Equal notifications of a transaction are one.
CREATE FUNCTION tell_node_of_stop() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('leruli_node', NEW.node_id::text);
    RETURN NULL;
END $$;
CREATE TRIGGER attempts_tell_node AFTER UPDATE OF stop_requested_at ON attempts FOR EACH ROW
    WHEN (NEW.node_id IS NOT NULL AND OLD.stop_requested_at IS NULL AND NEW.stop_requested_at IS NOT NULL)
    EXECUTE FUNCTION tell_node_of_stop();

CREATE FUNCTION tell_node() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('leruli_node', NEW.id::text);
    RETURN NULL;
END $$;
CREATE TRIGGER nodes_tell_node AFTER UPDATE OF drained_at, removed_at, left_at, held_at ON nodes FOR EACH ROW
    WHEN ((OLD.drained_at IS NULL, OLD.removed_at IS NULL, OLD.left_at IS NULL, OLD.held_at IS NULL)
          IS DISTINCT FROM
          (NEW.drained_at IS NULL, NEW.removed_at IS NULL, NEW.left_at IS NULL, NEW.held_at IS NULL))
    EXECUTE FUNCTION tell_node();
