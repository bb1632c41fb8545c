-- A job may ask for disk. NULL: it does not, as jobs of before, and has LERULI_QUEUE_DEFAULT_DISK_MB.
ALTER TABLE jobs ADD COLUMN disk_mb integer;

-- As take_in, for jobs of which some ask for disk; in the same transaction. A job that was there keeps
-- what it has.
CREATE FUNCTION take_in_with_disk(
    lock integer, key_ids text[],
    ids uuid[], group_ids integer[], user_ids integer[], buckets text[], names text[], codes text[],
    versions text[], cores integer[], memory_mbs integer[], time_limits integer[],
    priorities smallint[], disk_mbs integer[]
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
    SET disk_mb = t.disk_mb
    FROM unnest(ids, disk_mbs) AS t (id, disk_mb)
    WHERE j.id = t.id AND t.disk_mb IS NOT NULL;
    RETURN taken;
END $$;
