-- name: attempts_to_stop
-- No child job: it needs no stop. The attempt has ended, and others of its slot go on under the child job.
SELECT a.job_id, a.number,
       CASE WHEN a.ended_at IS NULL
              OR (a.slot_job IS NULL
                  -- For NOT EXISTS PostgreSQL would read all attempts.
                  AND (SELECT f.number FROM attempts f
                       WHERE f.slot_job = a.job_id AND f.slot_number = a.number
                         AND f.ended_at IS NULL LIMIT 1) IS NULL)
            THEN a.nomad_job_id END AS nomad_job_id
FROM attempts a
WHERE a.stop_requested_at IS NOT NULL AND a.stopped_at IS NULL AND a.nomad_job_id IS NOT NULL
  AND a.cluster = :cluster
-- The order of the index. Without it PostgreSQL reads the table, because it expects to find enough rows soon.
ORDER BY a.job_id, a.number
LIMIT :limit;

-- name: note_stopped!
-- "child": its child job was stopped. That is noted at the first attempt of its slot too: the slot runs no
-- further attempt.
UPDATE attempts SET stopped_at = now()
WHERE (job_id = :job_id AND number = :number)
   OR (:child::bool AND (job_id, number) = (SELECT slot_job, slot_number FROM attempts
                                            WHERE job_id = :job_id AND number = :number));
