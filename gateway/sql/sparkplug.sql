-- What is kept of edge nodes of Sparkplug B, with the batch that it came in; see gateway/sparkplug/.

-- name: write_sparkplug_births
-- What is known of edge nodes and devices now. `bd_seq` and `born` are those of the node only.
INSERT INTO sparkplug_births AS b (node, device, topic, online, bd_seq, born, ended_at, births)
SELECT r.*
FROM unnest($1::text[], $2::text[], $3::text[], $4::boolean[], $5::bigint[], $6::bigint[], $7::text[], $8::json[]) AS r
ORDER BY 1, 2
ON CONFLICT (node, device) DO UPDATE SET
    topic = excluded.topic,
    online = excluded.online,
    bd_seq = excluded.bd_seq,
    born = excluded.born,
    ended_at = excluded.ended_at,
    births = excluded.births,
    changed_at = now();

-- name: begin_sparkplug_births
-- Rows that are not there yet of edge nodes of which several gateways have a part. Who comes second waits for the first one's commit.
INSERT INTO sparkplug_births (node, device, topic, online, bd_seq, born, ended_at, births)
SELECT r.*
FROM unnest($1::text[], $2::text[], $3::text[], $4::boolean[], $5::bigint[], $6::bigint[], $7::text[], $8::json[]) AS r
ORDER BY 1, 2
ON CONFLICT DO NOTHING;

-- name: hold_sparkplug_births
-- What is stored of these now, which stays as it is until the end of the transaction.
SELECT node, device, topic, online, bd_seq, born, ended_at, births
FROM sparkplug_births
WHERE (node, device) IN (SELECT k.node, k.device FROM unnest($1::text[], $2::text[]) AS k (node, device))
ORDER BY node, device
FOR NO KEY UPDATE;

-- name: forget_sparkplug_births
-- Removes rows of edge nodes and devices that have been offline for $3, and of those beyond the $1 that changed last, or beyond $2 bytes
-- of births. One that has changed meanwhile stays.
DELETE FROM sparkplug_births AS b
USING (
    SELECT node, device, changed_at, online, count(*) OVER newest AS place, sum(octet_length(births::text)) OVER newest AS through
    FROM sparkplug_births
    WINDOW newest AS (ORDER BY changed_at DESC, node, device ROWS UNBOUNDED PRECEDING)
) AS k
WHERE (k.node, k.device, k.changed_at) = (b.node, b.device, b.changed_at)
    AND (k.place > $1 OR k.through > $2 OR (k.online IS NOT TRUE AND k.changed_at < now() - $3::interval));

-- name: hold_sparkplug
-- Messages that are held from now on. Written again when an attempt has failed.
INSERT INTO sparkplug_held (id, stream, received_at, topic, payload)
SELECT h.id, $1, h.received_at::timestamptz, h.topic, h.payload
FROM unnest($2::text[], $3::text[], $4::text[], $5::bytea[]) AS h (id, received_at, topic, payload)
ON CONFLICT DO NOTHING;

-- name: free_sparkplug
-- Messages that are held no more: what they hold is stored by this transaction, or kept as dead letters.
DELETE FROM sparkplug_held WHERE id = ANY ($1::text[]);

-- name: sparkplug_births
-- The $1 that changed last, the newest first, as far as their births have no more than $2 bytes.
SELECT node, device, topic, online, bd_seq, born, ended_at, births
FROM (
    SELECT *, sum(octet_length(births::text)) OVER (ORDER BY changed_at DESC, node, device) AS through
    FROM sparkplug_births
) AS b
WHERE through <= $2
ORDER BY changed_at DESC, node, device
LIMIT $1;

-- name: sparkplug_births_of
-- All rows of some edge nodes.
SELECT node, device, topic, online, bd_seq, born, ended_at, births
FROM sparkplug_births
WHERE node = ANY ($1::text[])
ORDER BY node, device;

-- name: resume_sparkplug
-- What this stream's last gateway held, and what others did that have not been back for an hour. In order of receipt.
WITH mine AS (
    UPDATE sparkplug_held SET stream = $1, taken_at = now() WHERE stream = $1 OR taken_at < now() - interval '1 hour'
    RETURNING id, topic, payload, received_at
)
SELECT id, topic, payload, received_at FROM mine ORDER BY received_at, id;
