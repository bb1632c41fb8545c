-- jobs and attempts live through millions of changes of state and stay small and quick. None of this
-- keeps a submit waiting: it writes no attempt, and setting these parameters locks out no writer.

-- Without ended_at, so that a receipt changes no column of any index: then PostgreSQL puts the new row
-- beside the old one and leaves the indexes alone (HOT). What has ended and was never dispatched, as a
-- crash of the dispatcher can leave it, is passed over by undispatched_attempts.
DROP INDEX attempts_undispatched;
CREATE INDEX attempts_undispatched ON attempts (job_id, number)
    WHERE nomad_job_id IS NULL AND stop_requested_at IS NULL;

-- An attempt is written once and changed five times, and doubles in length: it begins with room for that.
ALTER TABLE attempts SET (fillfactor = 50);
-- A job changes its state three times, which is in its indexes; leave to start is not.
ALTER TABLE jobs SET (fillfactor = 80);

-- PostgreSQL's own 20 % of a million jobs are 200,000 dead entries, all of them at the front of the
-- backlog's index, where each claim begins to read. So: after 2 %, with ten times the usual pace, the
-- indexes always, and statistics as often, which the plans of what is in flight hang on. Of inserts
-- alone it is enough to hear a little later.
ALTER TABLE jobs SET (
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_insert_scale_factor = 0.05,
    autovacuum_vacuum_insert_threshold = 10000,
    autovacuum_analyze_scale_factor = 0.02,
    autovacuum_analyze_threshold = 1000,
    autovacuum_vacuum_cost_limit = 2000,
    vacuum_index_cleanup = on
);
ALTER TABLE attempts SET (
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_insert_scale_factor = 0.05,
    autovacuum_vacuum_insert_threshold = 10000,
    autovacuum_analyze_scale_factor = 0.02,
    autovacuum_analyze_threshold = 1000,
    autovacuum_vacuum_cost_limit = 2000,
    vacuum_index_cleanup = on
);
