-- A running job is given up only where another machine could run it: docs/attempts.md.

-- Since when Nomad has had the node as ready, as far as the dispatcher looked; null while it has not, and
-- from each join until the dispatcher sees it there.
ALTER TABLE nodes ADD COLUMN alive_since timestamptz;

CREATE OR REPLACE VIEW usable_nodes AS
SELECT n.id, n.group_id, g.token_key_id, g.token_hash, n.cluster, n.cores, n.memory_mb, n.alive,
       n.reserved_for, n.alive_since
FROM nodes n JOIN groups g ON g.id = n.group_id
WHERE g.disabled_at IS NULL AND n.epoch = g.compute_epoch AND n.cluster = g.cluster
  AND n.left_at IS NULL AND n.drained_at IS NULL AND n.removed_at IS NULL;
