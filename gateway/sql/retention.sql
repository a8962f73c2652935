-- Day partitions of `measurements`: made ahead of time, dropped behind it. The functions are in gateway/migrations/0002_bounds.sql.

-- name: missing_days
-- The days of [$1, $2] without a partition, the latest first: what is yet to come matters most.
SELECT d::date AS day
FROM generate_series($1::date, $2::date, interval '1 day') AS d
WHERE to_regclass('measurements_p' || to_char(d, 'YYYYMMDD')) IS NULL
ORDER BY d DESC;

-- name: make_partition
-- One day in a transaction of its own, so that no lock outlives it.
SELECT create_measurement_partitions($1, $1);

-- name: expired_partitions
-- The day partitions that lie wholly before $1, the oldest first. The server's clock has a say too: a gateway whose clock is
-- wrong drops nothing that is young by the server's.
SELECT c.relname AS name
FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
WHERE i.inhparent = 'measurements'::regclass AND c.relname ~ '^measurements_p[0-9]{8}$'
    AND (to_date(right(c.relname, 8), 'YYYYMMDD') + 1)::timestamp AT TIME ZONE 'UTC' <= least($1, now() - $2::interval)
ORDER BY c.relname;

-- name: lock_retention
-- One gateway at a time retires measurements, until the end of its transaction.
SELECT pg_try_advisory_xact_lock(hashtextextended('mqtt-edge-gateway/retention', 0));

-- name: retire_partition
-- Adds what a partition holds to `retired_statistics`; null when another gateway has dropped it meanwhile.
SELECT retire_measurements(format('SELECT * FROM %I', c.relname)) FROM pg_class AS c WHERE c.oid = to_regclass($1);

-- name: drop_partition
-- Drops a partition that has just been retired, unless a row came late.
SELECT drop_measurement_partition($1, $2);

-- name: retire_strays
-- Retires up to $3 rows older than $1 of the default partition, which is never dropped; says how many it was.
SELECT retire_measurements(format(
    'DELETE FROM measurements_default WHERE ctid = ANY (ARRAY('
    'SELECT ctid FROM measurements_default WHERE ts < %L ORDER BY ts LIMIT %s FOR UPDATE SKIP LOCKED)) RETURNING *',
    least($1::timestamptz, now() - $2::interval), $3::integer));
