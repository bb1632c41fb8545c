-- name: try_lock$
-- For as long as this session lives; see store/locks.py for the numbers.
SELECT pg_try_advisory_lock(:lock);

-- name: wait_for_lock$
SELECT pg_advisory_lock(:lock);

-- name: unlock$
SELECT pg_advisory_unlock(:lock);

-- name: is_reachable$
SELECT true;
