-- Partitions of history: made ahead of time, dropped behind it. The functions are in gateway/migrations/0003_history.sql.

-- name: missing_history_partitions
-- Those that are missing around $1, the latest first: minutes by the day, hours by the month, none of what is not kept any more.
WITH tables AS (
    SELECT * FROM (
        VALUES
            ('measurements_1m', '1m', 'day', interval '1 day'),
            ('regions_1m', '1m', 'day', interval '1 day'),
            ('measurements_1h', '1h', 'month', interval '1 month'),
            ('regions_1h', '1h', 'month', interval '1 month')
    ) AS t (parent, rollup, unit, length)
),
wanted AS (
    SELECT t.parent, t.rollup, g AT TIME ZONE 'UTC' AS since, (g + t.length) AT TIME ZONE 'UTC' AS until
    FROM tables AS t
    CROSS JOIN LATERAL generate_series(
        date_trunc(t.unit, $1::timestamptz AT TIME ZONE 'UTC' - interval '7 days'),
        $1::timestamptz AT TIME ZONE 'UTC' + interval '3 days',
        t.length
    ) AS g
)
SELECT w.parent, w.since, w.until
FROM wanted AS w JOIN rollups AS r USING (rollup)
WHERE w.until > r.kept_since AND to_regclass(w.parent || '_p' || to_char(w.since AT TIME ZONE 'UTC', 'YYYYMMDD')) IS NULL
ORDER BY w.since DESC, w.parent;

-- name: make_history_partition
-- One in a transaction of its own, so that no lock outlives it.
SELECT create_history_partition($1, $2, $3);

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
-- Those that end where what is kept begins, or before; the oldest first.
WITH partitions AS (
    SELECT
        c.relname AS name, r.rollup,
        (to_date(right(c.relname, 8), 'YYYYMMDD') + CASE r.rollup WHEN '1m' THEN interval '1 day' ELSE interval '1 month' END)
            AT TIME ZONE 'UTC' AS until,
        r.kept_since
    FROM pg_inherits AS i
    JOIN pg_class AS c ON c.oid = i.inhrelid
    JOIN rollups AS r ON i.inhparent IN (to_regclass('measurements_' || r.rollup), to_regclass('regions_' || r.rollup))
    WHERE c.relname ~ '_p[0-9]{8}$'
)
SELECT name, rollup, until FROM partitions WHERE until <= kept_since ORDER BY until, name;

-- name: drop_history_partition
-- Drops one; gives up soon when somebody reads it.
SELECT drop_history_partition($1, $2, $3);

-- name: remove_history_strays
-- Removes up to $1 rows of each default partition that are older than what is kept; says how many it was.
WITH minutes AS (
    DELETE FROM measurements_1m_default WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM measurements_1m_default
        WHERE bucket < (SELECT kept_since FROM rollups WHERE rollup = '1m') ORDER BY bucket LIMIT $1
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
SELECT (SELECT count(*) FROM minutes) + (SELECT count(*) FROM hours)
    + (SELECT count(*) FROM region_minutes) + (SELECT count(*) FROM region_hours);

-- name: give_way
-- For the rest of the transaction: whoever works on history goes first.
SET LOCAL lock_timeout = '100ms';
