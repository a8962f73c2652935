-- A month of a fleet up to a moment, made inside PostgreSQL: what the dashboards' plans are checked on.

-- name: partitions
-- As upkeep makes them: a day each, the last day that of the moment ($1).
SELECT count(*) FROM (
    SELECT create_measurement_partitions($1::timestamptz::date - 31, $1::timestamptz::date)
    UNION ALL
    SELECT attach_partition('packed_minutes', 'hour', day, day + interval '1 day')::integer
    FROM generate_series(date_trunc('day', $1::timestamptz, 'UTC') - interval '31 days', $1, '1 day') AS day
    UNION ALL
    SELECT create_history_partition(parent, day, day + interval '1 day')::integer
    FROM unnest(ARRAY['open_minutes', 'regions_1m', 'measurements_1h', 'regions_1h']) AS parent,
        generate_series(date_trunc('day', $1::timestamptz, 'UTC') - interval '31 days', $1, '1 day') AS day
) AS made;

-- name: devices
-- A fleet of 100,000, of which a thousand send.
INSERT INTO devices
SELECT
    'device-' || d, 'region-' || d % 4, $1::timestamptz - interval '31 days',
    $1::timestamptz - CASE WHEN d > 1000 THEN interval '31 days' ELSE interval '0' END
FROM generate_series(1, 100000) AS d;

-- name: dead_letters
-- As many as are kept by default.
INSERT INTO dead_letters (received_at, topic, device_id, reason, error, payload)
SELECT
    $1::timestamptz - (100000 - n) * interval '10 seconds', 'devices/device-1/telemetry', 'device-' || n % 1000 + 1,
    'malformed_json', 'at byte 1', decode(repeat('00', 200), 'hex')
FROM generate_series(1, 100000) AS n;

-- name: measurements
-- So many messages ($2) of a thousand devices, evenly over the thirty days before the moment, on fifty lines. The clock of a
-- hundredth of them is ahead.
INSERT INTO measurements
SELECT
    'device-' || d, at, at + CASE WHEN d % 100 = 0 THEN interval '-10 minutes' ELSE interval '50 ms' END, t || '-' || d, 'region-' || d % 4, '{"temperature": 21.5, "humidity": 40.25}',
    jsonb_build_object('line', 'L' || d % 50)
FROM generate_series(0, $2::bigint / 1000 - 1) AS t,
    LATERAL (SELECT $1::timestamptz - t * interval '30 days' / ($2::bigint / 1000) AS at) AS a,
    generate_series(1, 1000) AS d;

-- name: measurements_1m
-- So many rows ($2): minutes of a thousand devices with two metrics, evenly over the thirty days.
INSERT INTO open_minutes (device_id, metric, bucket, region, region_at, count, sum, min, max)
SELECT 'device-' || d, metric, at, 'region-' || d % 4, at, 60, 60 * 21.5, 20, 23
FROM generate_series(0, $2::bigint / 2000 - 1) AS t,
    LATERAL (SELECT date_trunc('minute', $1::timestamptz - t * interval '30 days' / ($2::bigint / 2000)) AS at) AS a,
    generate_series(1, 1000) AS d, unnest(ARRAY['temperature', 'humidity']) AS metric;

-- name: over
-- Lets every hour that ended before the moment be packed.
UPDATE rollups SET open_since = date_trunc('hour', $1::timestamptz, 'UTC') WHERE rollup = '1h';

-- name: minutes_of_a_device
-- What somebody asks who knows nothing of packed hours.
SELECT bucket, sum / count FROM measurements_1m
WHERE device_id = 'device-17' AND metric = 'temperature'
    AND bucket >= $1::timestamptz - interval '2 days' AND bucket < $1::timestamptz;

-- name: minutes_of_all
-- The same of everybody, a day of two days ago.
SELECT count(*) FROM measurements_1m
WHERE metric = 'temperature'
    AND bucket >= $1::timestamptz - interval '48 hours' AND bucket < $1::timestamptz - interval '24 hours';

-- name: minutes_of_all_by_hour
-- Of somebody who knows.
SELECT count(*) FROM measurements_1m
WHERE metric = 'temperature'
    AND bucket >= $1::timestamptz - interval '48 hours' AND bucket < $1::timestamptz - interval '24 hours'
    AND hour > $1::timestamptz - interval '49 hours' AND hour < $1::timestamptz - interval '24 hours';

-- name: measurements_1h
-- The hours of the same.
INSERT INTO measurements_1h (device_id, metric, bucket, region, region_at, count, sum, min, max)
SELECT device_id, metric, date_trunc('hour', bucket), region, max(region_at), sum(count), sum(sum), min(min), max(max)
FROM measurements_1m
GROUP BY 1, 2, 3, 4;

-- name: regions_1m
-- Every minute of four regions.
INSERT INTO regions_1m (metric, bucket, region, count, sum, min, max)
SELECT metric, $1::timestamptz - t * interval '1 minute', 'region-' || r, 6000, 6000 * 21.5, 20, 23
FROM generate_series(0, 43199) AS t, unnest(ARRAY['temperature', 'humidity']) AS metric, generate_series(0, 3) AS r;

-- name: regions_1h
-- The hours of the same.
INSERT INTO regions_1h (metric, bucket, region, count, sum, min, max)
SELECT metric, date_trunc('hour', bucket), region, sum(count), sum(sum), min(min), max(max) FROM regions_1m GROUP BY 1, 2, 3;
