-- How the schema moves forward.

-- name: lock_migrations
-- One migrator at a time, whoever starts them.
SELECT pg_advisory_xact_lock(hashtextextended('mqtt-edge-gateway/migrate', 0));

-- name: has_ledger
-- Whether anything was ever applied here.
SELECT to_regclass('schema_migrations') IS NOT NULL;

-- name: create_ledger
-- The record of what has been applied.
CREATE TABLE IF NOT EXISTS schema_migrations (
    version    integer     PRIMARY KEY,
    name       text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- name: applied_versions
-- What has been applied already.
SELECT version, name FROM schema_migrations ORDER BY version;

-- name: record_migration
-- Written in the same transaction as the migration itself.
INSERT INTO schema_migrations (version, name) VALUES ($1, $2);
