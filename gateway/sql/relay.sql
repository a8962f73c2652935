-- What the relay reads when memory does not hold what is to be published next.

-- name: read_outbox
-- A page of a stream's rows from position $2 on.
SELECT n, payload, created_at FROM outbox WHERE stream = $1 AND n >= $2 ORDER BY n LIMIT $3;
