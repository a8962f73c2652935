-- Measurements to rebuild the views from (bench/rebuild.py).

-- name: make_partitions
-- The days that are filled: $1 of them, and today, of which yesterday may be part.
SELECT create_measurement_partitions((now() AT TIME ZONE 'UTC')::date - $1::integer, (now() AT TIME ZONE 'UTC')::date);

-- name: fill_past_days
-- So many ($1) of so many devices ($2), in turn, as the gateway would have stored them: in the order of time, from $3 on, in all of
-- so many days ($4).
INSERT INTO measurements (ts, device_id, message_key, region, metrics, received_at)
SELECT
    r.ts, 'd' || lpad((r.i % $2)::text, 6, '0'), 'old-' || lpad(r.i::text, 10, '0'), 'r' || r.i % 4,
    jsonb_build_object('temperature', r.i % 400 / 10.0, 'humidity', 40.5), r.ts
FROM (
    SELECT i, $3::timestamptz + $4::interval * (i::double precision / $1::bigint) AS ts
    FROM generate_series(0::bigint, $1::bigint - 1) AS i
) AS r;

-- name: fill_today
-- The rest, from $1 to $2, in the last hour.
INSERT INTO measurements (ts, device_id, message_key, region, metrics, received_at)
SELECT
    r.ts, 'd' || lpad((r.i % $3)::text, 6, '0'), 'old-' || lpad(r.i::text, 10, '0'), 'r' || r.i % 4,
    jsonb_build_object('temperature', r.i % 400 / 10.0, 'humidity', 40.5), r.ts
FROM (
    SELECT i, now() - interval '1 hour' * (($2::bigint - i)::double precision / ($2::bigint - $1::bigint)) AS ts
    FROM generate_series($1::bigint, $2::bigint - 1) AS i
) AS r;

-- name: count_settled
-- How many rows a rebuild reads of days that are settled.
SELECT count(*) FROM settled_statistics;
