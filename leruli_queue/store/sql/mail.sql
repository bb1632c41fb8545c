-- name: count_mail_of_user$
-- Mails about batches of a user in the last day, and batches that the user waits for mail about. NULL: the user waits
-- for mail about this batch already.
SELECT CASE WHEN NOT EXISTS (SELECT FROM batch_mails
                             WHERE user_id = :user_id AND batch_id = :batch_id AND address IS NOT NULL)
    THEN (SELECT count(*) FROM mails WHERE user_id = :user_id AND written_at > now() - interval '1 day')
       + (SELECT count(*) FROM batch_mails WHERE user_id = :user_id AND address IS NOT NULL)
END;

-- name: ask_for_mail!
-- Can be repeated. After the mail about the end a request begins from the start.
INSERT INTO batch_mails AS m (user_id, batch_id, address, complete)
VALUES (:user_id, :batch_id, :address, :complete)
ON CONFLICT (user_id, batch_id) DO UPDATE
SET address = excluded.address, complete = excluded.complete, asked_at = now(),
    failure_told = m.failure_told AND m.address IS NOT NULL;

-- name: batches_to_tell
-- Requests for mail whose batch seems to have ended, or seems to have its first failure. It reads the counts without
-- recent changes, which can be wrong for a moment: the caller reads them again. Each row is locked, and passed over
-- while another dispatcher writes the mail. A submission that was interrupted is taken for complete after a while.
SELECT m.user_id, m.batch_id, m.address, m.failure_told, m.told_jobs, m.told_failed,
       m.complete OR greatest(m.asked_at, b.last_submitted_at) < now() - make_interval(secs => :quiet_s)
           AS is_complete,
       b.number, u.name AS user_name, g.name AS group_name
FROM batch_mails m
JOIN batches b ON b.user_id = m.user_id AND b.id = m.batch_id
JOIN users u ON u.id = m.user_id AND u.revoked_at IS NULL
JOIN groups g ON g.id = u.group_id AND g.disabled_at IS NULL
WHERE m.address IS NOT NULL
  AND (NOT m.failure_told AND b.failed > m.told_failed
       OR b.received + b.submitted + b.running = 0 AND b.completed + b.failed + b.cancelled > 0
          AND (m.complete
               OR greatest(m.asked_at, b.last_submitted_at) < now() - make_interval(secs => :quiet_s)))
LIMIT :limit
FOR UPDATE OF m SKIP LOCKED;

-- name: write_mail!
INSERT INTO mails (id, user_id, batch_id, address, subject, body)
VALUES (:id, :user_id, :batch_id, :address, :subject, :body);

-- name: note_failure_told!
UPDATE batch_mails SET failure_told = true WHERE user_id = :user_id AND batch_id = :batch_id;

-- name: close_mail_request!
UPDATE batch_mails SET address = NULL, told_jobs = :jobs, told_failed = :failed
WHERE user_id = :user_id AND batch_id = :batch_id;

-- name: claim_mail^
-- Takes the mail that has been due for longest, for one try. Until the lease is over nobody else takes it.
UPDATE mails SET tries = tries + 1, due_at = now() + make_interval(secs => :lease_s)
WHERE id = (
    SELECT id FROM mails WHERE due_at <= now()
    ORDER BY due_at
    LIMIT 1
    FOR UPDATE SKIP LOCKED
)
RETURNING id, address, subject, body, written_at, tries;

-- name: note_mail_sent!
-- A server accepted the mail, at whichever dispatcher's try.
UPDATE mails SET sent_at = now(), due_at = NULL, error = NULL WHERE id = :id AND sent_at IS NULL;

-- name: note_mail_failed$
-- Notes why a try failed, and when to try again. Returns whether the mail is given up. Without a pause, and when it
-- has been tried for long enough, it is given up. A try that took longer than its lease changes nothing.
UPDATE mails
SET error = :error,
    due_at = CASE WHEN written_at > now() - make_interval(secs => :try_for_s)
                  THEN now() + make_interval(secs => :pause_s) END
WHERE id = :id AND tries = :tries AND due_at IS NOT NULL
RETURNING due_at IS NULL;

-- name: delete_old_mails!
DELETE FROM mails WHERE due_at IS NULL AND written_at < now() - make_interval(secs => :keep_s);

-- name: delete_unused_mail_requests!
-- Requests for mail about batches that never got a job.
DELETE FROM batch_mails m
WHERE m.address IS NOT NULL AND m.asked_at < now() - make_interval(secs => :keep_s)
  AND NOT EXISTS (SELECT FROM batches b WHERE b.user_id = m.user_id AND b.id = m.batch_id);
