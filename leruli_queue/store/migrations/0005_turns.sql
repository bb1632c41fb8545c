-- Users take turns: the backlog is read by user, by what a job asks for, by priority and by age.

-- Among a user's own jobs only; higher goes first.
ALTER TABLE jobs ADD COLUMN priority smallint NOT NULL DEFAULT 0;

CREATE INDEX jobs_waiting ON jobs (user_id, cores, memory_mb, priority DESC, id)
    WHERE state = 'received';
-- What it replaces; a group's own waiting jobs are in jobs_of_group.
DROP INDEX jobs_received;
