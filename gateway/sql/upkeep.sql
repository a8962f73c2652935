-- What keeps the tables in bounds; partitions and retention have their own file.

-- name: turn_dedup
-- Forgets message keys that are older than the window, when it is time.
SELECT turn_dedup($1);

-- name: trim_outbox
-- Removes rows that every projection has applied and that are older than the retention margin. Until both the views and history
-- have begun, nothing is trimmed, because they do not have them yet. A verification or a rebuild under way keeps what it will need, and renews
-- its row while it lives; one that died is forgotten after ten minutes. A stream's newest row is never removed: its number says
-- where the stream ends.
DELETE FROM outbox
WHERE stream = $1 AND created_at < now() - $2::interval
    AND n < (SELECT max(newest.n) FROM outbox AS newest WHERE newest.stream = $1)
    AND n <= (
        SELECT min(p.n) FROM projections AS p
        WHERE p.stream = $1
            AND NOT (p.projection ~ '^(verify|rebuild)-' AND p.updated_at < now() - interval '10 minutes')
        HAVING count(*) FILTER (WHERE p.projection IN ('redis', 'history')) = 2
    );

-- name: outbox_bytes
-- What the outbox takes on disk, so that one that nobody reads is noticed before the disk is full.
SELECT pg_total_relation_size('outbox');

-- name: evict_dead_letters
-- Keeps `dead_letters` to $1 letters and $2 bytes by removing the oldest, a piece at a time; says what was removed.
SELECT letters, bytes FROM evict_dead_letters($1, $2, $3);

-- name: projected
-- How far the live views have come on a stream.
SELECT n FROM projections WHERE stream = $1 AND projection = 'redis';
