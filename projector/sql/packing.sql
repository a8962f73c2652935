-- Minutes of hours that are over are packed, an hour at a time (gateway/migrations/0011_packed.sql).

-- name: take_packing
-- One packs at a time, for several transactions: false when another does.
SELECT pg_try_advisory_lock(hashtextextended('mqtt-edge-gateway/packing', 0));

-- name: let_packing_go
-- When it has come to its end; who does not loses the connection, and the lock with it.
SELECT pg_advisory_unlock(hashtextextended('mqtt-edge-gateway/packing', 0));

-- name: unfinished_packing
-- The hour that was being packed when somebody was killed, or it was not to count.
SELECT packed_until, packing_until FROM rollups WHERE rollup = '1m' AND packing_until > packed_until;

-- name: forget_packing
-- Removes what was packed of it, which nobody has read.
DELETE FROM packed_minutes WHERE hour >= $1 AND hour < $2;

-- name: next_hour
-- The oldest hour that has rows, when it ended two hours ago: whether it may be packed, by what history has of the outbox and by when
-- the hours by device that are made of its minutes are made, and for how long it has waited. Each metric of a day of rows is one step
-- of the index (metric, bucket), and one more.
WITH bounds AS (
    SELECT
        m.packed_until AS since, date_trunc('hour', now() - interval '2 hours', 'UTC') AS until,
        least(date_trunc('hour', least(now(), w.since) - interval '2 hours', 'UTC'), h.open_since) AS ready
    FROM rollups AS m, rollups AS h, (
        SELECT min(oldest.created_at) AS since
        FROM streams AS s LEFT JOIN LATERAL projection_at('history', s.stream) AS p ON true
        CROSS JOIN LATERAL (
            SELECT o.created_at FROM outbox AS o WHERE o.stream = s.stream AND o.n > coalesce(p.n, 0) ORDER BY o.n LIMIT 1
        ) AS oldest
    ) AS w
    WHERE m.rollup = '1m' AND h.rollup = '1h'
)
SELECT n.hour, n.hour < b.ready AS is_ready, extract(epoch FROM b.until - n.hour)::float8 - 3600 AS waits_s
FROM bounds AS b CROSS JOIN LATERAL (
    SELECT date_trunc('hour', least(
        (SELECT min(bucket) FROM open_minutes_default WHERE bucket >= b.since AND bucket < b.until),
        (
            SELECT f.bucket FROM (SELECT * FROM partitions_of('open_minutes') ORDER BY since) AS p
            CROSS JOIN LATERAL (
                WITH RECURSIVE metrics (metric) AS (
                    (
                        SELECT metric FROM open_minutes WHERE bucket >= p.since AND bucket < p.until ORDER BY metric LIMIT 1
                    )
                    UNION ALL
                    SELECT next.metric FROM metrics AS m CROSS JOIN LATERAL (
                        SELECT metric FROM open_minutes
                        WHERE metric > m.metric AND bucket >= p.since AND bucket < p.until
                        ORDER BY metric
                        LIMIT 1
                    ) AS next
                )
                SELECT min(m.bucket) AS bucket FROM metrics AS r CROSS JOIN LATERAL (
                    SELECT bucket FROM open_minutes
                    WHERE metric = r.metric AND bucket >= greatest(p.since, b.since) AND bucket < least(p.until, b.until)
                    ORDER BY bucket
                    LIMIT 1
                ) AS m
            ) AS f
            WHERE p.until > b.since AND p.since < b.until AND f.bucket IS NOT NULL
            ORDER BY p.since
            LIMIT 1
        )
    ), 'UTC') AS hour
) AS n
WHERE b.since < b.until AND n.hour IS NOT NULL;

-- name: begin_packing
-- Begins with the hour $1, before which there are no rows that are not packed. From now on what comes for it is noted. Returns the
-- number of the attempt.
WITH none AS (
    DELETE FROM late_minutes WHERE bucket >= (SELECT packed_until FROM rollups WHERE rollup = '1m')
)
UPDATE rollups
SET packed_until = $1, packing_until = $1::timestamptz + interval '1 hour', packing = packing + 1
WHERE rollup = '1m'
RETURNING packing;

-- name: without_jit
-- For the rest of the transaction: compiling what follows takes longer than doing it.
SET LOCAL jit = off;

-- name: metrics_of_day
-- Which metrics the day of the hour $1 has minutes of: the index says so, by one step a metric.
WITH RECURSIVE metrics (metric) AS (
    (
        SELECT metric FROM open_minutes
        WHERE bucket >= date_trunc('day', $1::timestamptz, 'UTC') AND bucket < date_trunc('day', $1, 'UTC') + interval '24 hours'
        ORDER BY metric
        LIMIT 1
    )
    UNION ALL
    SELECT next.metric FROM metrics AS m CROSS JOIN LATERAL (
        SELECT metric FROM open_minutes
        WHERE metric > m.metric
            AND bucket >= date_trunc('day', $1, 'UTC') AND bucket < date_trunc('day', $1, 'UTC') + interval '24 hours'
        ORDER BY metric
        LIMIT 1
    ) AS next
)
SELECT metric FROM metrics;

-- name: pack_metrics
-- Packs the metrics $2 of the hour $1 as they are now; says how many rows that makes. Each metric is one range of the index
-- (metric, bucket), and sorted by itself.
WITH packed AS (
    INSERT INTO packed_minutes (device_id, metric, hour, minutes, counts, sums, mins, maxs, regions, ats)
    SELECT h.device_id, r.metric, $1::timestamptz, h.minutes, h.counts, h.sums, h.mins, h.maxs, h.regions, h.ats
    FROM unnest($2::text[]) AS r (metric) CROSS JOIN LATERAL (
        SELECT
            device_id,
            CASE WHEN count(*) < 60 THEN array_agg(minute) END AS minutes,
            CASE WHEN max(count) > 1 THEN CASE WHEN min(count) = max(count) THEN ARRAY[max(count)] ELSE array_agg(count) END END AS counts,
            array_agg(sum) AS sums,
            CASE WHEN bool_or(min <> sum) THEN array_agg(min) END AS mins,
            CASE WHEN bool_or(max <> sum) THEN array_agg(max) END AS maxs,
            CASE
                WHEN count(region) = count(*) AND min(region COLLATE "C") = max(region COLLATE "C") THEN ARRAY[max(region COLLATE "C")]
                WHEN count(region) > 0 THEN array_agg(region)
            END AS regions,
            CASE WHEN count(at) = count(*) AND min(at) = max(at) THEN ARRAY[max(at)] WHEN count(at) > 0 THEN array_agg(at) END AS ats
        FROM (
            SELECT
                *, date_part('minute', bucket AT TIME ZONE 'UTC')::smallint AS minute,
                date_part('microseconds', region_at AT TIME ZONE 'UTC')::integer AS at
            FROM open_minutes
            WHERE metric = r.metric AND bucket >= $1 AND bucket < $1 + interval '1 hour'
            ORDER BY device_id, bucket
        ) AS m
        GROUP BY device_id
    ) AS h
    RETURNING 1
)
SELECT count(*) FROM packed;

-- name: end_packing
-- Lets the hour be read where packing $1 put it, unless that is not to count any more.
UPDATE rollups SET packed_until = packing_until
WHERE rollup = '1m' AND packing = $1
RETURNING true;

-- name: repack_late
-- What came for the hour $1 while it was packed: its rows, as they are now, are to be packed again.
WITH late AS (
    DELETE FROM late_minutes WHERE bucket >= $1 AND bucket < $1 + interval '1 hour' RETURNING device_id, metric
),
changed AS (
    SELECT DISTINCT device_id, metric FROM late
),
removed AS (
    DELETE FROM packed_minutes AS p USING changed AS c
    WHERE p.device_id = c.device_id AND p.metric = c.metric AND p.hour = $1
)
INSERT INTO late_minutes
SELECT m.* FROM changed AS c CROSS JOIN LATERAL (
    SELECT * FROM open_minutes
    WHERE device_id = c.device_id AND metric = c.metric AND bucket >= $1 AND bucket < $1 + interval '1 hour'
    OFFSET 0 -- a range for each
) AS m;

-- name: has_late_minutes
-- Whether anything has come for hours that are packed.
SELECT EXISTS (SELECT FROM late_minutes WHERE bucket < (SELECT packed_until FROM rollups WHERE rollup = '1m'));

-- name: merge_late_minutes
-- Merges what came for packed hours, each of which is unpacked, sorted and written once, by itself, however many of its minutes came.
WITH late AS (
    DELETE FROM late_minutes AS l USING rollups AS r WHERE r.rollup = '1m' AND l.bucket < r.packed_until RETURNING l.*
),
added AS (
    SELECT
        device_id, metric, date_trunc('hour', bucket, 'UTC') AS hour, date_part('minute', bucket AT TIME ZONE 'UTC')::smallint AS minute,
        (array_agg(region ORDER BY region_at DESC, region COLLATE "C" DESC) FILTER (WHERE region IS NOT NULL))[1] AS region,
        date_part('microseconds', max(region_at) AT TIME ZONE 'UTC')::integer AS at, sum(count)::bigint AS count,
        CASE WHEN count(*) = 1 THEN max(sum)
            ELSE least(1.79769313486231e308, greatest(-1.79769313486231e308, sum(sum::numeric)))::float8
        END AS sum, min(min) AS min, max(max) AS max
    FROM late
    GROUP BY device_id, metric, bucket
),
hours AS (
    SELECT
        device_id, metric, hour, array_agg(minute) AS minutes, array_agg(region) AS regions, array_agg(at) AS ats, array_agg(count) AS counts,
        array_agg(sum) AS sums, array_agg(min) AS mins, array_agg(max) AS maxs
    FROM added
    GROUP BY device_id, metric, hour
)
INSERT INTO packed_minutes AS p (device_id, metric, hour, minutes, counts, sums, mins, maxs, regions, ats)
SELECT h.device_id, h.metric, h.hour, m.minutes, m.counts, m.sums, m.mins, m.maxs, m.regions, m.ats
FROM hours AS h CROSS JOIN LATERAL (
    SELECT
        CASE WHEN count(*) < 60 THEN array_agg(minute) END AS minutes,
        CASE WHEN max(count) > 1 THEN CASE WHEN min(count) = max(count) THEN ARRAY[max(count)] ELSE array_agg(count) END END AS counts,
        array_agg(sum) AS sums,
        CASE WHEN bool_or(min <> sum) THEN array_agg(min) END AS mins,
        CASE WHEN bool_or(max <> sum) THEN array_agg(max) END AS maxs,
        CASE
            WHEN count(region) = count(*) AND min(region COLLATE "C") = max(region COLLATE "C") THEN ARRAY[max(region COLLATE "C")]
            WHEN count(region) > 0 THEN array_agg(region)
        END AS regions,
        CASE WHEN count(at) = count(*) AND min(at) = max(at) THEN ARRAY[max(at)] WHEN count(at) > 0 THEN array_agg(at) END AS ats
    FROM (
        SELECT
            minute,
            CASE
                WHEN coalesce((a.at, a.region COLLATE "C") > (p.at, p.region COLLATE "C"), p.region IS NULL) THEN a.region
                ELSE p.region
            END AS region,
            greatest(p.at, a.at) AS at, coalesce(p.count, 0) + coalesce(a.count, 0) AS count,
            saturating_sum(p.sum, a.sum) AS sum, least(p.min, a.min) AS min, greatest(p.max, a.max) AS max
        FROM (
            SELECT * FROM unpacked_minutes WHERE device_id = h.device_id AND metric = h.metric AND hour = h.hour
        ) AS p
        FULL JOIN unnest(h.minutes, h.regions, h.ats, h.counts, h.sums, h.mins, h.maxs)
            AS a (minute, region, at, count, sum, min, max) USING (minute)
        ORDER BY minute
    ) AS m
) AS m
ON CONFLICT (device_id, metric, hour) DO UPDATE SET
    minutes = excluded.minutes, counts = excluded.counts, sums = excluded.sums, mins = excluded.mins, maxs = excluded.maxs,
    regions = excluded.regions, ats = excluded.ats;
