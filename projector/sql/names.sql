-- What people say devices are.

-- name: names_snapshot
-- What is committed now, so that the next look takes what is not among it; and what is another one where the table may be another: after
-- a restart or a failover of the server, and once the table was emptied or made anew.
SELECT
    pg_current_snapshot()::text AS snapshot,
    pg_postmaster_start_time()::text || ' ' || pg_relation_filenode('devices') AS history;

-- name: names_all
-- The $2 devices after $1 of which something is said, or that were never heard.
SELECT device_id, name, nullif(labels::text, '{}') AS labels, extract(epoch FROM expected_every)::bigint AS expected_s,
    state = 'blocked' AS blocked, state = 'active' AND last_seen IS NULL AS never_heard
FROM devices
WHERE device_id > $1
    AND (name IS NOT NULL OR labels <> '{}' OR expected_every IS NOT NULL OR state = 'blocked' OR last_seen IS NULL)
ORDER BY device_id LIMIT $2;

-- name: names_changed
-- The $4 devices after ($2, $3) that were changed by transactions that a snapshot did not see the end of, in their order. However long
-- one of them takes, of the others each is seen once. Numbers from another cluster, as a dump brings them, may be ahead of all that have
-- been given here: these say nothing of when.
SELECT device_id, name, nullif(labels::text, '{}') AS labels, extract(epoch FROM expected_every)::bigint AS expected_s,
    state = 'blocked' AS blocked, state = 'active' AND last_seen IS NULL AS never_heard, changed::text AS changed
FROM devices
WHERE (changed, device_id) > ($2::text::xid8, $3) AND changed >= pg_snapshot_xmin($1::text::pg_snapshot)
    AND NOT pg_visible_in_snapshot(changed, $1::text::pg_snapshot) AND changed < pg_snapshot_xmax(pg_current_snapshot())
ORDER BY changed, device_id
LIMIT $4;
