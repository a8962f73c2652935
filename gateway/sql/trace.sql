-- What `gateway trace` asks. Nothing here writes.

-- name: trace_window
-- The dedup window: which generation of keys is current, and since when.
SELECT generation, turned_at FROM dedup;

-- name: trace_devices
-- Which devices have used a key within the dedup window: for each device one look into the key tables' indexes, no look at
-- measurements. Not for routes with identity = "key+time".
SELECT d.device_id
FROM devices AS d
CROSS JOIN LATERAL (
    SELECT FROM message_keys_0 AS k
    WHERE k.h1 = hashtextextended(d.device_id || chr(31) || $1, 0) AND k.h2 = hashtextextended(d.device_id || chr(31) || $1, 1)
    UNION ALL
    SELECT FROM message_keys_1 AS k
    WHERE k.h1 = hashtextextended(d.device_id || chr(31) || $1, 0) AND k.h2 = hashtextextended(d.device_id || chr(31) || $1, 1)
    LIMIT 1
) AS held
ORDER BY d.device_id
LIMIT $2;

-- name: trace_generations
-- The generations that hold one of these identities.
SELECT DISTINCT held.generation
FROM unnest($1::text[]) AS i (identity)
CROSS JOIN LATERAL (
    SELECT 0 AS generation FROM message_keys_0 AS k
    WHERE k.h1 = hashtextextended(i.identity, 0) AND k.h2 = hashtextextended(i.identity, 1)
    UNION ALL
    SELECT 1 AS generation FROM message_keys_1 AS k
    WHERE k.h1 = hashtextextended(i.identity, 0) AND k.h2 = hashtextextended(i.identity, 1)
) AS held;

-- name: trace_device_measurements
-- One device's measurements with a key, by the index on device and time. xmin is the transaction that wrote them.
SELECT device_id, ts, received_at, message_key, region, metrics, xmin::text AS transaction
FROM measurements
WHERE device_id = $1 AND ts >= $3 AND ts <= $4 AND message_key = $2
ORDER BY ts DESC
LIMIT $5;

-- name: trace_all_measurements
-- Everybody's measurements with a key: reads the days from $2 to $3 whole, and no others.
SELECT device_id, ts, received_at, message_key, region, metrics, xmin::text AS transaction
FROM measurements
WHERE ts >= $2 AND ts <= $3 AND message_key = $1
ORDER BY ts DESC
LIMIT $4;

-- name: trace_outbox
-- The outbox row that the same transaction wrote. Reads the outbox without its payloads, which lie beside it; a restored
-- database has many rows of one transaction, so the payload has the last word and those nearest to $2 come first.
SELECT o.stream, o.n, o.created_at, o.payload, s.epoch::text AS epoch, s.published
FROM outbox AS o JOIN streams AS s USING (stream)
WHERE o.xmin = $1::text::xid
ORDER BY abs(extract(epoch FROM o.created_at - $2::timestamptz))
LIMIT $3;

-- name: trace_kept_since
-- Since when every stream has kept all its rows: of messages received before, the row may have been trimmed; not within $1,
-- for which rows are kept in any case. Null without rows ever written.
SELECT CASE WHEN count(*) > 0 THEN least(max(coalesce(oldest.created_at, now())), now() - $1::interval) END
FROM streams AS s
LEFT JOIN LATERAL (SELECT o.created_at FROM outbox AS o WHERE o.stream = s.stream ORDER BY o.n LIMIT 1) AS oldest ON true
WHERE s.head > 0;

-- name: trace_projections
-- How far each projection of a stream has come, as it reported; verifications and rebuilds under way aside.
SELECT projection, n, epoch::text AS epoch, updated_at
FROM projections_on($1)
WHERE projection !~ '^(verify|rebuild)-'
ORDER BY projection;

-- name: trace_dead_letters
-- Dead letters since $1, of device $2 or of whom nobody knows, whose bytes name a key in one of its spellings ($3), or whose
-- error does. The table is bounded by
-- gateway.dead_letters_max and gateway.dead_letters_max_bytes.
SELECT id, received_at, device_id, reason, topic, error, replayed_at, payload
FROM dead_letters
WHERE received_at >= $1 AND ($2::text IS NULL OR device_id IS NULL OR device_id = $2)
    AND (EXISTS (SELECT FROM unnest($3::bytea[]) AS spelling WHERE position(spelling IN payload) > 0) OR position($4::text IN error) > 0)
ORDER BY id DESC
LIMIT $5;
