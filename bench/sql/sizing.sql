-- What storage messages take (bench/sizing.py).

-- name: sizes
-- Bytes of measurements, which stay; of keys, which stay for two dedup windows; of the outbox, for outbox_retention. Indexes and
-- all. And where the write-ahead log ends.
SELECT
    (SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('measurements'))::bigint AS measurements,
    (pg_total_relation_size('message_keys_0') + pg_total_relation_size('message_keys_1'))::bigint AS keys,
    pg_total_relation_size('outbox')::bigint AS outbox,
    pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint AS log;
