-- When a message was committed (bench/latency.py).

-- name: stream_head
-- The last committed position of the stream: asked over and over.
SELECT head FROM streams WHERE stream = 0;

-- name: outbox_rows
-- The events of the positions that were watched.
SELECT n, payload FROM outbox WHERE stream = 0 AND n > $1 AND n <= $2;
