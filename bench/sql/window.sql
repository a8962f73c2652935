-- The dedup window, filled and looked at (bench/window.py).

-- name: fill_keys_0
-- Numbers from $1 to $2 - 1 as keys of the first generation, hashed, sorted and inserted as a claim does it.
INSERT INTO message_keys_0 (h1, h2, digest)
SELECT hashtextextended(k.identity, 0) AS h1, hashtextextended(k.identity, 1) AS h2, hashtextextended(k.identity, 2)
FROM (SELECT 'filled ' || i AS identity FROM generate_series($1::bigint, $2::bigint - 1) AS i) AS k
ORDER BY 1, 2
ON CONFLICT DO NOTHING;

-- name: fill_keys_1
-- The same in the second.
INSERT INTO message_keys_1 (h1, h2, digest)
SELECT hashtextextended(k.identity, 0) AS h1, hashtextextended(k.identity, 1) AS h2, hashtextextended(k.identity, 2)
FROM (SELECT 'filled ' || i AS identity FROM generate_series($1::bigint, $2::bigint - 1) AS i) AS k
ORDER BY 1, 2
ON CONFLICT DO NOTHING;

-- name: window_bytes
-- What both generations take on disk, the rows and their index.
SELECT
    pg_table_size('message_keys_0') + pg_table_size('message_keys_1') AS rows,
    pg_indexes_size('message_keys_0') + pg_indexes_size('message_keys_1') AS index;

-- name: wal_written
-- Bytes of write-ahead log so far.
SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint;

-- name: log_full_pages
-- As a server should have it, and has it by default.
ALTER SYSTEM RESET full_page_writes;

-- name: log_no_full_pages
-- While the window is being filled: the log would be ten times the keys.
ALTER SYSTEM SET full_page_writes = off;

-- name: reload_settings
-- Makes the server read what was just set.
SELECT pg_reload_conf();
