-- History that is too old. The functions are in gateway/migrations/0003_history.sql.

-- name: raise_history_floor
-- Says since when a resolution is kept: whole days of minutes, whole months of hours. The server's clock has a say too.
UPDATE rollups
SET kept_since = date_trunc(
    CASE rollup WHEN '1m' THEN 'day' ELSE 'month' END, least($2::timestamptz, now() - $3::interval), 'UTC'
)
WHERE rollup = $1 AND kept_since < date_trunc(
    CASE rollup WHEN '1m' THEN 'day' ELSE 'month' END, least($2::timestamptz, now() - $3::interval), 'UTC'
);

-- name: expired_history_partitions
-- Those that end where what is kept begins, or before, by their real bounds; the oldest first.
SELECT p.name, r.rollup, p.until
FROM rollups AS r
CROSS JOIN LATERAL unnest(CASE r.rollup
    WHEN '1m' THEN ARRAY['open_minutes', 'packed_minutes', 'regions_1m'] ELSE ARRAY['measurements_1h', 'regions_1h']
END) AS t (parent)
CROSS JOIN LATERAL partitions_of(t.parent) AS p
WHERE p.name ~ '_p[0-9]{8}$' AND p.until <= r.kept_since
ORDER BY p.until, p.name;

-- name: drop_history_partition
-- Drops one; gives up soon when somebody reads it.
SELECT drop_history_partition($1, $2, $3);

-- name: note_packed
-- Notes how far minutes are packed, and what was packed an hour ago.
SELECT note_packed();

-- name: packed_partitions
-- Days of rows that have been packed for an hour, the oldest first.
SELECT p.name FROM partitions_of('open_minutes') AS p, rollups AS r
WHERE r.rollup = '1m' AND p.name ~ '_p[0-9]{8}$' AND p.until <= r.droppable_until
ORDER BY p.until;

-- name: drop_open_minutes
-- Drops one; gives up soon when somebody reads it.
SELECT drop_open_minutes($1);

-- name: remove_history_strays
-- Removes up to $1 rows of each default partition that are older than what is kept, or packed; says how many it was.
WITH open_minutes AS (
    DELETE FROM open_minutes_default WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM open_minutes_default
        WHERE bucket < (SELECT greatest(kept_since, packed_until) FROM rollups WHERE rollup = '1m') ORDER BY bucket LIMIT $1
    )) RETURNING 1
),
packed_minutes AS (
    DELETE FROM packed_minutes_default WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM packed_minutes_default
        WHERE hour < (SELECT kept_since FROM rollups WHERE rollup = '1m') ORDER BY hour LIMIT $1
    )) RETURNING 1
),
hours AS (
    DELETE FROM measurements_1h_default WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM measurements_1h_default
        WHERE bucket < (SELECT kept_since FROM rollups WHERE rollup = '1h') ORDER BY bucket LIMIT $1
    )) RETURNING 1
),
region_minutes AS (
    DELETE FROM regions_1m_default WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM regions_1m_default
        WHERE bucket < (SELECT kept_since FROM rollups WHERE rollup = '1m') ORDER BY bucket LIMIT $1
    )) RETURNING 1
),
region_hours AS (
    DELETE FROM regions_1h_default WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM regions_1h_default
        WHERE bucket < (SELECT kept_since FROM rollups WHERE rollup = '1h') ORDER BY bucket LIMIT $1
    )) RETURNING 1
)
SELECT (SELECT count(*) FROM open_minutes) + (SELECT count(*) FROM packed_minutes) + (SELECT count(*) FROM hours)
    + (SELECT count(*) FROM region_minutes) + (SELECT count(*) FROM region_hours);

-- name: give_way
-- For the rest of the transaction: whoever works on history goes first.
SET LOCAL lock_timeout = '100ms';
