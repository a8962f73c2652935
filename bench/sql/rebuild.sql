-- Measurements to rebuild the views from (bench/rebuild.py).

-- name: make_partitions
-- The days that the measurements are of.
SELECT create_measurement_partitions((now() AT TIME ZONE 'UTC')::date - 1, (now() AT TIME ZONE 'UTC')::date);

-- name: fill_measurements
-- So many measurements ($1) of so many devices ($2), in turn, like those of the load, up to now.
INSERT INTO measurements (device_id, ts, received_at, message_key, region, metrics)
SELECT
    'd' || lpad((i % $2)::text, 6, '0'), moment, moment, 'r0-00-' || lpad(i::text, 12, '0'), 'r' || i % $2 % 4,
    jsonb_build_object('temperature', i % 400 / 10.0, 'humidity', 40.5)
FROM (
    SELECT i, now() - ($1::bigint - i) * interval '10 microseconds' AS moment
    FROM generate_series(1, $1::bigint) AS i
) AS made;

-- name: settle_measurements
-- What autovacuum will have done on a live system: otherwise the first reader pays for it.
VACUUM (ANALYZE) measurements;
