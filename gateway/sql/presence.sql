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
-- are offline, with when they said so, and as rows of their own, `behind`, those whose rows somebody holds again. What a newer message
-- changed meanwhile is never undone. Nothing here is joined but to a table by its index: of a whole fleet each other way is quadratic.
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
SELECT device_id, to_char(said_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS said_at, false AS behind
FROM said WHERE NOT online
UNION ALL
(SELECT device_id, NULL, true FROM old EXCEPT SELECT device_id, NULL, true FROM free);
