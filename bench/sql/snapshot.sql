-- Appends under an open snapshot (bench/snapshot.py).

-- name: change_stream
-- What an append did before it only locked the stream's row: every change is a version that an open snapshot keeps.
UPDATE stream_leases SET seen_at = now() WHERE stream = $1;

-- name: open_snapshot
-- Any query does; the snapshot lasts as long as the transaction.
SELECT count(*) FROM streams;
