-- The statements of one batch's transaction, in the order in which gateway/store.py runs them, and what is asked when its COMMIT
-- got no answer.

-- name: claim_keys
-- Claims the keys that nobody has in the generation $1. Null when all $4 of them were claimed, else the hashes of those that were.
SELECT claimed_1, claimed_2 FROM claim_keys($1, $2, $3, $4);

-- name: find_repeats
-- Asked only when fewer keys were claimed than came: places (1-based) of those that are not new, and which of these conflict.
SELECT place, differs FROM find_repeats($1, $2, $3, $4);

-- name: insert_dead_letters
-- Keeps rejected messages as they came; returns their ids in the order given. Devices that one stands for are one text.
INSERT INTO dead_letters (received_at, topic, device_id, reason, error, payload, stands_for)
SELECT r.received_at::timestamptz, r.topic, r.device_id, r.reason, r.error, r.payload, string_to_array(r.stands_for, E'\x1d')
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::text[])
    WITH ORDINALITY AS r (received_at, topic, device_id, reason, error, payload, stands_for, ord)
ORDER BY r.ord
RETURNING id, received_at, pg_current_xact_id()::text AS transaction_id, pg_postmaster_start_time() AS server_since;

-- name: append_outbox
-- Last statement before COMMIT. The stream's row is locked, not changed. No row comes back when the stream has another owner ($2),
-- the dedup window has turned since the keys were claimed ($5), or the row would not be the next of the stream ($6): the
-- transaction must not commit then.
WITH held AS (
    SELECT l.head FROM stream_leases AS l, dedup
    WHERE l.stream = $1 AND l.owner = $2 AND dedup.generation = $5
    FOR NO KEY UPDATE OF l
)
INSERT INTO outbox (stream, n, events, payload, created_at)
SELECT $1, $6, $3, $4, clock_timestamp() FROM held
WHERE $6 = 1 + greatest(held.head, (SELECT max(o.n) FROM outbox AS o WHERE o.stream = $1))
ON CONFLICT DO NOTHING
RETURNING created_at, pg_current_xact_id()::text AS transaction_id, pg_postmaster_start_time() AS server_since;

-- name: store_batch
-- All of it for a batch, and its COMMIT, in one way to the server and back (gateway/one_call.py). Places in a spool ($24 and on; null
-- when it has none) are noted with it, unless its letters are left to statements: these note them too.
SELECT
    s.*,
    CASE
        WHEN $24::text[] IS NOT NULL AND NOT s.refused AND (s.created_at IS NOT NULL OR $9::text[] IS NULL)
            THEN note_spool_places(s.conflicts IS NULL, $1, $24, $25, $26, $27, $28, $29)
    END AS noted
FROM store_batch(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23
) AS s;

-- name: rows_from
-- What a stream has from a position on, among which a call without an answer has left its row if it has left anything. It writes
-- something, for the reason that `is_outbox_row_there` gives.
SELECT o.n, o.payload, o.created_at, pg_logical_emit_message(true, 'mqtt-edge-gateway', '')
FROM outbox AS o, (SELECT pg_current_xact_id() OFFSET 0) AS writing
WHERE o.stream = $1 AND o.n >= $2
ORDER BY o.n
LIMIT $3;

-- name: find_letters
-- The ids of letters that are kept, by arrival, topic and reason; 0 of one that is there no more.
SELECT coalesce((
    SELECT max(d.id) FROM dead_letters AS d
    WHERE d.received_at = l.received_at::timestamptz AND d.topic = l.topic AND d.reason = l.reason
), 0) AS id
FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS l (received_at, topic, reason, ord)
ORDER BY l.ord;

-- name: probe_measurements
-- A row that nothing but a fault of the table can refuse. Rolled back.
INSERT INTO measurements (device_id, ts, received_at, message_key, region, metrics)
VALUES ('gateway-probe', now(), now(), 'probe', NULL, '{"value": 0}');

-- name: is_in_progress
-- Whether a transaction whose COMMIT got no answer is still at it. Its id means it on the server run that gave it, and anywhere
-- else a stranger's: null there.
SELECT CASE WHEN pg_postmaster_start_time() = $2 THEN pg_xact_status($1::text::xid8) END = 'in progress';

-- name: is_outbox_row_there
-- The row itself, not another one with its number. A primary also shows what no standby has yet, when the COMMIT that waited for
-- one was broken off. So this and the two statements below write something when they say yes, and are answered, like any COMMIT,
-- when all that was written before is where `synchronous_standby_names` wants it. A transaction id alone would not be waited for;
-- it is taken first because a standby refuses that as it refuses any write.
SELECT CASE WHEN pg_current_xact_id() IS NOT NULL AND EXISTS (SELECT FROM outbox WHERE stream = $1 AND n = $2 AND created_at = $3)
    THEN pg_logical_emit_message(true, 'mqtt-edge-gateway', '') IS NOT NULL ELSE false END;

-- name: is_dead_letter_there
-- The letter itself, not another one with its id.
SELECT CASE WHEN pg_current_xact_id() IS NOT NULL AND EXISTS (SELECT FROM dead_letters WHERE id = $1 AND received_at = $2)
    THEN pg_logical_emit_message(true, 'mqtt-edge-gateway', '') IS NOT NULL ELSE false END;

-- name: were_letters_replayed
-- Whether letters were marked by that very transaction of a replay.
SELECT CASE
    WHEN pg_current_xact_id() IS NOT NULL
        AND EXISTS (SELECT FROM dead_letters WHERE id = ANY ($1::bigint[]) AND replayed_at = $2)
    THEN pg_logical_emit_message(true, 'mqtt-edge-gateway', '') IS NOT NULL ELSE false END;

-- name: write_sightings
-- Adds devices and moves their times without waiting for whoever holds a row: returns those that were passed over. Only for whoever
-- is just adding a device it waits, as long as it is let.
WITH sighted AS MATERIALIZED (
    SELECT s.device_id, s.region, s.first_seen::timestamptz AS first_seen, s.last_seen::timestamptz AS last_seen
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS s (device_id, region, first_seen, last_seen)
),
free AS MATERIALIZED (
    SELECT s.* FROM sighted AS s JOIN devices AS d ON d.device_id = s.device_id
    ORDER BY s.device_id COLLATE "C"
    FOR NO KEY UPDATE OF d SKIP LOCKED
),
moved AS (
    UPDATE devices AS d SET
        region = CASE WHEN f.last_seen >= d.last_seen THEN coalesce(f.region, d.region) ELSE coalesce(d.region, f.region) END,
        first_seen = least(d.first_seen, f.first_seen),
        last_seen = greatest(d.last_seen, f.last_seen)
    FROM free AS f WHERE d.device_id = f.device_id
    RETURNING d.device_id
),
added AS (
    INSERT INTO devices (device_id, region, first_seen, last_seen)
    SELECT s.* FROM sighted AS s
    WHERE NOT EXISTS (SELECT FROM devices AS d WHERE d.device_id = s.device_id)
    ORDER BY s.device_id COLLATE "C"
    ON CONFLICT DO NOTHING
    RETURNING device_id
)
SELECT device_id FROM sighted EXCEPT (SELECT device_id FROM moved UNION ALL SELECT device_id FROM added);

-- name: look_into_conflicts
-- Asked of conflicts only, by their place (1-based): whether the key is held with what the first version took for content, so
-- that a repeat of what it stored is one; and whether a measurement has the device, the key and the very time.
SELECT
    i.ord,
    EXISTS (
        SELECT FROM message_keys_0 AS k
        WHERE k.h1 = hashtextextended(i.identity, 0) AND k.h2 = hashtextextended(i.identity, 1)
            AND k.digest = hashtextextended(i.former, 2)
        UNION ALL
        SELECT FROM message_keys_1 AS k
        WHERE k.h1 = hashtextextended(i.identity, 0) AND k.h2 = hashtextextended(i.identity, 1)
            AND k.digest = hashtextextended(i.former, 2)
    ) AS repeat,
    EXISTS (
        SELECT FROM measurements AS m
        WHERE m.device_id = i.device_id AND m.ts = i.ts::timestamptz AND m.message_key = i.key
    ) AS same_time
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
    WITH ORDINALITY AS i (identity, former, device_id, ts, key, ord)
ORDER BY i.ord;
