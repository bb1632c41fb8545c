-- name: clusters_in_use
SELECT cluster, array_agg(name ORDER BY name) AS groups FROM groups GROUP BY cluster;

-- name: try_lead$
-- Become the active dispatcher of a cluster, for as long as this session lives. The shared lock keeps out
-- a dispatcher of earlier releases, which held it exclusively for all clusters. It is released if another
-- dispatcher serves the cluster.
SELECT CASE
    WHEN NOT pg_try_advisory_lock_shared(:lock) THEN false
    WHEN pg_try_advisory_lock(:cluster_locks, hashtext(:cluster)) THEN true
    ELSE NOT pg_advisory_unlock_shared(:lock)
END;

-- name: note_dispatcher!
-- Notes that the active dispatcher of a cluster runs. "away_s": for how many seconds it could not use Nomad;
-- null if it can.
INSERT INTO dispatchers (cluster, seen_at, slots_at, nomad_away_since)
VALUES (:cluster, now(), now(), now() - make_interval(secs => :away_s::float8))
ON CONFLICT (cluster) DO UPDATE
SET seen_at = now(), slots_at = now(),
    nomad_away_since = CASE WHEN excluded.nomad_away_since IS NOT NULL
        THEN coalesce(dispatchers.nomad_away_since, excluded.nomad_away_since) END;

-- name: note_nomad_away!
-- Notes that a dispatcher that is not active cannot use the cluster's Nomad. Another one may be able to. So
-- the note of an active dispatcher is left for "silence_s", within which it would note again.
INSERT INTO dispatchers (cluster, seen_at, slots_at, nomad_away_since) VALUES (:cluster, now(), now(), now())
ON CONFLICT (cluster) DO UPDATE
SET seen_at = now(),
    -- The one that was active last may be of an earlier release.
    slots_at = CASE WHEN dispatchers.slots_at >= dispatchers.seen_at THEN now() ELSE dispatchers.slots_at END,
    nomad_away_since = coalesce(dispatchers.nomad_away_since, now())
WHERE dispatchers.nomad_away_since IS NOT NULL
   OR dispatchers.seen_at < now() - make_interval(secs => :silence_s);

-- name: dispatching_of_group^
-- Whether a group's jobs are being dispatched. "absent": no dispatcher of its cluster has been heard for
-- "silence_s", and none of an earlier release is active. Such a dispatcher notes nothing, and holds the one
-- lock of all clusters.
SELECT d.seen_at, d.nomad_away_since,
       coalesce(d.seen_at < now() - make_interval(secs => :silence_s), true)
       AND NOT EXISTS (
           SELECT 1 FROM pg_locks l JOIN pg_database b ON b.oid = l.database
           WHERE l.locktype = 'advisory' AND l.mode = 'ExclusiveLock' AND l.granted
             AND l.classid = 0 AND l.objid = :lock::oid AND l.objsubid = 1
             AND b.datname = current_database()) AS absent
FROM groups g LEFT JOIN dispatchers d ON d.cluster = g.cluster
WHERE g.id = :group_id;

-- name: dispatchers_heard^
-- For the metrics: the longest times (s) among the clusters that groups are in. silence_s is null if no
-- dispatcher ever ran, nomad_away_s if all can use Nomad.
SELECT extract(epoch FROM max(now() - d.seen_at))::float8 AS silence_s,
       extract(epoch FROM max(now() - d.nomad_away_since))::float8 AS nomad_away_s
FROM (SELECT DISTINCT cluster FROM groups) AS used JOIN dispatchers d ON d.cluster = used.cluster;
