-- name: use_parent$
-- Notes the use of a parent job, before its registration. Null if it is new and the group is at its limit.
INSERT INTO nomad_parents (id, cluster, group_id, few_nodes)
SELECT :id, :cluster, :group_id::int, :few_nodes
WHERE EXISTS (SELECT FROM nomad_parents WHERE id = :id AND cluster = :cluster)
   OR (SELECT count(*) FROM nomad_parents
       WHERE group_id = :group_id::int AND cluster = :cluster) < :most::bigint
ON CONFLICT (id, cluster) DO UPDATE SET last_used_at = now()
RETURNING true;

-- name: note_parent_uses!
UPDATE nomad_parents p SET last_used_at = now() - make_interval(secs => s.ago_s)
FROM unnest(:ids::text[], :agos_s::float8[]) AS s (id, ago_s)
WHERE p.id = s.id AND p.cluster = :cluster;

-- name: oldest_parents
-- The parent jobs of a group that were used longest ago.
SELECT id FROM nomad_parents WHERE group_id = :group_id AND cluster = :cluster
ORDER BY last_used_at LIMIT :limit;

-- name: idle_parents
SELECT id FROM nomad_parents
WHERE cluster = :cluster
  AND last_used_at < now() - make_interval(
          secs => CASE WHEN few_nodes THEN :few_idle_s::float8 ELSE :idle_s::float8 END)
ORDER BY last_used_at LIMIT :limit;

-- name: forget_parent!
DELETE FROM nomad_parents WHERE id = :id AND cluster = :cluster;
