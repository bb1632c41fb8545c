-- A bucket that has a job of the same user gives its id to whoever asks for the same job, and to nobody
-- else: of two submits in one folder, the second was told that its job was accepted. Copies of an earlier
-- version, which may still run, are mended as well: they answer 503 to such a job.

-- The ids of jobs in the given order: of the new ones, and of the user's own that have a given bucket
-- and ask for the same. Null where the bucket has another job, or the user was revoked or the group
-- disabled since the secret was found to be right; why_not_taken_in tells which.
CREATE OR REPLACE FUNCTION take_in(
    lock integer, key_ids text[],
    ids uuid[], group_ids integer[], user_ids integer[], buckets text[], names text[], codes text[],
    versions text[], cores integer[], memory_mbs integer[], time_limits integer[],
    priorities smallint[]
) RETURNS uuid[]
LANGUAGE plpgsql
-- Its statements are planned once a connection. For each call's own arguments, which PostgreSQL would
-- otherwise do, planning takes as long as all the rest.
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    held text;
    valid integer[];
    new integer;
BEGIN
    -- A revocation waits for these locks, as hold_secret says, until all of this is committed.
    FOREACH held IN ARRAY key_ids LOOP
        PERFORM pg_advisory_xact_lock_shared(lock, hashtext(held));
    END LOOP;
    -- In a statement of its own, which at READ COMMITTED sees what was committed while the above waited.
    SELECT array_agg(u.id) INTO valid
    FROM users u JOIN groups g ON g.id = u.group_id
    WHERE u.key_id = ANY (key_ids) AND u.revoked_at IS NULL AND g.disabled_at IS NULL;

    INSERT INTO jobs (id, group_id, user_id, bucket, name, code, version, cores, memory_mb,
                      time_limit_s, priority)
    SELECT t.*
    FROM unnest(ids, group_ids, user_ids, buckets, names, codes, versions, cores, memory_mbs,
                time_limits, priorities)
        AS t (id, group_id, user_id, bucket, name, code, version, cores, memory_mb, time_limit_s,
              priority)
    WHERE t.user_id = ANY (valid)
    -- In one order for everybody: two calls with the same buckets wait, and do not deadlock. Of two
    -- jobs with one bucket the first of the call is taken.
    ORDER BY t.group_id, t.bucket, t.id
    ON CONFLICT (group_id, bucket) DO NOTHING;
    GET DIAGNOSTICS new = ROW_COUNT;
    IF new = cardinality(ids) THEN
        RETURN ids;
    END IF;

    -- A statement later, so that the rows of whoever inserted the same buckets meanwhile are seen. The
    -- priority is left out: it changes nothing in what is calculated.
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

-- Whether the agent that uploads marks its objects with their attempt (docs/attempts.md, "Whose objects").
ALTER TABLE attempts ADD COLUMN marks_objects boolean NOT NULL DEFAULT false;
