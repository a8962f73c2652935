-- What keeps the tables in bounds.

-- name: create_partitions
-- Days are made ahead, so that no batch ever waits for one; the past week too, for devices that come back with a backlog.
SELECT create_measurement_partitions(
    (now() AT TIME ZONE 'UTC')::date - 7, (now() AT TIME ZONE 'UTC')::date + 3);

-- name: turn_dedup
-- Forgets message keys that are older than the window, when it is time.
SELECT turn_dedup($1);

-- name: trim_outbox
-- Removes rows that every projection has applied and that are older than the retention margin. Without any projection
-- nothing is trimmed, because nobody has them yet.
DELETE FROM outbox
WHERE stream = $1 AND created_at < now() - $2::interval
    AND n <= (SELECT min(p.n) FROM projections AS p WHERE p.stream = $1);

-- name: projected
-- How far the slowest projection has come on a stream.
SELECT min(n) AS n FROM projections WHERE stream = $1;
