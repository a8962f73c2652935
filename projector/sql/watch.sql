-- What the watch for silence asks PostgreSQL.

-- name: watched_devices
-- The $2 devices after $1, of those that were heard of since $3.
SELECT device_id, region FROM devices WHERE device_id > $1 AND last_seen >= $3 ORDER BY device_id LIMIT $2;

-- name: walk_backwards
-- For this transaction: from the newest row on along the index, however few rows the planner expects.
SELECT set_config(name, 'off', true) FROM unnest(ARRAY['enable_sort', 'enable_bitmapscan', 'enable_seqscan']) AS name;

-- name: newest_arrivals
-- When the newest five hundred messages of each of these devices came, within thirty days of its newest, epoch seconds ascending.
SELECT w.device_id, a.arrivals
FROM unnest($1::text[]) AS w (device_id) JOIN devices AS d ON d.device_id = w.device_id CROSS JOIN LATERAL (
    SELECT array_agg(extract(epoch FROM n.received_at)::bigint ORDER BY n.received_at) AS arrivals
    FROM (
        SELECT m.received_at FROM measurements AS m
        WHERE m.device_id = d.device_id AND m.ts >= d.last_seen - interval '30 days'
        ORDER BY m.ts DESC
        LIMIT 500
    ) AS n
) AS a;
