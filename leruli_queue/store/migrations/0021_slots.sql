-- An allocation of Nomad is a slot: it runs the attempt that it was dispatched for, then others. Further attempts
-- name the first attempt of their slot. They have its child job, its node and its allocation.
ALTER TABLE attempts ADD COLUMN slot_job uuid, ADD COLUMN slot_number integer;
CREATE INDEX attempts_of_slot ON attempts (slot_job, slot_number) WHERE slot_job IS NOT NULL AND ended_at IS NULL;

-- When a slot ended last so that Nomad can place this attempt; and, of a slot's first attempt, when it ended so.
ALTER TABLE attempts ADD COLUMN room_made_at timestamptz, ADD COLUMN slot_ended_at timestamptz;

-- When a dispatcher that knows slots last said that it serves the cluster. One of an earlier release notes only
-- seen_at. It would stop a child job whose first attempt has ended.
ALTER TABLE dispatchers ADD COLUMN slots_at timestamptz;

-- Consecutive jobs of one user, image and resources may run in one container.
ALTER TABLE jobs ADD COLUMN share_container boolean NOT NULL DEFAULT false;

-- As take_in, in the same transaction, for jobs of which some ask for disk, for /dev/shm or for a shared
-- container. A job that was there keeps what it has. It follows take_in_with_limits, which copies of an earlier
-- version still call.
CREATE FUNCTION take_in_with_options(
    lock integer, key_ids text[],
    ids uuid[], group_ids integer[], user_ids integer[], buckets text[], names text[], codes text[],
    versions text[], cores integer[], memory_mbs integer[], time_limits integer[],
    priorities smallint[], disk_mbs integer[], shm_mbs integer[], shares boolean[]
) RETURNS uuid[]
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    taken uuid[];
BEGIN
    taken := take_in(lock, key_ids, ids, group_ids, user_ids, buckets, names, codes, versions, cores,
                     memory_mbs, time_limits, priorities);
    UPDATE jobs j
    SET disk_mb = t.disk_mb, shm_mb = t.shm_mb, share_container = t.share_container
    FROM unnest(ids, disk_mbs, shm_mbs, shares) AS t (id, disk_mb, shm_mb, share_container)
    WHERE j.id = t.id AND (t.disk_mb IS NOT NULL OR t.shm_mb IS NOT NULL OR t.share_container);
    RETURN taken;
END $$;

-- Jobs that wait for the start grant: few, however many jobs are in flight.
CREATE INDEX jobs_unstarted ON jobs (group_id, submitted_at, id) WHERE state = 'submitted' AND started_at IS NULL;

-- What a node holds. Only a statement with this expression uses the index. PostgreSQL would scan an index of
-- node_id to find one job by its id, as it expects the index to be small.
CREATE INDEX jobs_on_node
    ON jobs ((CASE WHEN state IN ('submitted', 'running') AND started_at IS NOT NULL THEN node_id END))
    WHERE (CASE WHEN state IN ('submitted', 'running') AND started_at IS NOT NULL THEN node_id END) IS NOT NULL;

-- Jobs in flight that take no cores and memory of their own: another job of their slot is in flight too. One is
-- prepared, one runs, and the output of others is uploaded.
CREATE VIEW jobs_beside AS
SELECT m.job_id
FROM (
    SELECT j.id AS job_id, a.slot_job, a.slot_number,
           row_number() OVER (PARTITION BY a.slot_job, a.slot_number ORDER BY j.id) AS place
    FROM attempts a JOIN jobs j ON j.id = a.job_id AND j.attempt = a.number
    WHERE a.slot_job IS NOT NULL AND a.ended_at IS NULL AND j.state IN ('submitted', 'running')
) AS m
WHERE m.place > 1
   OR EXISTS (SELECT 1 FROM jobs f WHERE f.id = m.slot_job AND f.attempt = m.slot_number
              AND f.state IN ('submitted', 'running'));
