-- name: make_migrations_table!
CREATE TABLE IF NOT EXISTS schema_migrations (
    number     integer PRIMARY KEY,
    name       text NOT NULL,
    digest     text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- name: applied_migrations
SELECT number, digest FROM schema_migrations;

-- name: newest_migration$
SELECT max(number) FROM schema_migrations;

-- name: note_migration!
INSERT INTO schema_migrations (number, name, digest) VALUES (:number, :name, :digest);

-- name: bound_waits^
-- Until the end of the transaction: no limit for a statement, because the server's settings may have one, but
-- a limit for the wait for a lock.
SELECT set_config('statement_timeout', '0', true), set_config('lock_timeout', :lock_timeout, true);

-- name: lock_holders
-- The sessions that have held locks on tables of this database for longer than a moment, oldest first. Their
-- statements are left out: these may contain anything. PostgreSQL may not show the times of other users.
SELECT a.pid, a.usename AS "user", a.application_name AS application, a.state,
       round(extract(epoch FROM now() - a.xact_start))::int AS for_s
FROM pg_stat_activity a
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
  AND coalesce(now() - a.xact_start > make_interval(secs => :least_s), true)
  AND EXISTS (SELECT FROM pg_locks l
              JOIN pg_class c ON c.oid = l.relation AND c.relkind IN ('r', 'v')
              WHERE l.pid = a.pid AND l.granted AND l.locktype = 'relation'
                AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                AND c.relnamespace <> 'pg_catalog'::regnamespace)
ORDER BY a.xact_start, a.pid
LIMIT 10;
