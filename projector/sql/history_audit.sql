-- Compares history with the measurements, and mends what differs. A day at a time, in one transaction with one snapshot.

-- name: lock_history_truth
-- Until the end nothing that is compared is dropped. Must be had before the snapshot is taken.
LOCK TABLE measurements, retired_statistics, open_minutes, packed_minutes, measurements_1h, regions_1m, regions_1h IN ACCESS SHARE MODE;

-- name: open_history_audit
-- What an audit works with: what the measurements of a day amount to, what is wrong about history, the events that history does not
-- have yet, and packed minutes that are to be made. These hide the table of late minutes, where days of them would leave their room.
-- `id` is a device or a region.
CREATE TEMPORARY TABLE expected_history (
    place text, id text, metric text, bucket timestamptz,
    region text, region_at timestamptz, count bigint, sum float8, min float8, max float8
) ON COMMIT DROP;
CREATE TEMPORARY TABLE wrong_history (
    place text, id text, metric text, bucket timestamptz, expected jsonb, found jsonb
) ON COMMIT DROP;
CREATE TEMPORARY TABLE pending_events (
    device_id text, ts timestamptz, received_at timestamptz, message_key text
) ON COMMIT DROP;
CREATE TEMPORARY TABLE late_minutes (LIKE late_minutes) ON COMMIT DROP;

-- name: add_pending
-- Events after history's cursor.
INSERT INTO pending_events (device_id, ts, received_at, message_key)
SELECT device_id, ts::timestamptz, received_at::timestamptz, message_key
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS e (device_id, ts, received_at, message_key);

-- name: history_floor
-- Since when measurements are whole: days up to the newest that was retired may lack some.
SELECT coalesce(date_trunc('day', max(last_ts), 'UTC') + interval '24 hours', '-infinity') FROM retired_statistics;

-- name: history_days
-- Every day since the floor, $1, that measurements or history may have rows of.
WITH partitions AS (
    SELECT c.relname ~ '_1h_p' AS is_month, to_date(right(c.relname, 8), 'YYYYMMDD') AS first
    FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
    WHERE i.inhparent IN (
            'measurements'::regclass, 'open_minutes'::regclass, 'packed_minutes'::regclass, 'measurements_1h'::regclass,
            'regions_1m'::regclass, 'regions_1h'::regclass
        )
        AND c.relname ~ '_p[0-9]{8}$'
),
strays AS (
    SELECT ts FROM measurements_default
    UNION ALL SELECT bucket FROM open_minutes_default
    UNION ALL SELECT hour FROM packed_minutes_default
    UNION ALL SELECT bucket FROM measurements_1h_default
    UNION ALL SELECT bucket FROM regions_1m_default
    UNION ALL SELECT bucket FROM regions_1h_default
),
days AS (
    SELECT g::date AS day
    FROM partitions AS p
    CROSS JOIN LATERAL generate_series(
        p.first::timestamp, p.first + CASE WHEN p.is_month THEN interval '1 month - 1 day' ELSE interval '0' END, interval '1 day'
    ) AS g
    UNION SELECT (ts AT TIME ZONE 'UTC')::date FROM strays
)
SELECT day::timestamp AT TIME ZONE 'UTC' AS since, (day + 1)::timestamp AT TIME ZONE 'UTC' AS until
FROM days
WHERE day::timestamp AT TIME ZONE 'UTC' >= $1
ORDER BY day;

-- name: begin_audit_of_day
-- Forgets the day before.
TRUNCATE expected_history, wrong_history;

-- name: expect_history
-- What the measurements of [$1, $2) amount to that history should have: not those after its cursor, and of each resolution what
-- is kept. Written apart from what the projector does with the same events.
WITH numbers AS (
    SELECT
        m.device_id, nullif(m.region, '') AS region, m.ts, date_trunc('minute', m.ts, 'UTC') AS minute, e.key AS metric,
        CASE jsonb_typeof(e.value) WHEN 'number' THEN e.value::numeric ELSE e.value::boolean::integer::numeric END AS number
    FROM measurements AS m CROSS JOIN LATERAL jsonb_each(m.metrics) AS e
    WHERE m.ts >= $1 AND m.ts < $2 AND jsonb_typeof(e.value) IN ('number', 'boolean')
        AND NOT EXISTS (
            SELECT FROM pending_events AS p
            WHERE p.device_id = m.device_id AND p.ts = m.ts AND p.received_at = m.received_at AND p.message_key = m.message_key
        )
),
minutes AS MATERIALIZED (
    SELECT
        device_id, region, metric, minute, max(ts) AS newest, count(*) AS count, sum(number) AS sum,
        min(number::float8) AS min, max(number::float8) AS max
    FROM numbers
    GROUP BY 1, 2, 3, 4
),
placed AS (
    SELECT 'measurements_1m' AS place, device_id AS id, metric, minute AS bucket, region, newest, count, sum, min, max
    FROM minutes WHERE minute >= (SELECT kept_since FROM rollups WHERE rollup = '1m')
    UNION ALL
    SELECT 'measurements_1h', device_id, metric, date_trunc('hour', minute, 'UTC'), region, newest, count, sum, min, max
    FROM minutes
    WHERE date_trunc('hour', minute, 'UTC') >= (SELECT kept_since FROM rollups WHERE rollup = '1h')
        AND NOT EXISTS (SELECT FROM open_hours WHERE minute >= since AND minute < until)
    UNION ALL
    SELECT 'regions_1m', coalesce(region, ''), metric, minute, NULL, newest, count, sum, min, max
    FROM minutes WHERE minute >= (SELECT kept_since FROM rollups WHERE rollup = '1m')
    UNION ALL
    SELECT 'regions_1h', coalesce(region, ''), metric, date_trunc('hour', minute, 'UTC'), NULL, newest, count, sum, min, max
    FROM minutes WHERE date_trunc('hour', minute, 'UTC') >= (SELECT kept_since FROM rollups WHERE rollup = '1h')
)
INSERT INTO expected_history
SELECT
    place, id, metric, bucket,
    (array_agg(region ORDER BY newest DESC, region COLLATE "C" DESC) FILTER (WHERE region IS NOT NULL))[1],
    max(newest) FILTER (WHERE region IS NOT NULL), sum(count),
    least(1.79769313486231e308, greatest(-1.79769313486231e308, sum(sum)))::float8, min(min), max(max)
FROM placed
GROUP BY place, id, metric, bucket;

-- name: compare_history
-- Notes what differs in [$1, $2). Means may differ by 1e-9 of the largest value, because sums depend on the order; everything
-- else is compared exactly. What is older than what is kept is not looked at, nor are hours by device that are open: these are
-- made out of their minutes, and compared when they are over.
WITH found AS (
    SELECT 'measurements_1m' AS place, device_id AS id, metric, bucket, region, region_at, count, sum, min, max
    FROM measurements_1m
    WHERE bucket >= $1 AND bucket < $2 AND hour >= $1 AND hour < $2
        AND bucket >= (SELECT kept_since FROM rollups WHERE rollup = '1m')
    UNION ALL
    SELECT 'measurements_1h', device_id, metric, bucket, region, region_at, count, sum, min, max
    FROM measurements_1h
    WHERE bucket >= $1 AND bucket < $2 AND bucket >= (SELECT kept_since FROM rollups WHERE rollup = '1h')
        AND NOT EXISTS (SELECT FROM open_hours WHERE bucket >= since AND bucket < until)
    UNION ALL
    SELECT 'regions_1m', region, metric, bucket, NULL, NULL, count, sum, min, max
    FROM regions_1m WHERE bucket >= $1 AND bucket < $2 AND bucket >= (SELECT kept_since FROM rollups WHERE rollup = '1m')
    UNION ALL
    SELECT 'regions_1h', region, metric, bucket, NULL, NULL, count, sum, min, max
    FROM regions_1h WHERE bucket >= $1 AND bucket < $2 AND bucket >= (SELECT kept_since FROM rollups WHERE rollup = '1h')
)
INSERT INTO wrong_history
SELECT
    place, id, metric, bucket,
    CASE WHEN e.count IS NOT NULL THEN
        jsonb_build_object('count', e.count, 'sum', e.sum, 'min', e.min, 'max', e.max, 'region', e.region, 'region_at', e.region_at)
    END,
    CASE WHEN f.count IS NOT NULL THEN
        jsonb_build_object('count', f.count, 'sum', f.sum, 'min', f.min, 'max', f.max, 'region', f.region, 'region_at', f.region_at)
    END
FROM expected_history AS e FULL JOIN found AS f USING (place, id, metric, bucket)
WHERE (
    e.count = f.count AND e.min = f.min AND e.max = f.max
    AND abs(e.sum / 2 / e.count - f.sum / 2 / f.count) <= 1e-9 * greatest(1, abs(e.min), abs(e.max))
    AND e.region IS NOT DISTINCT FROM f.region AND e.region_at IS NOT DISTINCT FROM f.region_at
) IS NOT TRUE;

-- name: read_wrong
-- What differs, in order.
SELECT place, id, metric, to_char(bucket AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI"Z"') AS bucket, expected::text, found::text
FROM wrong_history
ORDER BY place, id, metric, bucket;

-- name: count_expected
-- How many rows of history the day should have.
SELECT count(*) FROM expected_history;

-- name: remove_wrong
-- Removes what differs, of packed minutes the whole hour; what should be there instead is put back next. Who is packing an hour that
-- is changed begins anew.
DELETE FROM open_minutes AS t USING wrong_history AS w
WHERE w.place = 'measurements_1m' AND t.device_id = w.id AND t.metric = w.metric AND t.bucket = w.bucket;
DELETE FROM packed_minutes AS t USING wrong_history AS w, rollups AS r
WHERE w.place = 'measurements_1m' AND t.device_id = w.id AND t.metric = w.metric AND t.hour = date_trunc('hour', w.bucket, 'UTC')
    AND r.rollup = '1m' AND t.hour < r.packed_until;
UPDATE rollups AS r SET packing = r.packing + 1
WHERE r.rollup = '1m' AND EXISTS (
    SELECT FROM wrong_history AS w
    WHERE w.place = 'measurements_1m' AND w.bucket >= r.packed_until AND w.bucket < r.packing_until
);
DELETE FROM measurements_1h AS t USING wrong_history AS w
WHERE w.place = 'measurements_1h' AND t.device_id = w.id AND t.metric = w.metric AND t.bucket = w.bucket;
DELETE FROM regions_1m AS t USING wrong_history AS w
WHERE w.place = 'regions_1m' AND t.region = w.id AND t.metric = w.metric AND t.bucket = w.bucket;
DELETE FROM regions_1h AS t USING wrong_history AS w
WHERE w.place = 'regions_1h' AND t.region = w.id AND t.metric = w.metric AND t.bucket = w.bucket;

-- name: put_right
-- Puts what is expected in the place of what was removed, and where something is missing.
INSERT INTO open_minutes (device_id, metric, bucket, region, region_at, count, sum, min, max)
SELECT id, metric, bucket, e.region, e.region_at, e.count, e.sum, e.min, e.max
FROM expected_history AS e JOIN wrong_history AS w USING (place, id, metric, bucket)
WHERE place = 'measurements_1m' AND bucket >= (SELECT packed_until FROM rollups WHERE rollup = '1m');
INSERT INTO late_minutes (device_id, metric, bucket, region, region_at, count, sum, min, max)
SELECT e.id, e.metric, e.bucket, e.region, e.region_at, e.count, e.sum, e.min, e.max
FROM expected_history AS e JOIN (
    SELECT DISTINCT place, id, metric, date_trunc('hour', bucket, 'UTC') AS hour
    FROM wrong_history
    WHERE place = 'measurements_1m' AND bucket < (SELECT packed_until FROM rollups WHERE rollup = '1m')
) AS w ON e.place = w.place AND e.id = w.id AND e.metric = w.metric AND date_trunc('hour', e.bucket, 'UTC') = w.hour;
INSERT INTO measurements_1h (device_id, metric, bucket, region, region_at, count, sum, min, max)
SELECT id, metric, bucket, e.region, e.region_at, e.count, e.sum, e.min, e.max
FROM expected_history AS e JOIN wrong_history AS w USING (place, id, metric, bucket) WHERE place = 'measurements_1h';
INSERT INTO regions_1m (region, metric, bucket, count, sum, min, max)
SELECT id, metric, bucket, e.count, e.sum, e.min, e.max
FROM expected_history AS e JOIN wrong_history AS w USING (place, id, metric, bucket) WHERE place = 'regions_1m';
INSERT INTO regions_1h (region, metric, bucket, count, sum, min, max)
SELECT id, metric, bucket, e.count, e.sum, e.min, e.max
FROM expected_history AS e JOIN wrong_history AS w USING (place, id, metric, bucket) WHERE place = 'regions_1h';

-- name: forget_open_hours
-- Removes the hours that are open; they are made next.
DELETE FROM measurements_1h AS h USING open_hours AS o WHERE h.bucket >= o.since AND h.bucket < o.until;

-- name: set_history_cursors
-- Puts the cursors at the heads of all streams.
SELECT move_projection('history', stream, head, epoch) FROM streams;

-- name: forget_pending
-- Every event is to be in history.
TRUNCATE pending_events;

-- name: settle_pending
-- Lets the server know how many there are before it plans with them.
ANALYZE pending_events;
