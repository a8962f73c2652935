-- What the live page reads of PostgreSQL, about once a second for as long as somebody looks at it.

-- name: newest_dead_letters
-- The last $1 rejections by their primary key, without their bytes.
SELECT
    id, (extract(epoch FROM received_at) * 1000)::bigint AS at_ms, reason, device_id, left(topic, 200) AS topic,
    left(error, 200) AS error, replayed_at IS NOT NULL AS replayed
FROM dead_letters
ORDER BY id DESC
LIMIT $1;

-- name: first_seen
-- When these devices were first heard of.
SELECT device_id, (extract(epoch FROM first_seen) * 1000)::bigint AS first_seen_ms FROM devices WHERE device_id = ANY($1::text[]);
