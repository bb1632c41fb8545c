-- A job may ask for the size of its /dev/shm. NULL: it does not, as earlier jobs, and has Docker's default.
ALTER TABLE jobs ADD COLUMN shm_mb integer;

-- As take_in, in the same transaction, for jobs of which some ask for disk or for /dev/shm. A job that was
-- there keeps what it has. It follows take_in_with_disk, which copies of an earlier version still call.
CREATE FUNCTION take_in_with_limits(
    lock integer, key_ids text[],
    ids uuid[], group_ids integer[], user_ids integer[], buckets text[], names text[], codes text[],
    versions text[], cores integer[], memory_mbs integer[], time_limits integer[],
    priorities smallint[], disk_mbs integer[], shm_mbs integer[]
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
    SET disk_mb = t.disk_mb, shm_mb = t.shm_mb
    FROM unnest(ids, disk_mbs, shm_mbs) AS t (id, disk_mb, shm_mb)
    WHERE j.id = t.id AND (t.disk_mb IS NOT NULL OR t.shm_mb IS NOT NULL);
    RETURN taken;
END $$;
