-- Batches of a user's jobs, with counts that are read at once: docs/developers/batches.md.

-- Without a foreign key: to make one would lock users over jobs, which copies that submit would deadlock with.
CREATE TABLE batches (
    number            bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id           integer     NOT NULL,
    -- Made by the client, so that a repeated submission finds the batch. Two users may have the same one.
    id                uuid        NOT NULL,
    name              text        NOT NULL,
    submitted_at      timestamptz NOT NULL DEFAULT now(),
    -- Without what is in batch_changes.
    received          integer     NOT NULL DEFAULT 0,
    submitted         integer     NOT NULL DEFAULT 0,
    running           integer     NOT NULL DEFAULT 0,
    completed         integer     NOT NULL DEFAULT 0,
    failed            integer     NOT NULL DEFAULT 0,
    cancelled         integer     NOT NULL DEFAULT 0,
    last_submitted_at timestamptz,
    first_running_at  timestamptz,
    UNIQUE (user_id, id)
) WITH (fillfactor = 50);
CREATE INDEX batches_of_user ON batches (user_id, number);

-- A row for each statement that changed a batch: how many jobs more, or less, each state has. The dispatcher adds
-- them to the batch. Nobody waits for the row of the batch, however many jobs change at once.
CREATE TABLE batch_changes (
    batch     bigint      NOT NULL,
    at        timestamptz NOT NULL DEFAULT now(),
    received  integer     NOT NULL DEFAULT 0,
    submitted integer     NOT NULL DEFAULT 0,
    running   integer     NOT NULL DEFAULT 0,
    completed integer     NOT NULL DEFAULT 0,
    failed    integer     NOT NULL DEFAULT 0,
    cancelled integer     NOT NULL DEFAULT 0
) WITH (
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_vacuum_cost_limit = 2000,
    autovacuum_analyze_scale_factor = 0.05
);
CREATE INDEX batch_changes_of_batch ON batch_changes (batch);

-- Each batch with its counts and times of now.
CREATE VIEW batches_now AS
SELECT b.number, b.user_id, b.id, b.name, b.submitted_at,
       b.received + c.received AS received,
       b.submitted + c.submitted AS submitted,
       b.running + c.running AS running,
       b.completed + c.completed AS completed,
       b.failed + c.failed AS failed,
       b.cancelled + c.cancelled AS cancelled,
       greatest(b.last_submitted_at, c.last_submitted_at) AS last_submitted_at,
       least(b.first_running_at, c.first_running_at) AS first_running_at
FROM batches b
CROSS JOIN LATERAL (
    SELECT coalesce(sum(received), 0) AS received, coalesce(sum(submitted), 0) AS submitted,
           coalesce(sum(running), 0) AS running, coalesce(sum(completed), 0) AS completed,
           coalesce(sum(failed), 0) AS failed, coalesce(sum(cancelled), 0) AS cancelled,
           -- Only a submission makes the sum larger.
           max(at) FILTER (WHERE received + submitted + running + completed + failed + cancelled > 0)
               AS last_submitted_at,
           min(at) FILTER (WHERE running > 0) AS first_running_at
    FROM batch_changes WHERE batch = b.number
) AS c;

-- The batch of a job. NULL: it has none, as each job of the published client.
ALTER TABLE jobs ADD COLUMN batch bigint;
-- What can still be cancelled, the last ends, the last failures. A job without a batch is not in it.
CREATE INDEX jobs_of_batch ON jobs (batch, state, ended_at, id) WHERE batch IS NOT NULL;

-- As take_in_with_options, for jobs of which some have a batch. One statement inserts all columns: to add the batch
-- to rows that were just inserted would write each of them twice.
CREATE FUNCTION take_in_batches(
    lock integer, key_ids text[],
    ids uuid[], group_ids integer[], user_ids integer[], buckets text[], names text[], codes text[],
    versions text[], cores integer[], memory_mbs integer[], time_limits integer[],
    priorities smallint[], disk_mbs integer[], shm_mbs integer[], shares boolean[],
    batch_ids uuid[], batch_names text[]
) RETURNS uuid[]
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    held text;
    valid integer[];
    new integer;
BEGIN
    FOREACH held IN ARRAY key_ids LOOP
        PERFORM pg_advisory_xact_lock_shared(lock, hashtext(held));
    END LOOP;
    SELECT array_agg(u.id) INTO valid
    FROM users u JOIN groups g ON g.id = u.group_id
    WHERE u.key_id = ANY (key_ids) AND u.revoked_at IS NULL AND g.disabled_at IS NULL;

    -- In one order for everybody, as the jobs. A batch that is there keeps its name.
    INSERT INTO batches (user_id, id, name)
    SELECT DISTINCT ON (t.user_id, t.id) t.user_id, t.id, t.name
    FROM unnest(user_ids, batch_ids, batch_names) WITH ORDINALITY AS t (user_id, id, name, place)
    WHERE t.id IS NOT NULL AND t.user_id = ANY (valid)
      AND NOT EXISTS (SELECT FROM batches b WHERE b.user_id = t.user_id AND b.id = t.id)
    ORDER BY t.user_id, t.id, t.place
    ON CONFLICT (user_id, id) DO NOTHING;

    WITH taken AS (
        INSERT INTO jobs (id, group_id, user_id, bucket, name, code, version, cores, memory_mb, time_limit_s,
                          priority, disk_mb, shm_mb, share_container, batch)
        SELECT t.id, t.group_id, t.user_id, t.bucket, t.name, t.code, t.version, t.cores, t.memory_mb,
               t.time_limit_s, t.priority, t.disk_mb, t.shm_mb, t.share_container,
               -- Not a join: its plan would be made for few batches, and read all of them later.
               (SELECT b.number FROM batches b WHERE b.user_id = t.user_id AND b.id = t.batch_id)
        FROM unnest(ids, group_ids, user_ids, buckets, names, codes, versions, cores, memory_mbs, time_limits,
                    priorities, disk_mbs, shm_mbs, shares, batch_ids)
            AS t (id, group_id, user_id, bucket, name, code, version, cores, memory_mb, time_limit_s,
                  priority, disk_mb, shm_mb, share_container, batch_id)
        WHERE t.user_id = ANY (valid)
        ORDER BY t.group_id, t.bucket, t.id
        ON CONFLICT (group_id, bucket) DO NOTHING
        RETURNING batch
    ), counted AS (
        INSERT INTO batch_changes (batch, received)
        SELECT batch, count(*) FROM taken WHERE batch IS NOT NULL GROUP BY batch
    )
    SELECT count(*) INTO new FROM taken;
    IF new = cardinality(ids) THEN
        RETURN ids;
    END IF;

    RETURN ARRAY(
        SELECT j.id
        FROM unnest(group_ids, user_ids, buckets, names, codes, versions, cores, memory_mbs,
                    time_limits) WITH ORDINALITY
            AS t (group_id, user_id, bucket, name, code, version, cores, memory_mb, time_limit_s,
                  place)
        LEFT JOIN jobs j
            ON j.group_id = t.group_id AND j.bucket = t.bucket AND j.user_id = t.user_id
           AND t.user_id = ANY (valid)
           AND (j.name, j.code, j.version, j.cores, j.memory_mb, j.time_limit_s)
             = (t.name, t.code, t.version, t.cores, t.memory_mb, t.time_limit_s)
        ORDER BY t.place
    );
END $$;

-- As before, and it counts jobs of batches. Jobs without a batch cost one look at the changed rows.
CREATE OR REPLACE FUNCTION note_events() RETURNS trigger LANGUAGE plpgsql
SET enable_nestloop = off
AS $$
BEGIN
    INSERT INTO events (user_id, job_id, state, attempt, exit_code, reason)
    SELECT n.user_id, n.id, n.state, n.attempt, n.exit_code, n.reason
    FROM changed n JOIN before o ON o.id = n.id AND o.state <> n.state;
    IF EXISTS (SELECT FROM changed WHERE batch IS NOT NULL) THEN
        INSERT INTO batch_changes (batch, received, submitted, running, completed, failed, cancelled)
        SELECT n.batch,
               count(*) FILTER (WHERE n.state = 'received') - count(*) FILTER (WHERE o.state = 'received'),
               count(*) FILTER (WHERE n.state = 'submitted') - count(*) FILTER (WHERE o.state = 'submitted'),
               count(*) FILTER (WHERE n.state = 'running') - count(*) FILTER (WHERE o.state = 'running'),
               count(*) FILTER (WHERE n.state = 'completed') - count(*) FILTER (WHERE o.state = 'completed'),
               count(*) FILTER (WHERE n.state = 'failed') - count(*) FILTER (WHERE o.state = 'failed'),
               count(*) FILTER (WHERE n.state = 'cancelled') - count(*) FILTER (WHERE o.state = 'cancelled')
        FROM changed n JOIN before o ON o.id = n.id AND o.state <> n.state
        WHERE n.batch IS NOT NULL
        GROUP BY n.batch;
    END IF;
    RETURN NULL;
END $$;
