-- What `gateway support-bundle` asks of a database: sizes, places and counts; no message and no value of one.

-- name: support_server
-- The server, and what of its settings decides about speed and safety.
SELECT name, setting, unit, source
FROM pg_settings
WHERE name = ANY ($1::text[])
ORDER BY name;

-- name: support_tables
-- Each table with its days, by room: rows as the planner guesses them, and how much of them is dead.
SELECT
    coalesce(parent.relname, c.relname) AS name,
    count(*)::integer AS parts,
    sum(pg_total_relation_size(c.oid))::bigint AS bytes,
    sum(greatest(c.reltuples, 0))::bigint AS rows_about,
    sum(coalesce(s.n_dead_tup, 0))::bigint AS dead_rows,
    max(greatest(s.last_autovacuum, s.last_vacuum)) AS vacuumed_at
FROM pg_class AS c
LEFT JOIN pg_inherits AS i ON i.inhrelid = c.oid
LEFT JOIN pg_class AS parent ON parent.oid = i.inhparent
LEFT JOIN pg_stat_all_tables AS s ON s.relid = c.oid
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r'
GROUP BY 1
ORDER BY bytes DESC;

-- name: support_streams
-- Where each stream ends, how far it is published, and how far each projection is.
SELECT s.stream, s.head, s.published, s.owner_name, s.seen_at, p.projection, p.n AS projected, p.updated_at AS projected_at
FROM streams AS s
LEFT JOIN projections AS p USING (stream)
ORDER BY s.stream, p.projection;

-- name: support_letters
-- Dead letters by reason and gateway.
SELECT reason, gateway, count(*) AS letters, count(*) FILTER (WHERE replayed_at IS NULL) AS unreplayed,
    min(received_at) AS oldest, max(received_at) AS newest
FROM dead_letters
GROUP BY reason, gateway
ORDER BY letters DESC;

-- name: support_site
-- What all gateways share.
SELECT name, value, set_by, set_at FROM site_settings ORDER BY name;

-- name: support_spools
-- What gateways have on disk.
SELECT stream, messages_left, oldest_at, drains_in_s, noted_at FROM spools ORDER BY stream;

-- name: support_sessions
-- Connections to this database: whose, and what they wait for, where that may be seen (pg_read_all_stats). Not what they run,
-- which could hold values.
SELECT application_name, usename AS username, coalesce(state, backend_type, 'hidden from this role') AS state,
    wait_event_type, wait_event, now() - xact_start AS transaction_for, count(*)
FROM pg_stat_activity
WHERE datname = current_database()
GROUP BY 1, 2, 3, 4, 5, 6
ORDER BY count(*) DESC;
