-- What lists of the jobs of batches need. Without any other change, as 0004_lists.sql: while an index is made, writing
-- of jobs waits, and nothing else does. Only jobs with a batch are in it.

-- Pages of jobs of a batch, newest first. jobs_of_batch has jobs that ended in the order of their ends.
CREATE INDEX jobs_listed_by_batch ON jobs (batch, state, id) WHERE batch IS NOT NULL;
-- The batches of a user with a name.
CREATE INDEX batches_named ON batches (user_id, name);
