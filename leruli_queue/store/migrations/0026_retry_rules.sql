-- Retry rules of users: docs/developers/attempts.md, "Retry rules of the user".

-- All of them NULL: the job has no rule. Columns and no table of their own: what a retry changes is then one row,
-- written by one statement. They cost a job without a rule nothing.
ALTER TABLE jobs
    -- How often the rule has put the job back into the backlog, and how often it may.
    ADD COLUMN retries            smallint,
    ADD COLUMN most_retries       smallint,
    -- After what, in the words of the API, separated by commas.
    ADD COLUMN retry_on           text,
    -- What the submission asked for. memory_mb and time_limit_s have what the next attempt gets.
    ADD COLUMN first_memory_mb    integer,
    ADD COLUMN first_time_limit_s integer,
    -- Up to which they are doubled. NULL: they stay.
    ADD COLUMN most_memory_mb     integer,
    ADD COLUMN most_time_limit_s  integer,
    -- What the last retry says to people. jobs.reason is emptied when the job is claimed.
    ADD COLUMN retry_reason       text;

-- What an attempt had, where its job has something else since. A slot keeps the memory of its first attempt.
ALTER TABLE attempts
    ADD COLUMN memory_mb       integer,
    ADD COLUMN nomad_memory_mb integer,
    ADD COLUMN time_limit_s    integer;

-- As take_in_batches, for jobs of which some have a retry rule. take_in_batches finds a job again by what it was
-- submitted with, which a retry changes.
CREATE FUNCTION take_in_with_rules(
    lock integer, key_ids text[],
    ids uuid[], group_ids integer[], user_ids integer[], buckets text[], names text[], codes text[],
    versions text[], cores integer[], memory_mbs integer[], time_limits integer[],
    priorities smallint[], disk_mbs integer[], shm_mbs integer[], shares boolean[],
    batch_ids uuid[], batch_names text[],
    most_retries smallint[], retry_ons text[], most_memory_mbs integer[], most_time_limits integer[]
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
                          priority, disk_mb, shm_mb, share_container, batch,
                          retries, most_retries, retry_on, first_memory_mb, first_time_limit_s,
                          most_memory_mb, most_time_limit_s)
        SELECT t.id, t.group_id, t.user_id, t.bucket, t.name, t.code, t.version, t.cores, t.memory_mb,
               t.time_limit_s, t.priority, t.disk_mb, t.shm_mb, t.share_container,
               -- Not a join: its plan would be made for few batches, and read all of them later.
               (SELECT b.number FROM batches b WHERE b.user_id = t.user_id AND b.id = t.batch_id),
               CASE WHEN t.most_retries IS NOT NULL THEN 0 END, t.most_retries, t.retry_on,
               CASE WHEN t.most_retries IS NOT NULL THEN t.memory_mb END,
               CASE WHEN t.most_retries IS NOT NULL THEN t.time_limit_s END,
               t.most_memory_mb, t.most_time_limit_s
        FROM unnest(ids, group_ids, user_ids, buckets, names, codes, versions, cores, memory_mbs, time_limits,
                    priorities, disk_mbs, shm_mbs, shares, batch_ids, most_retries, retry_ons, most_memory_mbs,
                    most_time_limits)
            AS t (id, group_id, user_id, bucket, name, code, version, cores, memory_mb, time_limit_s,
                  priority, disk_mb, shm_mb, share_container, batch_id, most_retries, retry_on,
                  most_memory_mb, most_time_limit_s)
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

    -- A repeated submission asks for the memory and time of the first attempt.
    RETURN ARRAY(
        SELECT j.id
        FROM unnest(group_ids, user_ids, buckets, names, codes, versions, cores, memory_mbs,
                    time_limits) WITH ORDINALITY
            AS t (group_id, user_id, bucket, name, code, version, cores, memory_mb, time_limit_s,
                  place)
        LEFT JOIN jobs j
            ON j.group_id = t.group_id AND j.bucket = t.bucket AND j.user_id = t.user_id
           AND t.user_id = ANY (valid)
           AND (j.name, j.code, j.version, j.cores, coalesce(j.first_memory_mb, j.memory_mb),
                coalesce(j.first_time_limit_s, j.time_limit_s))
             = (t.name, t.code, t.version, t.cores, t.memory_mb, t.time_limit_s)
        ORDER BY t.place
    );
END $$;
