-- History: minutes and hours, per device and per region (gateway/migrations/0003_history.sql).

-- name: look_at_history
-- Where every stream stands, how far history has come on it, and since when the oldest row that it lacks waits; n is null where
-- it has not begun.
SELECT s.stream, s.epoch::text AS epoch, s.head, p.n, oldest.created_at AS waiting_since
FROM streams AS s
LEFT JOIN LATERAL projection_at('history', s.stream) AS p ON true
LEFT JOIN LATERAL (
    SELECT o.created_at FROM outbox AS o WHERE o.stream = p.stream AND o.n > p.n ORDER BY o.n LIMIT 1
) AS oldest ON true
ORDER BY s.stream;

-- name: begin_history
-- Begins a stream at its first row, when that is still there or yet to come; says whether it has begun now.
SELECT move_projection('history', s.stream, 0, s.epoch) FROM streams AS s
WHERE s.stream = $1 AND (s.head = 0 OR EXISTS (SELECT FROM outbox AS o WHERE o.stream = $1 AND o.n = 1))
    AND NOT EXISTS (SELECT FROM projection_at('history', $1));

-- name: lock_history
-- One at a time changes history. It takes no snapshot, so that what follows sees what the last one did.
LOCK TABLE rollups IN SHARE ROW EXCLUSIVE MODE;

-- name: lock_history_soon
-- The same for what would rather come again than wait for a rebuild.
SET LOCAL lock_timeout = '5s';
LOCK TABLE rollups IN SHARE ROW EXCLUSIVE MODE;

-- name: move_history
-- Moves the cursor of stream $1 from $2 to $3, unless somebody else has moved it or the rows are not of the history ($4) that this
-- database holds: then it is not true, and nothing may be added.
SELECT move_projection('history', s.stream, $3, s.epoch, $2) FROM streams AS s
WHERE s.stream = $1 AND s.epoch = $4::text::uuid AND s.head >= $3;

-- name: add_to_devices
-- Adds to minutes, and to hours that are not open what the minutes amount to; an open hour is begun with the first of them, so that
-- it can be seen that it is there. What comes for packed minutes is noted, to be merged with `merge_late_minutes`. Returns the
-- minutes of the last hour as they are now.
WITH delta AS MATERIALIZED (
    SELECT
        d.device_id, d.metric, timestamptz 'epoch' + d.minute * interval '1 minute' AS minute,
        timestamptz 'epoch' + (d.minute - (d.minute % 60 + 60) % 60) * interval '1 minute' AS hour, d.region,
        timestamptz 'epoch' + d.named_at * interval '1 microsecond' AS region_at, d.count, d.sum, d.min, d.max
    FROM unnest(
        $1::text[], $2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::float8[], $8::float8[], $9::float8[]
    ) AS d (device_id, metric, minute, region, named_at, count, sum, min, max)
),
delta_hours AS MATERIALIZED (
    SELECT
        device_id, metric, hour,
        (array_agg(region ORDER BY region_at DESC, region COLLATE "C" DESC) FILTER (WHERE region IS NOT NULL))[1] AS region,
        max(region_at) AS region_at, sum(count) AS count,
        least(1.79769313486231e308, greatest(-1.79769313486231e308, sum(sum::numeric)))::float8 AS sum,
        min(min) AS min, max(max) AS max
    FROM delta, open_hours AS o
    WHERE hour >= (SELECT kept_since FROM rollups WHERE rollup = '1h')
        AND NOT (hour >= o.since AND hour < o.until)
    GROUP BY 1, 2, 3
),
begun AS (
    INSERT INTO measurements_1h (device_id, metric, bucket, region, region_at, count, sum, min, max)
    SELECT d.device_id, d.metric, d.hour, d.region, d.region_at, d.count, d.sum, d.min, d.max
    FROM delta AS d, open_hours AS o
    WHERE d.hour >= o.since AND d.hour < o.until AND d.hour >= (SELECT kept_since FROM rollups WHERE rollup = '1h')
    ON CONFLICT DO NOTHING
),
hours AS (
    INSERT INTO measurements_1h AS h (device_id, metric, bucket, region, region_at, count, sum, min, max)
    SELECT device_id, metric, hour, region, region_at, count, sum, min, max FROM delta_hours
    ON CONFLICT (device_id, metric, bucket) DO UPDATE SET
        region = CASE
            WHEN coalesce((excluded.region_at, excluded.region COLLATE "C") > (h.region_at, h.region COLLATE "C"), h.region IS NULL)
                THEN excluded.region
            ELSE h.region
        END,
        region_at = greatest(h.region_at, excluded.region_at),
        count = h.count + excluded.count,
        sum = saturating_sum(h.sum, excluded.sum),
        min = least(h.min, excluded.min),
        max = greatest(h.max, excluded.max)
),
delta_minutes AS MATERIALIZED (
    SELECT
        d.device_id, d.metric, d.minute, d.region, d.region_at, d.count, d.sum, d.min, d.max,
        d.minute < r.packed_until AS is_packed, d.minute < r.packing_until AS is_late
    FROM delta AS d, rollups AS r
    WHERE r.rollup = '1m' AND d.minute >= r.kept_since
),
late AS (
    INSERT INTO late_minutes (device_id, metric, bucket, region, region_at, count, sum, min, max)
    SELECT device_id, metric, minute, region, region_at, count, sum, min, max FROM delta_minutes WHERE is_late
),
minutes AS (
    INSERT INTO open_minutes AS m (device_id, metric, bucket, region, region_at, count, sum, min, max)
    SELECT device_id, metric, minute, region, region_at, count, sum, min, max FROM delta_minutes WHERE NOT is_packed
    ON CONFLICT (device_id, metric, bucket) DO UPDATE SET
        region = CASE
            WHEN coalesce((excluded.region_at, excluded.region COLLATE "C") > (m.region_at, m.region COLLATE "C"), m.region IS NULL)
                THEN excluded.region
            ELSE m.region
        END,
        region_at = greatest(m.region_at, excluded.region_at),
        count = m.count + excluded.count,
        sum = saturating_sum(m.sum, excluded.sum),
        min = least(m.min, excluded.min),
        max = greatest(m.max, excluded.max)
    RETURNING m.device_id, m.metric, m.bucket, m.count, m.sum
)
SELECT device_id, metric, date_part('epoch', bucket)::bigint / 60 AS minute, sum / count AS mean
FROM minutes
WHERE bucket > now() - interval '1 hour';

-- name: add_to_regions
-- The same for regions, which name none.
WITH delta AS MATERIALIZED (
    SELECT
        d.region, d.metric, timestamptz 'epoch' + d.minute * interval '1 minute' AS minute,
        timestamptz 'epoch' + (d.minute - (d.minute % 60 + 60) % 60) * interval '1 minute' AS hour, d.count, d.sum, d.min, d.max
    FROM unnest(
        $1::text[], $2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::float8[], $8::float8[], $9::float8[]
    ) AS d (region, metric, minute, none, never, count, sum, min, max)
),
hours AS (
    INSERT INTO regions_1h AS h (metric, bucket, region, count, sum, min, max)
    SELECT
        metric, hour, region, sum(count),
        least(1.79769313486231e308, greatest(-1.79769313486231e308, sum(sum::numeric)))::float8, min(min), max(max)
    FROM delta
    WHERE hour >= (SELECT kept_since FROM rollups WHERE rollup = '1h')
    GROUP BY 1, 2, 3
    ON CONFLICT (metric, bucket, region) DO UPDATE SET
        count = h.count + excluded.count,
        sum = saturating_sum(h.sum, excluded.sum),
        min = least(h.min, excluded.min),
        max = greatest(h.max, excluded.max)
)
INSERT INTO regions_1m AS m (metric, bucket, region, count, sum, min, max)
SELECT metric, minute, region, count, sum, min, max
FROM delta
WHERE minute >= (SELECT kept_since FROM rollups WHERE rollup = '1m')
ON CONFLICT (metric, bucket, region) DO UPDATE SET
    count = m.count + excluded.count,
    sum = saturating_sum(m.sum, excluded.sum),
    min = least(m.min, excluded.min),
    max = greatest(m.max, excluded.max);

-- name: hours_due
-- Whether it is time to make the open hours out of their minutes. What comes late for an hour is given two minutes.
SELECT now() >= made_at + interval '10 minutes' OR date_trunc('hour', now() - interval '2 minutes', 'UTC') <> open_since
FROM rollups WHERE rollup = '1h';

-- name: make_hours
-- Makes the open hours out of their minutes, and says which are open from now on. Which metrics there are the rows of regions say, by
-- one step into their index a metric, whichever minute of the days it is that comes first; each is one range of the index
-- (metric, bucket). Rows that are right already are not written.
WITH RECURSIVE metrics (metric) AS (
    (
        SELECT metric FROM regions_1m
        WHERE bucket >= (SELECT date_trunc('day', since, 'UTC') FROM open_hours) AND bucket < (SELECT until FROM open_hours)
        ORDER BY metric
        LIMIT 1
    )
    UNION ALL
    SELECT next.metric FROM metrics AS m CROSS JOIN LATERAL (
        SELECT metric FROM regions_1m
        WHERE metric > m.metric
            AND bucket >= (SELECT date_trunc('day', since, 'UTC') FROM open_hours) AND bucket < (SELECT until FROM open_hours)
        ORDER BY metric
        LIMIT 1
    ) AS next
)
INSERT INTO measurements_1h AS h (device_id, metric, bucket, region, region_at, count, sum, min, max)
SELECT
    m.device_id, m.metric, date_trunc('hour', m.bucket, 'UTC'),
    (array_agg(m.region ORDER BY m.region_at DESC, m.region COLLATE "C" DESC) FILTER (WHERE m.region IS NOT NULL))[1],
    max(m.region_at), sum(m.count),
    least(1.79769313486231e308, greatest(-1.79769313486231e308, sum(m.sum::numeric)))::float8, min(m.min), max(m.max)
FROM metrics AS r CROSS JOIN LATERAL (
    SELECT * FROM open_minutes
    WHERE metric = r.metric AND bucket >= (SELECT since FROM open_hours) AND bucket < (SELECT until FROM open_hours)
    OFFSET 0 -- a range for each metric
) AS m
GROUP BY 1, 2, 3
ON CONFLICT (device_id, metric, bucket) DO UPDATE SET
    region = excluded.region, region_at = excluded.region_at, count = excluded.count, sum = excluded.sum,
    min = excluded.min, max = excluded.max
WHERE (h.region, h.region_at, h.count, h.sum, h.min, h.max)
    IS DISTINCT FROM (excluded.region, excluded.region_at, excluded.count, excluded.sum, excluded.min, excluded.max);
UPDATE rollups SET made_at = now(), open_since = date_trunc('hour', now() - interval '2 minutes', 'UTC') WHERE rollup = '1h';

-- name: read_minutes
-- The minutes of the last hour, one device after another. Which metrics there are the rows of regions say, as above, so that each is
-- one range of the index (metric, bucket), however much older history there is.
WITH RECURSIVE metrics (metric) AS (
    (
        SELECT metric FROM regions_1m WHERE bucket >= date_trunc('day', now() - interval '1 hour', 'UTC') ORDER BY metric LIMIT 1
    )
    UNION ALL
    SELECT next.metric FROM metrics AS m CROSS JOIN LATERAL (
        SELECT metric FROM regions_1m
        WHERE metric > m.metric AND bucket >= date_trunc('day', now() - interval '1 hour', 'UTC')
        ORDER BY metric
        LIMIT 1
    ) AS next
)
SELECT m.device_id, m.metric, extract(epoch FROM m.bucket)::bigint / 60 AS minute, m.sum / m.count AS mean
FROM metrics AS r
CROSS JOIN LATERAL (
    SELECT * FROM open_minutes WHERE metric = r.metric AND bucket > now() - interval '1 hour' OFFSET 0 -- a range for each metric
) AS m
ORDER BY m.device_id, m.metric, m.bucket;

-- name: is_known
-- Whether a device has ever sent anything. The list of devices is behind the measurements, and outlives them.
SELECT
    EXISTS (SELECT FROM devices WHERE device_id = $1) OR EXISTS (SELECT FROM measurements WHERE device_id = $1);

-- name: read_minutes_of
-- A metric of device $1 in [$3, $4), by steps of $5.
SELECT
    date_bin($5, bucket, timestamptz '1970-01-01 00:00:00Z') AS at, sum(count)::bigint AS count,
    sum(sum / count * (count / total)) AS avg, min(min) AS min, max(max) AS max
FROM (
    SELECT *, sum(count) OVER (PARTITION BY date_bin($5, bucket, timestamptz '1970-01-01 00:00:00Z'))::float8 AS total
    FROM measurements_1m
    WHERE device_id = $1 AND metric = $2 AND bucket >= $3 AND bucket < $4 AND hour > $3 - interval '1 hour' AND hour < $4
) AS m
GROUP BY 1
ORDER BY 1;

-- name: read_hours_of
-- The same out of hours.
SELECT
    date_bin($5, bucket, timestamptz '1970-01-01 00:00:00Z') AS at, sum(count)::bigint AS count,
    sum(sum / count * (count / total)) AS avg, min(min) AS min, max(max) AS max
FROM (
    SELECT *, sum(count) OVER (PARTITION BY date_bin($5, bucket, timestamptz '1970-01-01 00:00:00Z'))::float8 AS total
    FROM measurements_1h
    WHERE device_id = $1 AND metric = $2 AND bucket >= $3 AND bucket < $4
) AS h
GROUP BY 1
ORDER BY 1;
