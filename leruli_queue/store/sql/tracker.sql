-- name: note_running!
-- From Nomad's events: the commands of these attempts run. The start times are the nodes' claims, which
-- any node can forge. overdue_attempts trusts a node for a time that is counted from there. So a time
-- before the start grant, or after now, is cut to these bounds.
WITH seen AS (
    SELECT * FROM unnest(:job_ids::uuid[], :numbers::int[], :node_ids::uuid[],
                         :times::timestamptz[])
        AS t (job_id, number, node_id, at)
), noted AS (
    UPDATE attempts a
    SET running_at = coalesce(a.running_at, least(greatest(s.at, a.started_at), now()))
    FROM seen s
    WHERE a.job_id = s.job_id AND a.number = s.number AND a.node_id = s.node_id
), contradicted AS (
    -- Another node could not use the job's image or input. Its start here shows that the fault is that
    -- node's.
    INSERT INTO node_failures (node_id, job_id, reason, counts)
    SELECT n.id, j.id, 'it could not use an image or an input that another node could use', true
    FROM seen s JOIN jobs j ON j.id = s.job_id JOIN nodes n ON n.id = j.doubted_node
    WHERE j.attempt = s.number AND j.state = 'submitted' AND j.started_at IS NOT NULL
      AND j.node_id = s.node_id AND n.id <> s.node_id
    ON CONFLICT (node_id, job_id) DO NOTHING
)
UPDATE jobs j
SET state = 'running', running_at = least(greatest(s.at, j.started_at), now()), doubted_node = NULL
FROM seen s
WHERE j.id = s.job_id AND j.attempt = s.number AND j.state = 'submitted'
  AND j.started_at IS NOT NULL AND j.node_id = s.node_id;

-- name: note_allocations!
-- From Nomad's events and lists: the allocation of an attempt and since when it is known, whether it is
-- over, and whether its node is silent. Nomad can have placed a child job twice. Once an attempt has its
-- start grant on a node, only the allocation there counts. The further attempts of a slot share the
-- allocation of its first.
WITH seen AS (
    SELECT * FROM unnest(:job_ids::uuid[], :numbers::int[], :node_ids::uuid[], :allocation_ids::text[],
                         :deads::bool[], :silents::bool[])
        AS t (job_id, number, node_id, allocation_id, dead, silent)
), sharing AS (
    SELECT * FROM seen
    UNION ALL
    SELECT a.job_id, a.number, s.node_id, s.allocation_id, s.dead, s.silent
    FROM seen s JOIN attempts a ON a.slot_job = s.job_id AND a.slot_number = s.number
    WHERE a.ended_at IS NULL
)
UPDATE attempts a
SET allocation_id = s.allocation_id,
    placed_at = CASE WHEN a.allocation_id = s.allocation_id THEN coalesce(a.placed_at, now())
                     ELSE now() END,
    waiting_reason = NULL,
    allocation_dead_at = CASE WHEN s.dead THEN coalesce(a.allocation_dead_at, now()) END,
    silent_since = CASE WHEN s.silent THEN coalesce(a.silent_since, now()) END
FROM sharing s
WHERE a.job_id = s.job_id AND a.number = s.number AND a.ended_at IS NULL
  AND (a.node_id IS NULL OR a.node_id = s.node_id)
  AND (a.allocation_id IS DISTINCT FROM s.allocation_id OR a.placed_at IS NULL
       OR (a.allocation_dead_at IS NOT NULL) <> s.dead
       OR (a.silent_since IS NOT NULL) <> s.silent
       OR a.waiting_reason IS NOT NULL);

-- name: note_unplaced_reasons!
-- From Nomad's evaluations: why these attempts are unplaced.
UPDATE attempts a SET waiting_reason = s.reason
FROM unnest(:job_ids::uuid[], :numbers::int[], :reasons::text[]) AS s (job_id, number, reason)
WHERE a.job_id = s.job_id AND a.number = s.number AND a.allocation_id IS NULL
  AND a.waiting_reason IS DISTINCT FROM s.reason;
