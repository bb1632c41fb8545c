-- name: follow_job^
-- Follows a job for :for_s seconds, unless it is over, and tells which attempt is its current one. owner_id null:
-- any job of the group. Triggers tell the node (migrations/0025_follows.sql).
WITH asked AS (
    SELECT id, attempt, state IN ('received', 'submitted', 'running') AS is_open,
           started_at IS NOT NULL AS has_started
    FROM jobs
    WHERE id = :job_id AND group_id = :group_id AND (:owner_id::int IS NULL OR user_id = :owner_id)
), followed AS (
    INSERT INTO follows (job_id, until, attempt)
    SELECT id, now() + make_interval(secs => :for_s), CASE WHEN has_started THEN attempt END
    FROM asked WHERE is_open
    ON CONFLICT (job_id) DO UPDATE SET until = excluded.until, attempt = excluded.attempt
)
SELECT attempt FROM asked;

-- name: followed_on_node
-- The attempts on a node whose output is followed now.
SELECT j.id AS job_id, j.attempt AS number FROM jobs j
-- The expression of the index jobs_on_node.
WHERE (CASE WHEN j.state IN ('submitted', 'running') AND j.started_at IS NOT NULL THEN j.node_id END) = :node_id
  AND EXISTS (SELECT FROM follows f WHERE f.job_id = j.id AND f.until > now())
ORDER BY j.id;

-- name: delete_follows!
-- Deletes what is over.
DELETE FROM follows WHERE until < now() - interval '1 minute';
