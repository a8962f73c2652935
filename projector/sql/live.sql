-- What the live page reads of PostgreSQL, about once a second for as long as somebody looks at it.

-- name: newest_dead_letters
-- The last $1 rejections by their primary key, without their bytes.
SELECT
    id, (extract(epoch FROM received_at) * 1000)::bigint AS at_ms, reason, device_id, left(topic, 200) AS topic,
    left(error, 200) AS error, replayed_at IS NOT NULL AS replayed
FROM dead_letters
ORDER BY id DESC
LIMIT $1;

-- name: newest_message
-- A device's newest message, when it was measured within about a month: as many days are looked at, one by one in its index.
SELECT
    (extract(epoch FROM ts) * 1000)::bigint AS ts_ms, (extract(epoch FROM received_at) * 1000)::bigint AS received_ms,
    message_key, region, left(jsonb_pretty(metrics), 16000) AS metrics, left(jsonb_pretty(tags), 4000) AS tags
FROM measurements
WHERE device_id = $1 AND ts BETWEEN now() - interval '35 days' AND now() + interval '31 days'
ORDER BY ts DESC
LIMIT 1;

-- name: dead_letter_payload
-- The beginning of what could not be stored.
SELECT left(topic, 1000) AS topic, octet_length(payload) AS size, substring(payload FOR 4000) AS payload
FROM dead_letters
WHERE id = $1;

-- name: spools_left
-- What each stream's gateway said last of what is in its spool, if that was anything.
SELECT stream, messages, oldest_ms, drains_in_s, noted_ms
FROM (
    SELECT DISTINCT ON (stream)
        stream, messages_left AS messages, (extract(epoch FROM oldest_at) * 1000)::bigint AS oldest_ms, drains_in_s,
        (extract(epoch FROM noted_at) * 1000)::bigint AS noted_ms
    FROM spools
    ORDER BY stream, noted_at DESC
) AS newest
WHERE messages > 0;
