-- How the schema moves forward.

-- name: lock_migrations
-- One migrator at a time, whoever starts them. Not waited for in the server: CREATE INDEX CONCURRENTLY waits for every statement
-- under way, and would wait for the one that waits for it.
SELECT pg_try_advisory_lock(hashtextextended('mqtt-edge-gateway/migrate', 0));

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
-- In the transaction of the migration itself, or after the last statement of one that has none.
INSERT INTO schema_migrations (version, name) VALUES ($1, $2);

-- name: drop_unfinished_indexes
-- Statements that drop those of the indexes $1 that a migrator left unfinished when it was killed: they are never used, and in the
-- way of being made.
SELECT format('DROP INDEX CONCURRENTLY %I', c.relname)
FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
WHERE NOT i.indisvalid AND c.relname = ANY ($1::text[]) AND c.relnamespace = current_schema()::regnamespace;

-- name: migration_progress
-- What the session $1 is at: what it waits for, who holds that, and how far it is with an index.
SELECT
    a.wait_event_type || ' ' || a.wait_event AS waits_for,
    (
        SELECT string_agg(format('%s (pid %s, %s)', b.application_name, b.pid, left(b.query, 60)), ', ')
        FROM pg_stat_activity AS b WHERE b.pid = ANY (pg_blocking_pids(a.pid))
    ) AS blocked_by,
    p.phase, p.blocks_done, p.blocks_total
FROM pg_stat_activity AS a LEFT JOIN pg_stat_progress_create_index AS p USING (pid)
WHERE a.pid = $1;
