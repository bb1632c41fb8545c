-- name: try_lock$
-- For as long as this session lives; see store/locks.py for the numbers.
SELECT pg_try_advisory_lock(:lock);

-- name: unlock$
SELECT pg_advisory_unlock(:lock);

-- name: takes_changes$
-- Not so for a copy that follows another server, or one that was set to be read only.
SELECT NOT current_setting('transaction_read_only')::boolean;

-- name: end_when_idle$
-- PostgreSQL ends this session, and with it its locks, when it asks nothing for so long.
SELECT set_config('idle_session_timeout', :seconds || 's', false);
