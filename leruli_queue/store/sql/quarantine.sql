-- name: failed_elsewhere$
-- Whether the platform failed an earlier attempt of the job on another node.
SELECT EXISTS (SELECT 1 FROM attempts
               WHERE job_id = :job_id AND number < :number AND failed_on_node
                 AND node_id <> :node_id);

-- name: lock_node^
-- Locks the node, so that receipts about it are counted one after the other.
SELECT id, group_id, held_at IS NOT NULL AS held,
       probe_job IS NOT DISTINCT FROM :job_id::uuid AND probe_attempt IS NOT DISTINCT FROM :number::int
         AS is_probe
FROM nodes WHERE id = :node_id
FOR NO KEY UPDATE;

-- name: note_failure!
-- One more job that the node failed. The same job counts once.
INSERT INTO node_failures (node_id, job_id, reason, counts)
VALUES (:node_id, :job_id, :reason, :counts)
ON CONFLICT (node_id, job_id) DO UPDATE SET at = now(), reason = excluded.reason,
                                            counts = node_failures.counts AND excluded.counts;

-- name: doubt_failures!
-- A second node failed the job too, so its failure says nothing about the first node.
UPDATE node_failures SET counts = false WHERE job_id = :job_id AND counts;

-- name: mark_failed_attempt!
UPDATE attempts SET failed_on_node = true WHERE job_id = :job_id AND number = :number;

-- name: quarantine_nodes
-- Quarantines nodes that failed "most" different jobs in a row, of all groups or of one. Never more than half
-- of a group's living nodes (or its only node): a failure on most nodes is not the nodes' fault.
WITH standing AS (
    SELECT n.id, n.group_id, n.held_at IS NOT NULL AS held,
           (SELECT count(*) FROM node_failures f WHERE f.node_id = n.id AND f.counts) AS failures
    FROM usable_nodes u JOIN nodes n ON n.id = u.id
    WHERE u.alive AND (:group_id::int IS NULL OR n.group_id = :group_id::int)
), ranked AS (
    SELECT id, failures, greatest(1, count(*) OVER g / 2) - count(*) FILTER (WHERE held) OVER g AS more,
           row_number() OVER (PARTITION BY group_id ORDER BY held, failures DESC, id) AS place, held
    FROM standing
    WINDOW g AS (PARTITION BY group_id)
), chosen AS (
    SELECT r.id, r.failures, (SELECT f.reason FROM node_failures f
                              WHERE f.node_id = r.id ORDER BY f.at DESC, f.job_id LIMIT 1) AS reason
    FROM ranked r
    WHERE NOT r.held AND r.failures >= :most AND r.place <= r.more
)
UPDATE nodes n
SET held_at = now(), held_failures = c.failures, held_reason = c.reason, failed_probes = 0,
    probe_at = now() + retry_delay(0, :pause_s), probe_job = NULL, probe_attempt = NULL
FROM chosen c
WHERE n.id = c.id AND n.held_at IS NULL
RETURNING n.id, n.name, n.held_failures AS failures, n.held_reason AS reason;

-- name: note_failed_probe!
UPDATE nodes
SET failed_probes = failed_probes + 1, held_reason = :reason,
    probe_at = now() + make_interval(secs => least(:pause_s * 2.0 ^ least(failed_probes + 1, 20),
                                                   :most_pause_s))
WHERE id = :node_id AND held_at IS NOT NULL;

-- name: note_success$
-- A job came to its own end on the node: failures from before the start of that attempt no longer count.
-- Returns the id if that ends the quarantine.
WITH forgotten AS (
    DELETE FROM node_failures WHERE node_id = :node_id AND at < :started_at
)
UPDATE nodes
SET held_at = NULL, held_failures = 0, held_reason = NULL, probe_at = NULL, failed_probes = 0
WHERE id = :node_id AND held_at < :started_at
RETURNING id;

-- name: forgive_node!
-- An admin declares the node healthy.
WITH forgotten AS (DELETE FROM node_failures WHERE node_id = :node_id)
UPDATE nodes
SET held_at = NULL, held_failures = 0, held_reason = NULL, probe_at = NULL, failed_probes = 0
WHERE id = :node_id;

-- name: release_doubted_nodes
-- Releases nodes that are quarantined for jobs that other nodes failed too, if no probe has failed since.
UPDATE nodes n
SET held_at = NULL, held_failures = 0, held_reason = NULL, probe_at = NULL
WHERE n.held_at IS NOT NULL AND n.failed_probes = 0
  AND (SELECT count(*) FROM node_failures f WHERE f.node_id = n.id AND f.counts) < :most
RETURNING n.id, n.name;

-- name: release_long_probed_nodes
-- Releases nodes whose probe has run for long. The failures that lead to quarantine show at the start of an
-- attempt, so the probe need not end.
WITH released AS (
    UPDATE nodes n
    SET held_at = NULL, held_failures = 0, held_reason = NULL, probe_at = NULL, failed_probes = 0
    FROM jobs p
    WHERE n.held_at IS NOT NULL AND n.alive AND p.id = n.probe_job AND p.attempt = n.probe_attempt
      AND p.state = 'running' AND p.node_id = n.id AND p.started_at > n.held_at
      AND p.running_at < now() - make_interval(secs => :long_s)
    RETURNING n.id, n.name, p.started_at
), forgotten AS (
    DELETE FROM node_failures f USING released r WHERE f.node_id = r.id AND f.at < r.started_at
)
SELECT id, name FROM released;

-- name: other_nodes_outcomes^
-- For a job that a node could not start: the same outcomes of other nodes, whether this node had one before,
-- and whether there is another node that could try it.
SELECT ARRAY(SELECT DISTINCT a.node_id || ' ' || a.outcome FROM attempts a
             WHERE a.job_id = j.id AND a.number < :number AND a.node_id <> :node_id
               AND a.outcome = ANY(:outcomes::text[])) AS said,
       EXISTS (SELECT 1 FROM attempts a
               WHERE a.job_id = j.id AND a.number < :number AND a.node_id = :node_id
                 AND a.outcome = ANY(:outcomes::text[])) AS again,
       EXISTS (
           SELECT 1 FROM usable_nodes u JOIN nodes n ON n.id = u.id
           WHERE u.group_id = j.group_id AND u.alive AND u.id <> :node_id
             AND u.cores >= j.cores AND u.memory_mb >= j.memory_mb
             AND n.held_at IS NULL AND n.agent_trouble IS NULL
             AND NOT EXISTS (SELECT 1 FROM attempts f
                             WHERE f.job_id = j.id AND f.failed_on_node AND f.node_id = u.id)
       ) AS others
FROM jobs j WHERE j.id = :job_id;

-- name: doubt_node!
UPDATE jobs SET doubted_node = :node_id WHERE id = :job_id;

-- name: platform_works$
-- Whether failures of the platform may fail the job for good. One of these holds:
-- - since its first failure another job of the group came to its own end,
-- - no other job of the group failed in the last day.
--
-- Otherwise the job is not the cause.
SELECT EXISTS (
           SELECT 1 FROM jobs o
           WHERE o.group_id = j.group_id AND o.ended_at > f.first AND o.id <> j.id
             AND o.exit_code IS NOT NULL)
    OR NOT EXISTS (
           SELECT 1 FROM node_failures s JOIN nodes n ON n.id = s.node_id
           WHERE n.group_id = j.group_id AND s.job_id <> j.id
             AND s.at > now() - interval '1 day')
FROM jobs j CROSS JOIN LATERAL (
    SELECT coalesce(min(coalesce(a.ended_at, a.claimed_at)), now()) AS first FROM attempts a
    WHERE a.job_id = j.id AND a.failed_on_node
) AS f
WHERE j.id = :job_id;

-- name: nodes_to_probe
-- Nodes in quarantine that are due for a probe and have none in flight.
SELECT u.id, u.group_id
FROM usable_nodes u JOIN nodes n ON n.id = u.id
WHERE n.cluster = :cluster AND n.held_at IS NOT NULL AND n.probe_at <= now() AND u.alive
  AND n.agent_trouble IS NULL AND u.reserved_for IS NULL
  AND NOT EXISTS (SELECT 1 FROM jobs p
                  WHERE p.id = n.probe_job AND p.attempt = n.probe_attempt
                    AND p.state IN ('submitted', 'running'));

-- name: claim_probe^
-- Claims a job that probes a node, in the way of claim_jobs. Candidates are each user's first twenty and
-- smallest twenty jobs, if they fit. The order of preference:
-- 1. jobs that no node failed,
-- 2. jobs of users whose jobs did not lead to the quarantine,
-- 3. the shortest time limit.
WITH node AS (
    SELECT id, group_id, cores, memory_mb, probe_at FROM nodes
    WHERE id = :node_id AND held_at IS NOT NULL
    FOR NO KEY UPDATE
), suspects AS MATERIALIZED (
    SELECT DISTINCT j.user_id FROM node_failures f JOIN jobs j ON j.id = f.job_id
    WHERE f.node_id = :node_id
), picked AS (
    SELECT id FROM jobs
    WHERE id = ANY(ARRAY(
              SELECT w.id
              FROM node n JOIN users u ON u.group_id = n.group_id
              CROSS JOIN LATERAL (
                  (SELECT * FROM jobs j
                   WHERE j.user_id = u.id AND j.state = 'received'
                   ORDER BY j.priority DESC, j.id LIMIT 20)
                  UNION ALL
                  -- Otherwise large jobs that wait for another node would keep this one from its probe.
                  (SELECT * FROM jobs j
                   WHERE j.user_id = u.id AND j.state = 'received'
                   ORDER BY j.cores, j.memory_mb, j.priority DESC, j.id LIMIT 20)
              ) AS w
              WHERE w.cores <= n.cores AND w.memory_mb <= n.memory_mb
                AND (w.not_before IS NULL OR w.not_before <= now())
              ORDER BY w.lost_attempts > 0 OR w.doubted_node IS NOT NULL
                         OR EXISTS (SELECT 1 FROM node_failures f WHERE f.job_id = w.id),
                       u.id IN (SELECT user_id FROM suspects), w.time_limit_s, w.id
              LIMIT 1))
      AND state = 'received'
    FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE jobs j
    SET state = 'submitted', attempt = j.attempt + 1, submitted_at = now(), reason = NULL,
        node_id = NULL, not_before = NULL, waiting_since = coalesce(j.waiting_since, now()),
        -- NULL: exactly the memory that it asks for. The memory steps are those of the other nodes.
        nomad_memory_mb = NULL
    WHERE j.id = ANY(ARRAY(SELECT id FROM picked)) AND j.state = 'received'
    RETURNING j.id, j.attempt, j.code, j.version, j.cores, j.memory_mb, j.shm_mb
), noted AS (
    INSERT INTO attempts (job_id, number, node_set, cluster)
    SELECT id, attempt, :node_set, :cluster FROM claimed
), probing AS (
    -- No further probe before this pause, even if the attempt is requeued.
    UPDATE nodes n
    SET probe_job = c.id, probe_attempt = c.attempt, probe_at = now() + retry_delay(0, :pause_s)
    FROM claimed c WHERE n.id = :node_id
)
SELECT id AS job_id, attempt AS number, code, version, cores, memory_mb AS nomad_memory_mb, shm_mb
FROM claimed;

-- name: avoided_nodes
-- The nodes on which the platform failed earlier attempts of these jobs, latest first; and the node that an
-- attempt probes.
SELECT s.job_id, s.number,
       ARRAY(SELECT a.node_id FROM attempts a
             WHERE a.job_id = s.job_id AND a.number < s.number AND a.failed_on_node
               AND a.node_id IS NOT NULL
             GROUP BY a.node_id ORDER BY max(a.number) DESC LIMIT :most) AS nodes,
       (SELECT n.id FROM nodes n
        WHERE n.cluster = :cluster AND n.held_at IS NOT NULL
          AND n.probe_job = s.job_id AND n.probe_attempt = s.number) AS probed
FROM unnest(:job_ids::uuid[], :numbers::int[]) AS s (job_id, number);

-- name: set_node_sets!
UPDATE attempts a SET node_set = s.node_set
FROM unnest(:job_ids::uuid[], :numbers::int[], :node_sets::text[]) AS s (job_id, number, node_set)
WHERE a.job_id = s.job_id AND a.number = s.number;

-- name: count_subset_parents$
SELECT count(*) FROM nomad_parents WHERE group_id = :group_id AND few_nodes;
