-- Groups, users, nodes, jobs and their attempts. What the states mean and which transitions there
-- are: docs/states.md and leruli_queue/jobs/states.py.

CREATE TYPE user_role AS ENUM ('user', 'admin');
CREATE TYPE job_state AS ENUM ('received', 'submitted', 'running', 'completed', 'failed', 'cancelled');

CREATE TABLE groups (
    id              integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name            text        NOT NULL UNIQUE,
    -- The group token and the compute secret: only key id and hash, as for every secret.
    token_key_id    text        NOT NULL UNIQUE,
    token_hash      bytea       NOT NULL,
    compute_key_id  text        UNIQUE,
    compute_hash    bytea,
    -- Counts rotations of the compute secret; 0: none was ever set, submits are answered with 412.
    compute_epoch   integer     NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT now(),
    CHECK ((compute_epoch = 0) = (compute_key_id IS NULL))
);

CREATE TABLE users (
    id                 integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    group_id           integer     NOT NULL REFERENCES groups,
    name               text        NOT NULL,
    role               user_role   NOT NULL,
    key_id             text        NOT NULL UNIQUE,
    secret_hash        bytea       NOT NULL,
    -- The group token, encrypted under a key derived from this user's secret: whoever holds the
    -- secret can read it (group-token), a dump of this table cannot.
    group_token_sealed bytea       NOT NULL,
    created_at         timestamptz NOT NULL DEFAULT now(),
    revoked_at         timestamptz
);
-- A revoked user's name can be given again, as a new user.
CREATE UNIQUE INDEX users_name_in_use ON users (group_id, name) WHERE revoked_at IS NULL;

CREATE TABLE nodes (
    -- Also the id of the node in Nomad: node-join chooses it, the agent makes Nomad use it.
    id            uuid PRIMARY KEY,
    group_id      integer     NOT NULL REFERENCES groups,
    name          text        NOT NULL,
    key_id        text        NOT NULL UNIQUE,
    token_hash    bytea       NOT NULL,
    -- The compute_epoch of the secret it joined with; an older one gets no leave to start.
    epoch         integer     NOT NULL,
    cores         integer     NOT NULL,
    memory_mb     integer     NOT NULL,
    agent_version text        NOT NULL,
    joined_at     timestamptz NOT NULL DEFAULT now(),
    last_seen_at  timestamptz NOT NULL DEFAULT now(),
    -- Set by node-leave, cleared by the next node-join.
    left_at       timestamptz,
    -- Whether Nomad has it as ready; the reconciler looks every few seconds.
    alive         boolean     NOT NULL DEFAULT true
);
CREATE INDEX nodes_of_group ON nodes (group_id);

CREATE TABLE jobs (
    id                  uuid PRIMARY KEY,
    group_id            integer     NOT NULL REFERENCES groups,
    user_id             integer     NOT NULL REFERENCES users,
    bucket              text        NOT NULL,
    name                text        NOT NULL,
    code                text        NOT NULL,
    version             text        NOT NULL,
    cores               integer     NOT NULL,
    memory_mb           integer     NOT NULL,
    time_limit_s        integer     NOT NULL,
    state               job_state   NOT NULL DEFAULT 'received',
    -- One sentence for a person where the state alone does not say it all.
    reason              text,
    -- Number of the current (or last) attempt; 0 before the first.
    attempt             integer     NOT NULL DEFAULT 0,
    -- How many attempts the platform failed (not the job): bounded by LERULI_QUEUE_MAX_ATTEMPTS.
    lost_attempts       integer     NOT NULL DEFAULT 0,
    -- After an attempt that the platform failed, not again before this.
    not_before          timestamptz,
    -- Leave to start of the current attempt: given once, to one node, under one start key.
    started_at          timestamptz,
    start_key           text,
    node_id             uuid REFERENCES nodes,
    cancel_requested_at timestamptz,
    cancelled_by        integer REFERENCES users,
    exit_code           integer,
    received_at         timestamptz NOT NULL DEFAULT now(),
    submitted_at        timestamptz,
    running_at          timestamptz,
    ended_at            timestamptz,
    -- What makes a repeated submit answer the same job.
    UNIQUE (group_id, bucket)
);
-- The backlog, in the order of the feeder.
CREATE INDEX jobs_received ON jobs (group_id, id) WHERE state = 'received';
CREATE INDEX jobs_in_flight ON jobs (group_id, id) WHERE state IN ('submitted', 'running');

-- One row for each dispatch of a job: what happened to it, in the order of its columns.
CREATE TABLE attempts (
    job_id             uuid        NOT NULL REFERENCES jobs,
    number             integer     NOT NULL,
    claimed_at         timestamptz NOT NULL DEFAULT now(),
    -- Digest of the node ids that its parent job was constrained to.
    node_set           text        NOT NULL,
    -- Null until Nomad's answer is committed: such an attempt is dispatched again, under the same
    -- idempotency token.
    nomad_job_id       text,
    waiting_reason     text,
    node_id            uuid REFERENCES nodes,
    allocation_id      text,
    started_at         timestamptz,
    running_at         timestamptz,
    -- When leave to upload was last given; the agent renews it while it uploads.
    upload_at          timestamptz,
    -- stage-out is over in Nomad; without a receipt within the grace time the attempt is given up.
    allocation_dead_at timestamptz,
    -- The node does not answer Nomad since.
    silent_since       timestamptz,
    ended_at           timestamptz,
    outcome            text,
    exit_code          integer,
    message            text,
    wall_s             double precision,
    cpu_s              double precision,
    peak_memory_mb     integer,
    uploaded_bytes     bigint,
    uploaded_files     integer,
    -- The child job in Nomad has to go (cancelled, given up); the stopper sees to it.
    stop_requested_at  timestamptz,
    stopped_at         timestamptz,
    PRIMARY KEY (job_id, number)
);
CREATE INDEX attempts_undispatched ON attempts (job_id, number)
    WHERE nomad_job_id IS NULL AND ended_at IS NULL AND stop_requested_at IS NULL;
CREATE INDEX attempts_to_stop ON attempts (job_id, number)
    WHERE stop_requested_at IS NOT NULL AND stopped_at IS NULL AND nomad_job_id IS NOT NULL;

-- The parameterized jobs that were registered with Nomad, to deregister those long unused.
CREATE TABLE nomad_parents (
    id           text PRIMARY KEY,
    group_id     integer     NOT NULL REFERENCES groups,
    last_used_at timestamptz NOT NULL DEFAULT now()
);

-- How long a job waits after the platform failed an attempt: doubled each time, an hour at most.
CREATE FUNCTION retry_delay(failures integer, base_s double precision) RETURNS interval
LANGUAGE sql IMMUTABLE
RETURN make_interval(secs => least(base_s * 2 ^ least(failures, 20), 3600));
