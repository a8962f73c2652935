-- What the read side needs of the outbox.

-- name: read_positions
-- Where every stream stands: the epoch of its history, the last position that has been committed, and when that row was written, as
-- long as it is kept.
SELECT s.stream, s.epoch::text AS epoch, s.head, o.created_at AS head_at
FROM streams AS s LEFT JOIN outbox AS o ON o.stream = s.stream AND o.n = s.head;

-- name: read_keys
-- With what rows on the internal topic are signed. A key of another epoch is that of another history.
SELECT k.stream, k.key FROM stream_keys AS k JOIN streams AS s ON s.stream = k.stream AND s.epoch = k.epoch;

-- name: find_replaced
-- Streams on which a row that was read, $2 written at $3, is not the one that is there now: proof of another history. A row that
-- is not kept any more proves nothing.
SELECT DISTINCT o.stream
FROM unnest($1::integer[], $2::bigint[], $3::text[]) AS r (stream, n, created_at) JOIN outbox AS o USING (stream, n)
WHERE o.created_at <> r.created_at::timestamptz;

-- name: look_at_streams
-- The same, with the moment since which the oldest row after a projection's cursor ($2 on stream $1) waits: one step into the
-- index. Null where none does, and where no cursor is given.
SELECT s.stream, s.epoch::text AS epoch, s.head, oldest.created_at AS waiting_since
FROM streams AS s
LEFT JOIN unnest($1::integer[], $2::bigint[]) AS c (stream, n) USING (stream)
LEFT JOIN LATERAL (
    SELECT o.created_at FROM outbox AS o WHERE o.stream = c.stream AND o.n > c.n ORDER BY o.n LIMIT 1
) AS oldest ON true;

-- name: read_rows
-- The rows after position $2 in order: the first, then as many as keep the page at $4 rows, $3 events and $5 bytes. The stream's own
-- row comes along from the same snapshot, so that rows which should be there and are not are told from rows not yet
-- written. With nothing to read there is one line without n; with no such stream none.
SELECT s.epoch::text AS epoch, s.head, page.n, page.payload, page.created_at
FROM streams AS s
LEFT JOIN LATERAL (
    SELECT counted.n, counted.payload, counted.created_at
    FROM (
        SELECT o.n, o.payload, o.created_at, sum(o.events) OVER rows AS through, sum(octet_length(o.payload)) OVER rows AS bytes
        FROM (
            SELECT n, events, payload, created_at FROM outbox
            WHERE stream = $1 AND n > $2
            ORDER BY n
            LIMIT $4
        ) AS o
        WINDOW rows AS (ORDER BY o.n)
    ) AS counted
    WHERE (counted.through <= $3 AND counted.bytes <= $5) OR counted.n = $2 + 1
) AS page ON true
WHERE s.stream = $1
ORDER BY page.n;

-- name: report_cursors
-- Tells the write side how far a projection has come: rows are trimmed behind the slowest. Said every second, written when
-- it is news: a rebuild reports under the same name. Streams, or histories of one, that this database does not have are not its
-- business.
SELECT move_projection($1, cursors.stream, cursors.n, cursors.epoch)
FROM unnest($2::integer[], $3::bigint[], $4::uuid[]) AS cursors (stream, n, epoch)
JOIN streams ON streams.stream = cursors.stream AND streams.epoch = cursors.epoch
LEFT JOIN LATERAL projection_at($1, cursors.stream) AS known ON true
WHERE (known.n, known.epoch) IS DISTINCT FROM (cursors.n, cursors.epoch);

-- name: renew_projection
-- Says that a verification or a rebuild still needs the rows that its report keeps.
UPDATE projections SET updated_at = now() WHERE projection = $1;

-- name: retire_projection
-- A verification or a rebuild reports like a projection while it runs, so that the rows it still needs are kept. This ends its
-- report, and those of others that crashed: a running one renews its report every few seconds.
DELETE FROM projections
WHERE projection = $1 OR (projection ~ '^(verify|rebuild)-' AND updated_at < now() - interval '10 minutes');
