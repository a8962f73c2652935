-- What `gateway tail` reads beside the internal topic.

-- name: tail_keys
-- Which streams there are, and with what their rows are signed: nothing of a key of another epoch, which is of another history;
-- and how long ago who writes each gave a sign of life.
SELECT l.stream, k.key, coalesce(l.owner_name, '') AS owner_name,
    coalesce(extract(epoch FROM now() - l.seen_at), 0)::float8 AS silent_s
FROM stream_leases AS l LEFT JOIN stream_keys AS k USING (stream, epoch);

-- name: newest_dead_letter
-- Where a tail begins.
SELECT coalesce(max(id), 0) FROM dead_letters;

-- name: tail_dead_letters
-- Those behind $1 but for $2, at most $3, without their bytes.
SELECT id, received_at, device_id, reason, topic, octet_length(payload) AS size, error
FROM dead_letters
WHERE id > $1 AND id <> ALL ($2::bigint[])
ORDER BY id
LIMIT $3;
