-- How far history has come (bench/history.py).

-- name: history_lacks
-- Rows of the outbox that are not in history.
SELECT s.head - coalesce(p.n, 0)
FROM streams AS s LEFT JOIN LATERAL projection_at('history', s.stream) AS p ON true
WHERE s.stream = 0;

-- name: make_stream
-- A stream whose rows up to $1 are committed, wherever they are; its epoch.
INSERT INTO stream_leases (stream, head) VALUES (0, $1) RETURNING epoch::text;

-- name: begin_history_at_once
-- Puts history to the beginning of every stream, rows or not.
SELECT move_projection('history', stream, 0, epoch) FROM streams;

-- name: log_position
-- Where the write-ahead log ends.
SELECT pg_current_wal_insert_lsn()::text;

-- name: logged_since
-- Bytes of it since then.
SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), $1::text::pg_lsn)::bigint;

-- name: size_of
-- Of a table with its partitions, indexes and all.
SELECT sum(pg_total_relation_size(relid))::bigint FROM pg_partition_tree($1::text::regclass);

-- name: count_minutes
-- How many there are of devices.
SELECT count(*) FROM measurements_1m;

-- name: open_hours_at
-- Lets those hours be open that would be at $1, after they were made for the server's own time.
UPDATE rollups SET open_since = date_trunc('hour', $1::timestamptz - interval '2 minutes', 'UTC') WHERE rollup = '1h';

-- name: compress_log
-- Whole pages in the log take less.
ALTER SYSTEM SET wal_compression = on;

-- name: reload
-- Lets that be so for everybody.
SELECT pg_reload_conf();
