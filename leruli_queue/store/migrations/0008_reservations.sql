-- A large job that small ones would starve gets a node of its own to wait for: docs/scheduling.md.

-- Since when a job waits for a place in Nomad, over all attempts that were taken back unstarted.
ALTER TABLE jobs ADD COLUMN waiting_since timestamptz;

-- The job that a node is kept for, and since when. No foreign key: it would lock the job's row.
ALTER TABLE nodes ADD COLUMN reserved_for uuid, ADD COLUMN reserved_at timestamptz;

CREATE OR REPLACE VIEW usable_nodes AS
SELECT n.id, n.group_id, g.token_key_id, g.token_hash, n.cluster, n.cores, n.memory_mb, n.alive,
       n.reserved_for
FROM nodes n JOIN groups g ON g.id = n.group_id
WHERE g.disabled_at IS NULL AND n.epoch = g.compute_epoch AND n.cluster = g.cluster
  AND n.left_at IS NULL AND n.drained_at IS NULL AND n.removed_at IS NULL;
