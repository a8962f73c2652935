-- Devices known by name: what the door follows, and what `gateway devices` reads and writes.

-- name: registry_snapshot
-- What is committed now, so that the next look takes what is not among it; and what is another one where the registry may be another: after
-- a restart or a failover of the server, and once the table was emptied or made anew.
SELECT
    pg_current_snapshot()::text AS snapshot,
    pg_postmaster_start_time()::text || ' ' || pg_relation_filenode('devices') AS history;

-- name: registry_states
-- The $3 devices after $1 that are in one of these states, by id.
SELECT device_id, state FROM devices WHERE device_id > $1 AND state = ANY ($2::text[]) ORDER BY device_id LIMIT $3;

-- name: registry_changes
-- The $4 devices after ($2, $3) that were changed by transactions that a snapshot did not see the end of, in their order. However long
-- one of them takes, of the others each is seen once. Numbers from another cluster, as a dump brings them, may be ahead of all that have
-- been given here: these say nothing of when.
SELECT device_id, state, changed::text AS changed FROM devices
WHERE (changed, device_id) > ($2::text::xid8, $3) AND changed >= pg_snapshot_xmin($1::text::pg_snapshot)
    AND NOT pg_visible_in_snapshot(changed, $1::text::pg_snapshot) AND changed < pg_snapshot_xmax(pg_current_snapshot())
ORDER BY changed, device_id
LIMIT $4;

-- name: states_of
-- What is known of these devices; nothing of one that is not in the registry.
SELECT device_id, state FROM devices WHERE device_id = ANY ($1::text[]);

-- name: is_any_let_in
-- Whether letters that these gateways hold are of anybody who is active now.
SELECT EXISTS (SELECT FROM select_dead_letters(ARRAY['unknown_device'], NULL, NULL, NULL, NULL, false, $1));

-- name: held_by_device
-- How many letters are held for each device that is not active, and since when, by id.
SELECT h.device_id, count(*) AS held, min(h.received_at) AS since
FROM (
    SELECT l.received_at, unnest(coalesce(l.stands_for, ARRAY[l.device_id])) COLLATE "C" AS device_id FROM dead_letters AS l
    WHERE l.reason = 'unknown_device' AND l.replayed_at IS NULL
) AS h
WHERE h.device_id IS NOT NULL AND starts_with(h.device_id, $1)
    AND NOT EXISTS (SELECT FROM devices AS d WHERE d.device_id = h.device_id AND d.state = 'active')
GROUP BY h.device_id
ORDER BY h.device_id;

-- name: registry_page
-- The $2 devices after $1 whose ids begin with $3, in one of these states or any, with all of these labels; of $6 only those that were
-- never heard.
SELECT device_id, name, state, labels::text AS labels, expected_every, region, first_seen, last_seen FROM devices
WHERE device_id > $1 AND device_id >= $3 AND starts_with(device_id, $3) AND (state = ANY ($4::text[]) OR $4 IS NULL)
    AND labels @> $5::text::jsonb AND (last_seen IS NULL OR NOT $6::boolean)
ORDER BY device_id LIMIT $2;

-- name: registry_of
-- What the registry says of these devices, which stay as they are until the end of the transaction.
SELECT device_id, name, state, labels::text AS labels, expected_every FROM devices WHERE device_id = ANY ($1::text[])
ORDER BY device_id COLLATE "C"
FOR NO KEY UPDATE;

-- name: lock_registry
-- One after the other changes the registry; messages and their sightings wait for nobody.
SELECT pg_advisory_xact_lock(hashtext('mqtt-edge-gateway/registry'), 0);

-- name: write_registry
-- Puts devices into the registry as they are to be. What somebody else adds meanwhile is changed too.
INSERT INTO devices (device_id, name, state, labels, expected_every)
SELECT w.device_id, w.name, w.state, w.labels::jsonb, w.expected_every
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::interval[]) AS w (device_id, name, state, labels, expected_every)
ORDER BY w.device_id COLLATE "C"
ON CONFLICT (device_id) DO UPDATE SET
    name = excluded.name, state = excluded.state, labels = excluded.labels, expected_every = excluded.expected_every;
