-- What the watch for silence asks PostgreSQL.

-- name: watched_devices
-- The $2 devices after $1, of those whose newest message is not older than $3, by their own clocks.
SELECT device_id, region FROM devices WHERE device_id > $1 AND last_seen >= $3 ORDER BY device_id LIMIT $2;

-- name: regions_of_devices
-- Those of these devices that there are.
SELECT device_id, region FROM devices WHERE device_id = ANY($1::text[]);

-- name: offline_devices
-- Of the $2 devices after $1 that are offline, since when, and when the message came that says so, in microseconds.
SELECT
    device_id, online, (extract(epoch FROM least(ts, received_at)) * 1000000)::bigint AS since,
    (extract(epoch FROM received_at) * 1000000)::bigint AS came
FROM device_presence
WHERE device_id > $1 AND NOT online
ORDER BY device_id LIMIT $2;

-- name: presence_of_devices
-- The same of these devices, whatever they are.
SELECT
    device_id, online, (extract(epoch FROM least(ts, received_at)) * 1000000)::bigint AS since,
    (extract(epoch FROM received_at) * 1000000)::bigint AS came
FROM device_presence
WHERE device_id = ANY($1::text[]);

-- name: walk_backwards
-- For this transaction: from the newest row on along the index, however few rows the planner expects.
SELECT set_config(name, 'off', true) FROM unnest(ARRAY['enable_sort', 'enable_bitmapscan', 'enable_seqscan']) AS name;

-- name: newest_arrivals
-- When the $2 newest messages of each of these devices came, within thirty days of its newest: of each minute in which it measured
-- the last, epoch seconds ascending; and how many messages these are.
SELECT w.device_id, a.arrivals, a.messages
FROM unnest($1::text[]) AS w (device_id) JOIN devices AS d ON d.device_id = w.device_id CROSS JOIN LATERAL (
    SELECT
        array_agg(extract(epoch FROM each.received_at)::bigint ORDER BY each.received_at) AS arrivals,
        sum(each.messages)::bigint AS messages
    FROM (
        SELECT max(n.received_at) AS received_at, count(*) AS messages
        FROM (
            SELECT m.ts, m.received_at FROM measurements AS m
            WHERE m.device_id = d.device_id AND m.ts >= d.last_seen - interval '30 days'
            ORDER BY m.ts DESC
            LIMIT $2
        ) AS n
        GROUP BY date_trunc('minute', n.ts)
    ) AS each
) AS a;

-- name: newest_minutes
-- The same of devices that send so often that these show little, for the $2 newest minutes in which each measured. Each is one step
-- into the index, into few partitions where the next is no more than a day away.
SELECT w.device_id, a.arrivals
FROM unnest($1::text[]) AS w (device_id) JOIN devices AS d ON d.device_id = w.device_id CROSS JOIN LATERAL (
    WITH RECURSIVE newest (nth, ts, received_at) AS (
        SELECT 0, d.last_seen + interval '1 minute', NULL::timestamptz
        UNION ALL
        SELECT n.nth + 1, o.ts, o.received_at
        FROM newest AS n CROSS JOIN LATERAL (
            (
                SELECT m.ts, m.received_at FROM measurements AS m
                WHERE m.device_id = d.device_id AND m.ts < date_trunc('minute', n.ts) AND m.ts >= n.ts - interval '1 day'
                ORDER BY m.ts DESC
                LIMIT 1
            )
            UNION ALL
            (
                SELECT m.ts, m.received_at FROM measurements AS m
                WHERE m.device_id = d.device_id AND m.ts < n.ts - interval '1 day' AND m.ts >= d.last_seen - interval '30 days'
                ORDER BY m.ts DESC
                LIMIT 1
            )
            LIMIT 1
        ) AS o
        WHERE n.nth < $2
    )
    SELECT array_agg(extract(epoch FROM received_at)::bigint ORDER BY received_at) AS arrivals FROM newest WHERE nth > 0
) AS a;
