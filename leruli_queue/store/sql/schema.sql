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

-- name: no_statement_timeout$
-- Until the end of the transaction: whoever runs the server may have set a limit.
SELECT set_config('statement_timeout', '0', true);
