-- Who writes a stream, and what there is to know of it before writing.

-- name: lock_stream
-- Held by a connection for as long as the gateway lives: a second gateway with the same stream is refused while it is.
SELECT pg_try_advisory_lock(hashtext('mqtt-edge-gateway/stream'), $1);

-- name: stream_holder
-- Names the client that holds the lock, for the message that refuses.
SELECT a.pid, a.application_name, a.client_addr::text AS client_addr, a.backend_start, a.usename AS role,
    NOT coalesce(has_table_privilege(a.usesysid, 'stream_leases', 'UPDATE'), false) AS is_stranger,
    coalesce(extract(epoch FROM now() - s.seen_at), 0)::float8 AS silent_s
FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) LEFT JOIN stream_leases AS s ON s.stream = $1
WHERE l.locktype = 'advisory' AND l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND l.classid = (hashtext('mqtt-edge-gateway/stream')::bigint & 4294967295)::oid
    AND l.objid = $1::integer::oid;

-- name: lock_client
-- Held beside the stream's: two gateways with one client id would take the broker's session from each other for ever, and
-- brokers before MQTT 5 do not say why. $1 names broker and client id.
SELECT pg_try_advisory_lock(hashtext('mqtt-edge-gateway/client'), hashtext($1));

-- name: client_holder
-- Names who holds a client id.
SELECT a.pid, a.application_name, a.client_addr::text AS client_addr, a.backend_start, a.usename AS role,
    NOT coalesce(has_table_privilege(a.usesysid, 'stream_leases', 'UPDATE'), false) AS is_stranger
FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND l.classid = (hashtext('mqtt-edge-gateway/client')::bigint & 4294967295)::oid
    AND l.objid = (hashtext($1)::bigint & 4294967295)::oid;

-- name: end_holder
-- Ends the connection of a holder that has given no sign of life, and with it the lock.
SELECT pg_terminate_backend($1);

-- name: ask_nothing
-- Whatever time this takes is that of the way.
SELECT;

-- name: beat
-- The holder's sign of life, for which it learns the stream's epoch; no row when the stream has another owner. With it, up to
-- where the stream is published ($3), never beyond its end, and the end itself, which would outlast an emptied outbox.
UPDATE stream_leases AS l SET
    seen_at = now(),
    head = greatest(l.head, (SELECT max(o.n) FROM outbox AS o WHERE o.stream = $1)),
    published = least($3, greatest(l.head, (SELECT max(o.n) FROM outbox AS o WHERE o.stream = $1)))
WHERE l.stream = $1 AND l.owner = $2
RETURNING l.epoch::text;

-- name: stream_key
-- What the holder of the stream signs its rows with: $3, unless the stream has a key of this epoch by now.
INSERT INTO stream_keys AS k (stream, epoch, key)
SELECT l.stream, l.epoch, $3 FROM stream_leases AS l WHERE l.stream = $1 AND l.owner = $2
ON CONFLICT (stream) DO UPDATE SET
    epoch = excluded.epoch,
    key = CASE WHEN k.epoch = excluded.epoch THEN k.key ELSE excluded.key END
RETURNING k.key;

-- name: claim_stream
-- Takes the stream with a new fencing token; whoever held an older one can no longer append.
INSERT INTO stream_leases (stream, owner, owner_name, seen_at) VALUES ($1, $2, $3, now())
ON CONFLICT (stream) DO UPDATE SET owner = excluded.owner, owner_name = excluded.owner_name, seen_at = excluded.seen_at;

-- name: renew_owner
-- Another token ($3) for whoever holds the stream, or has taken it by an attempt without an answer. It waits for a batch that is
-- just being appended; what comes later under the one before is refused.
UPDATE stream_leases SET owner = $3 WHERE stream = $1 AND owner IN ($2, $3) RETURNING owner;

-- name: read_stream
-- What whoever has claimed the stream begins with; asked after the claim, which may have waited for a predecessor's last row.
SELECT epoch::text, head, published FROM streams WHERE stream = $1;

-- name: note_cluster
-- Gives the stream a new epoch when its row was last written by another cluster or on another timeline: after a restore into
-- another cluster, a recovery to a point in time or a failover, rows may be missing that readers have.
WITH here AS (
    SELECT system_identifier || '/' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) AS cluster FROM pg_control_system()
)
UPDATE stream_leases SET
    epoch = CASE WHEN stream_leases.cluster <> here.cluster THEN gen_random_uuid() ELSE stream_leases.epoch END,
    cluster = here.cluster
FROM here
WHERE stream_leases.stream = $1 AND stream_leases.owner = $2 AND stream_leases.cluster IS DISTINCT FROM here.cluster;

-- name: stream_owner
-- Tells why an append was refused: who owns the stream now, where it ends, and which generation of keys is current.
SELECT streams.owner, streams.owner_name, streams.head, dedup.generation FROM dedup LEFT JOIN streams ON streams.stream = $1;

-- name: known_subscriptions
-- What this client id had subscribed when it last ran.
SELECT topic_filter, qos FROM subscriptions WHERE client_id = $1;

-- name: remember_subscriptions
-- Written once the broker has granted them; replaces what was known.
WITH wanted AS (
    SELECT * FROM unnest($2::text[], $3::smallint[]) AS w (topic_filter, qos)
),
forgotten AS (
    DELETE FROM subscriptions
    WHERE client_id = $1 AND topic_filter NOT IN (SELECT topic_filter FROM wanted)
)
INSERT INTO subscriptions (client_id, topic_filter, qos)
SELECT $1, topic_filter, qos FROM wanted
ON CONFLICT (client_id, topic_filter) DO UPDATE SET qos = excluded.qos WHERE subscriptions.qos <> excluded.qos;

-- name: newest_events
-- The events of the stream's newest row that is kept, from which the order of arrival goes on.
SELECT payload FROM outbox WHERE stream = $1 ORDER BY n DESC LIMIT 1;

-- name: owner_name
-- Who had the stream last.
SELECT owner_name FROM stream_leases WHERE stream = $1;

-- name: forget_subscriptions
-- The broker's session of this client id is no more.
DELETE FROM subscriptions WHERE client_id = $1 RETURNING topic_filter;
