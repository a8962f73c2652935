-- What messages say of their devices being online (gateway/presence.py).

-- name: note_presence
-- Within a batch's transaction, when it is its turn to append: places (1-based) of the messages that changed something.
SELECT note_presence($1::text[], $2::text[]::timestamptz[], $3::text[]::timestamptz[], $4::text[], $5::boolean[], $6::boolean[]);

-- name: offline_devices
-- Up to $1 devices that are offline, those that said so last.
SELECT device_id, to_char(said_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS said_at
FROM device_presence WHERE NOT online ORDER BY said_at DESC LIMIT $1;

-- name: mirror_presence
-- Brings rows of `devices` up to date that were held when a message changed something, or were not there yet. Returns the devices that
-- are offline, and `behind` those whose rows somebody holds again. What a newer message changed meanwhile is never undone.
WITH said AS MATERIALIZED (
    SELECT p.device_id, p.online, least(p.ts, p.received_at) AS since, p.said_at
    FROM device_presence AS p WHERE p.device_id = ANY ($1::text[])
),
old AS MATERIALIZED (
    SELECT s.* FROM said AS s JOIN devices AS d ON d.device_id = s.device_id
    WHERE d.online_since IS NULL OR d.online_since < s.since OR (d.online_since = s.since AND d.online <> s.online)
),
free AS MATERIALIZED (
    SELECT o.* FROM old AS o JOIN devices AS d ON d.device_id = o.device_id
    ORDER BY o.device_id COLLATE "C"
    FOR NO KEY UPDATE OF d SKIP LOCKED
),
mirrored AS (
    UPDATE devices AS d SET online = f.online, online_since = f.since
    FROM free AS f WHERE d.device_id = f.device_id AND (d.online_since IS NULL OR d.online_since <= f.since)
)
SELECT
    s.device_id,
    CASE WHEN NOT s.online THEN to_char(s.said_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') END AS said_at,
    o.device_id IS NOT NULL AND f.device_id IS NULL AS behind
FROM said AS s LEFT JOIN old AS o ON o.device_id = s.device_id LEFT JOIN free AS f ON f.device_id = s.device_id
WHERE NOT s.online OR (o.device_id IS NOT NULL AND f.device_id IS NULL);
