-- Partitions over time, made ahead of it. The functions are in gateway/migrations/0006_chores.sql.

-- name: missing_partitions
-- Of the ranges from $3 to $4, those that no partition of $1 covers and of which its default partition holds nothing, the latest
-- first: what is yet to come matters most.
SELECT w.since, w.until
FROM unnest($3::timestamptz[], $4::timestamptz[]) AS w (since, until)
WHERE NOT EXISTS (SELECT FROM partitions_of($1) AS p WHERE p.since <= w.since AND p.until >= w.until)
    AND NOT default_partition_holds($1, $2, w.since, w.until)
ORDER BY w.since DESC;

-- name: default_bytes
-- How much there is to read in the default partition of $1.
SELECT pg_relation_size(to_regclass($1 || '_default'));

-- name: attach_partition
-- One in a transaction of its own, so that no lock outlives it.
SELECT attach_partition($1, $2, $3, $4);

-- name: shut_default_partition
-- Before partitions for $3 to $4 are attached to a table whose default partition takes long to read.
SELECT shut_default_partition($1, $2, $3, $4);

-- name: validate_default_partition
-- Reads it all and stops nobody.
SELECT validate_default_partition($1);

-- name: open_default_partition
-- When that is done, or was left undone.
SELECT open_default_partition($1);

-- name: history_kept_since
-- Since when each resolution of history is kept, and minutes as rows; partitions before that are not made.
SELECT rollup AS kept, nullif(kept_since, '-infinity') AS since FROM rollups
UNION ALL
SELECT 'open', nullif(greatest(kept_since, packed_until), '-infinity') FROM rollups WHERE rollup = '1m';
