-- A node that fails one job after the other is held back and probed: docs/attempts.md, "A node that fails".

-- Failures of a node since its last success, one a job. A success of an attempt that was started after a
-- failure deletes it. No foreign key to jobs: it would lock the job's row.
CREATE TABLE node_failures (
    node_id uuid        NOT NULL REFERENCES nodes ON DELETE CASCADE,
    job_id  uuid        NOT NULL,
    at      timestamptz NOT NULL DEFAULT now(),
    reason  text        NOT NULL,
    -- False once another node failed the job as well: then it may be the job.
    counts  boolean     NOT NULL,
    PRIMARY KEY (node_id, job_id)
);
CREATE INDEX node_failures_of_job ON node_failures (job_id);

ALTER TABLE nodes
    -- Since when the node is held back for its failures; null: it is not.
    ADD COLUMN held_at       timestamptz,
    -- How many failures, and the last one's sentence, held it back.
    ADD COLUMN held_failures integer NOT NULL DEFAULT 0,
    ADD COLUMN held_reason   text,
    -- The next probe is not before this; and how many probes have failed in a row.
    ADD COLUMN probe_at      timestamptz,
    ADD COLUMN failed_probes integer NOT NULL DEFAULT 0,
    -- The attempt that probes it (or probed it last).
    ADD COLUMN probe_job     uuid,
    ADD COLUMN probe_attempt integer,
    -- What the node's agent says is wrong with the node itself, in a sentence.
    ADD COLUMN agent_trouble text,
    -- Limits of jobs that its Docker does not enforce, as the agent reports them; null: an agent that
    -- does not tell.
    ADD COLUMN unenforced    text[];

ALTER TABLE attempts
    -- The platform failed the attempt on its node: the job goes elsewhere while another node can take it.
    ADD COLUMN failed_on_node boolean NOT NULL DEFAULT false;

ALTER TABLE jobs
    -- The node whose word on image or input a second node is asked for; null: there is none to confirm.
    ADD COLUMN doubted_node uuid;

-- Parents of a few nodes, for a probe or a job that avoids nodes: deregistered sooner than others.
ALTER TABLE nomad_parents ADD COLUMN few_nodes boolean NOT NULL DEFAULT false;
CREATE INDEX nodes_held ON nodes (probe_job) WHERE held_at IS NOT NULL;
