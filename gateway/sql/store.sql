-- The statements of one batch's transaction, in the order in which gateway/store.py runs them.

-- name: claim_keys_0
-- Claims the keys that nobody has, while message_keys_0 is the current generation. The command tag counts them. Sorted, so
-- that overlapping writers queue instead of deadlocking; `ord` last, so that the first of equal keys in a batch wins.
INSERT INTO message_keys_0 (h1, h2, digest)
SELECT hashtextextended(i.identity, 0) AS h1, hashtextextended(i.identity, 1) AS h2, hashtextextended(i.content, 2)
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS i (identity, content, ord)
WHERE NOT EXISTS (
    SELECT FROM message_keys_1 AS older
    WHERE older.h1 = hashtextextended(i.identity, 0) AND older.h2 = hashtextextended(i.identity, 1)
)
ORDER BY 1, 2, i.ord
ON CONFLICT DO NOTHING;

-- name: claim_keys_1
-- The same while message_keys_1 is the current generation.
INSERT INTO message_keys_1 (h1, h2, digest)
SELECT hashtextextended(i.identity, 0) AS h1, hashtextextended(i.identity, 1) AS h2, hashtextextended(i.content, 2)
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS i (identity, content, ord)
WHERE NOT EXISTS (
    SELECT FROM message_keys_0 AS older
    WHERE older.h1 = hashtextextended(i.identity, 0) AND older.h2 = hashtextextended(i.identity, 1)
)
ORDER BY 1, 2, i.ord
ON CONFLICT DO NOTHING;

-- name: find_repeats
-- Asked only when fewer keys were claimed than came: which rows of the batch (1-based) are not new, and of those, which
-- differ in content from what holds their key. A row is new when this transaction wrote its key (xmin) and it is the first of
-- the batch with it; the claim must therefore run outside any savepoint.
WITH incoming AS MATERIALIZED (
    SELECT
        hashtextextended(i.identity, 0) AS h1,
        hashtextextended(i.identity, 1) AS h2,
        hashtextextended(i.content, 2) AS digest,
        i.ord
    FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS i (identity, content, ord)
),
held AS (
    SELECT i.ord, i.h1, i.h2, i.digest, k.digest AS held_digest, k.xmin = pg_current_xact_id()::xid AS ours
    FROM incoming AS i JOIN message_keys_0 AS k USING (h1, h2)
    UNION ALL
    SELECT i.ord, i.h1, i.h2, i.digest, k.digest AS held_digest, k.xmin = pg_current_xact_id()::xid AS ours
    FROM incoming AS i JOIN message_keys_1 AS k USING (h1, h2)
),
ranked AS (
    SELECT ord, digest <> held_digest AS conflict, ours, row_number() OVER (PARTITION BY h1, h2 ORDER BY ord) AS turn
    FROM held
)
SELECT ord, conflict FROM ranked WHERE NOT (ours AND turn = 1) ORDER BY ord;

-- name: touch_devices
-- Adds devices and moves last_seen forward; sorted against deadlocks between gateways that share devices.
INSERT INTO devices (device_id, region, first_seen, last_seen)
SELECT d.device_id, d.region, d.first_seen::timestamptz, d.last_seen::timestamptz
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS d (device_id, region, first_seen, last_seen)
ORDER BY d.device_id
ON CONFLICT (device_id) DO UPDATE SET
    region = CASE
        WHEN excluded.last_seen >= devices.last_seen THEN coalesce(excluded.region, devices.region)
        ELSE coalesce(devices.region, excluded.region)
    END,
    first_seen = least(devices.first_seen, excluded.first_seen),
    last_seen = greatest(devices.last_seen, excluded.last_seen);

-- name: insert_dead_letters
-- Keeps rejected messages as they came; returns their ids in the order given.
INSERT INTO dead_letters (received_at, topic, device_id, reason, error, payload)
SELECT r.received_at::timestamptz, r.topic, r.device_id, r.reason, r.error, r.payload
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[])
    WITH ORDINALITY AS r (received_at, topic, device_id, reason, error, payload, ord)
ORDER BY r.ord
RETURNING id, pg_current_xact_id()::text AS transaction_id;

-- name: append_outbox
-- Last statement before COMMIT: the stream's row lock makes n follow commit order. No row comes back when the stream has
-- another owner ($2) or the dedup window has turned since the keys were claimed ($6); the batch must not commit then.
WITH position AS (
    UPDATE streams SET head = head + 1, published = greatest(published, $5)
    FROM dedup
    WHERE streams.stream = $1 AND streams.owner = $2 AND dedup.generation = $6
    RETURNING streams.head
)
INSERT INTO outbox (stream, n, events, payload, created_at)
SELECT $1, position.head, $3, $4, clock_timestamp() FROM position
RETURNING n, created_at, pg_current_xact_id()::text AS transaction_id;

-- name: transaction_outcome
-- Tells whether a transaction whose COMMIT got no answer took effect: committed, aborted, in progress, or null when forgotten.
SELECT pg_xact_status($1::text::xid8);
