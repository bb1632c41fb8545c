-- name: try_lock$
-- Held for as long as this session lives. The numbers are in store/locks.py.
SELECT pg_try_advisory_lock(:lock);

-- name: unlock$
SELECT pg_advisory_unlock(:lock);

-- name: takes_changes$
-- False for a replica, and for a server that was set to read-only.
SELECT NOT current_setting('transaction_read_only')::boolean;

-- name: end_when_idle$
-- PostgreSQL ends this session, and with it its locks, after so many seconds without a statement.
SELECT set_config('idle_session_timeout', :seconds || 's', false);
