-- What lists of a group's jobs need. Without any other change: while an index is made, writing of jobs
-- waits (about a second for 100,000 jobs), and nothing else does. In one transaction with a changed
-- users or groups, copies that run would wait for all of it, and those that submit would deadlock.

-- Pages of jobs, newest first: of a group or of a user, in some states or in all of them.
CREATE INDEX jobs_of_group ON jobs (group_id, state, id);
CREATE INDEX jobs_of_user ON jobs (user_id, state, id);
-- What was used in a time.
CREATE INDEX jobs_ended ON jobs (group_id, ended_at) WHERE ended_at IS NOT NULL;
