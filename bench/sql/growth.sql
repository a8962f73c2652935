-- What fills a database as if it had been in use, for bench/growth.py.

-- name: grow_measurements
-- Rows $1 to $2 - 1 of $3, of $4 devices, as the gateway would have stored them: in the order of time, which runs through the 40
-- hours until $5, devices in turn.
INSERT INTO measurements (ts, device_id, message_key, region, metrics, received_at)
SELECT
    r.ts, 'd' || lpad((r.i % $4)::text, 6, '0'), 'old-' || lpad(r.i::text, 10, '0'), 'r' || r.i % 4,
    jsonb_build_object('temperature', r.i % 400 / 10.0, 'humidity', 40.5), r.ts
FROM (
    SELECT i, $5::timestamptz - interval '40 hours' * (1 - i::double precision / $3::bigint) AS ts
    FROM generate_series($1::bigint, $2::bigint - 1) AS i
) AS r;

-- name: grow_keys_0
-- The keys of as many messages in generation 0, in the random order of hashes in which they would have come.
INSERT INTO message_keys_0 (h1, h2, digest)
SELECT hashtextextended(i::text, 0), hashtextextended(i::text, 1), hashtextextended(i::text, 2)
FROM generate_series($1::bigint, $2::bigint - 1) AS i;

-- name: grow_keys_1
-- The same in generation 1.
INSERT INTO message_keys_1 (h1, h2, digest)
SELECT hashtextextended(i::text, 0), hashtextextended(i::text, 1), hashtextextended(i::text, 2)
FROM generate_series($1::bigint, $2::bigint - 1) AS i;
