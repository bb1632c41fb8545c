-- What one group or one node claims does not hold up the others: docs/security.md.

-- The memory that Nomad is asked for, in steps, so that sizes which differ by little share a parent. Null
-- before the first attempt of this version, and what the job asks for counts then.
ALTER TABLE jobs ADD COLUMN nomad_memory_mb integer,
-- How many attempts in a row were lost before they were started. They make the job wait and do not count.
    ADD COLUMN unstarted_attempts integer NOT NULL DEFAULT 0;

-- A node lives when Nomad has it, and not because it says so.
ALTER TABLE nodes ALTER COLUMN alive SET DEFAULT false;

-- The parents of a group are counted, and those used longest ago go first.
CREATE INDEX nomad_parents_of_group ON nomad_parents (group_id, cluster, last_used_at);
