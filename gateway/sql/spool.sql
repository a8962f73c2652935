-- How far gateways have drained their spools (gateway/spool/).

-- name: note_spool_places
-- In the transaction that stores all that lies before these places.
SELECT note_spool_places(true, $1, $2, $3, $4, $5, $6, $7);

-- name: forget_left
-- By whoever has the stream now, and says with the next batch what there is.
UPDATE spools SET messages_left = 0, oldest_at = NULL, drains_in_s = NULL WHERE stream = $1 AND messages_left > 0;

-- name: spool_place
-- Asked before a run that is not one's own is drained: what it says is drained is removed. It writes something, for the reason that
-- `is_outbox_row_there` gives.
SELECT s.place, s.last, pg_logical_emit_message(true, 'mqtt-edge-gateway', '')
FROM spools AS s, (SELECT pg_current_xact_id() OFFSET 0) AS writing
WHERE s.run = $1::text::uuid;

-- name: outbox_rows_since
-- What may have been stored by a COMMIT that a gateway had sent when its messages went into the spool.
SELECT n, payload FROM outbox WHERE stream = $1 AND n >= $2 ORDER BY n LIMIT $3;

-- name: letters_between
-- The same for dead letters, which nothing has in order of arrival: among the last that were kept.
SELECT d.received_at, d.topic
FROM (SELECT received_at, topic FROM dead_letters ORDER BY id DESC LIMIT 100000) AS d
WHERE d.received_at > $1::text::timestamptz AND d.received_at <= $2::text::timestamptz;
