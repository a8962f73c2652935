-- What several benchmarks ask of PostgreSQL.

-- name: count_measurements
-- Stored rows that have distinct keys: with nothing lost and nothing doubled it is what was sent.
SELECT count(DISTINCT (device_id, message_key)) FROM measurements;

-- name: vacuum
-- What autovacuum would have done by then.
VACUUM ANALYZE;

-- name: checkpoint
-- So that what was written before is not written out while something is measured.
CHECKPOINT;

-- name: count_outbox
-- Batches that have stored something.
SELECT count(*) FROM outbox;
