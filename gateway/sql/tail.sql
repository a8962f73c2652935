-- What `gateway tail` reads of the dead letters.

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
