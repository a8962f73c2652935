-- Minutes of a fleet, made inside PostgreSQL (bench/packing.py).

-- name: make_minutes
-- Those of the hour $1 of $2 devices with two metrics, as rows, oldest first as they come.
INSERT INTO open_minutes (device_id, metric, bucket, region, region_at, count, sum, min, max)
SELECT
    'device-' || lpad(d::text, 6, '0'), metric, at, 'region-' || d % 4,
    at + (d * 7919 + n * 104729) % 60000 * interval '1 millisecond', 1, value, value, value
FROM generate_series(0, 59) AS n, LATERAL (SELECT $1::timestamptz + n * interval '1 minute' AS at) AS t,
    generate_series(1, $2::integer) AS d, unnest(ARRAY['temperature', 'humidity']) AS metric,
    LATERAL (SELECT 20 + (n * d) % 97 / 10.0 AS value) AS v;

-- name: count_packed
-- How many minutes are packed.
SELECT count(*) FROM unpacked_minutes;

-- name: late_minutes
-- The first $3 minutes of the hour $1 once more, of the first $2 devices.
INSERT INTO late_minutes (device_id, metric, bucket, region, region_at, count, sum, min, max)
SELECT device_id, metric, bucket, region, region_at, count, sum, min, max
FROM open_minutes
WHERE bucket >= $1::timestamptz AND bucket < $1 + $3::integer * interval '1 minute'
    AND device_id <= 'device-' || lpad($2::integer::text, 6, '0');

-- name: hours_are_over
-- As if hours by device had been made.
UPDATE rollups SET open_since = 'infinity' WHERE rollup = '1h';

-- name: analyze
-- What autovacuum does.
ANALYZE open_minutes;
