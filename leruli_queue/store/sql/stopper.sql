-- name: attempts_to_stop
SELECT job_id, number, nomad_job_id
FROM attempts
WHERE stop_requested_at IS NOT NULL AND stopped_at IS NULL AND nomad_job_id IS NOT NULL
  AND cluster = :cluster
-- The index's order. Without it PostgreSQL, which expects to come upon so many soon, reads the table.
ORDER BY job_id, number
LIMIT :limit;

-- name: note_stopped!
UPDATE attempts SET stopped_at = now() WHERE job_id = :job_id AND number = :number;
