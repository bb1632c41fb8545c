-- What a node shows of itself, how an admin takes it out of service, and Nomad clusters by name.

-- The name of the Nomad cluster that the group's jobs run in; its address and credentials are in
-- the service's settings, never here.
ALTER TABLE groups ADD COLUMN cluster text NOT NULL DEFAULT 'default';

ALTER TABLE nodes
    -- The cluster it was let into when it joined.
    ADD COLUMN cluster       text NOT NULL DEFAULT 'default',
    -- Set by group-node-drain, cleared by group-node-resume: no new jobs, whatever the node does.
    ADD COLUMN drained_at    timestamptz,
    -- Set by group-node-remove, for good: it gets nothing any more, and its id is never given again.
    ADD COLUMN removed_at    timestamptz,
    -- From node-report.
    ADD COLUMN reported_at   timestamptz,
    ADD COLUMN nomad_version text,
    ADD COLUMN images        text[] NOT NULL DEFAULT '{}',
    ADD COLUMN disk_free_mb  bigint,
    ADD COLUMN disk_total_mb bigint,
    -- The attempts that it has leave to start and has not ended, as <job id>x<number>.
    ADD COLUMN holds         text[] NOT NULL DEFAULT '{}',
    -- What is wrong with it in Nomad, in a sentence; the dispatcher looks every few seconds.
    ADD COLUMN nomad_trouble text;

-- Where it was dispatched: a group can be given another cluster while jobs run.
ALTER TABLE attempts ADD COLUMN cluster text NOT NULL DEFAULT 'default';

ALTER TABLE nomad_parents ADD COLUMN cluster text NOT NULL DEFAULT 'default';
ALTER TABLE nomad_parents DROP CONSTRAINT nomad_parents_pkey, ADD PRIMARY KEY (id, cluster);

-- The nodes that may start jobs of their group: joined with the current compute secret, in the
-- group's cluster, and not taken out of service by themselves or by an admin; the group not disabled.
CREATE VIEW usable_nodes AS
SELECT n.id, n.group_id, g.token_key_id, g.token_hash, n.cluster, n.cores, n.memory_mb, n.alive
FROM nodes n JOIN groups g ON g.id = n.group_id
WHERE g.disabled_at IS NULL AND n.epoch = g.compute_epoch AND n.cluster = g.cluster
  AND n.left_at IS NULL AND n.drained_at IS NULL AND n.removed_at IS NULL;

ALTER TYPE audit_action ADD VALUE 'cluster-set';
ALTER TYPE audit_action ADD VALUE 'node-drained';
ALTER TYPE audit_action ADD VALUE 'node-resumed';
ALTER TYPE audit_action ADD VALUE 'node-removed';
