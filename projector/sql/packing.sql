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

-- name: begin_packing
-- Says which hour is packed next: the first that has rows, two hours after its end, by what history has of the outbox, and when the
-- hours by device that are made of its minutes are made. From now on what comes for it is noted. Null: there is none, and all before
-- is packed.
WITH bounds AS (
    SELECT m.packed_until AS since, least(date_trunc('hour', least(now(), w.since) - interval '2 hours', 'UTC'), h.open_since) AS until
    FROM rollups AS m, rollups AS h, (
        SELECT min(oldest.created_at) AS since
        FROM streams AS s LEFT JOIN LATERAL projection_at('history', s.stream) AS p ON true
        CROSS JOIN LATERAL (
            SELECT o.created_at FROM outbox AS o WHERE o.stream = s.stream AND o.n > coalesce(p.n, 0) ORDER BY o.n LIMIT 1
        ) AS oldest
    ) AS w
    WHERE m.rollup = '1m' AND h.rollup = '1h'
),
next AS (
    SELECT date_trunc('hour', least(
        (SELECT min(bucket) FROM open_minutes_default WHERE bucket >= b.since AND bucket < b.until),
        (
            SELECT coalesce(
                nullif(greatest(p.since, b.since), '-infinity'), (SELECT min(bucket) FROM open_minutes WHERE bucket < p.until)
            )
            FROM (SELECT * FROM partitions_of('open_minutes') ORDER BY since) AS p
            WHERE p.until > b.since AND p.since < b.until
                AND EXISTS (SELECT FROM open_minutes AS m WHERE m.bucket >= p.since AND m.bucket < p.until)
            LIMIT 1
        )
    ), 'UTC') AS hour
    FROM bounds AS b
),
none AS (
    DELETE FROM late_minutes AS l USING bounds AS b WHERE l.bucket >= b.since
)
UPDATE rollups AS r
SET
    packed_until = greatest(b.since, least(n.hour, b.until)),
    packing_until = greatest(b.since, least(n.hour + interval '1 hour', b.until)),
    packing = r.packing + 1
FROM bounds AS b, next AS n
WHERE r.rollup = '1m' AND b.since < b.until
RETURNING r.packing, CASE WHEN n.hour < b.until THEN n.hour END AS hour;

-- name: without_jit
-- For the rest of the transaction: compiling what follows takes longer than doing it.
SET LOCAL jit = off;

-- name: pack_hour
-- Packs the hour $1 as it is now; says how many rows it makes. Each metric is one range of the index (metric, bucket), and sorted
-- by itself. Which metrics there are the index says, by one step a metric.
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
),
packed AS (
    INSERT INTO packed_minutes (device_id, metric, hour, minutes, counts, sums, mins, maxs, regions, ats)
    SELECT h.device_id, r.metric, $1, h.minutes, h.counts, h.sums, h.mins, h.maxs, h.regions, h.ats
    FROM metrics AS r CROSS JOIN LATERAL (
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
-- Merges what came for packed hours, each of which is written once, however many of its minutes came.
WITH late AS (
    DELETE FROM late_minutes AS l USING rollups AS r WHERE r.rollup = '1m' AND l.bucket < r.packed_until RETURNING l.*
),
added AS MATERIALIZED (
    SELECT
        device_id, metric, bucket,
        (array_agg(region ORDER BY region_at DESC, region COLLATE "C" DESC) FILTER (WHERE region IS NOT NULL))[1] AS region,
        max(region_at) AS region_at, sum(count)::bigint AS count,
        least(1.79769313486231e308, greatest(-1.79769313486231e308, sum(sum::numeric)))::float8 AS sum, min(min) AS min, max(max) AS max
    FROM late
    GROUP BY 1, 2, 3
),
hours AS (
    SELECT DISTINCT device_id, metric, date_trunc('hour', bucket, 'UTC') AS hour FROM late
),
packed AS (
    SELECT u.device_id, u.metric, u.bucket, u.region, u.region_at, u.count, u.sum, u.min, u.max
    FROM hours AS h CROSS JOIN LATERAL (
        SELECT * FROM unpacked_minutes
        WHERE device_id = h.device_id AND metric = h.metric AND hour = h.hour
        OFFSET 0 -- a look into the index for each
    ) AS u
),
merged AS (
    SELECT
        device_id, metric, bucket,
        CASE
            WHEN coalesce((a.region_at, a.region COLLATE "C") > (p.region_at, p.region COLLATE "C"), p.region IS NULL) THEN a.region
            ELSE p.region
        END AS region,
        greatest(p.region_at, a.region_at) AS region_at, coalesce(p.count, 0) + coalesce(a.count, 0) AS count,
        saturating_sum(p.sum, a.sum) AS sum, least(p.min, a.min) AS min, greatest(p.max, a.max) AS max
    FROM packed AS p FULL JOIN added AS a USING (device_id, metric, bucket)
)
INSERT INTO packed_minutes AS p (device_id, metric, hour, minutes, counts, sums, mins, maxs, regions, ats)
SELECT
    device_id, metric, hour,
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
        *, date_trunc('hour', bucket, 'UTC') AS hour, date_part('minute', bucket AT TIME ZONE 'UTC')::smallint AS minute,
        date_part('microseconds', region_at AT TIME ZONE 'UTC')::integer AS at
    FROM merged
    ORDER BY device_id, metric, bucket
) AS m
GROUP BY device_id, metric, hour
ON CONFLICT (device_id, metric, hour) DO UPDATE SET
    minutes = excluded.minutes, counts = excluded.counts, sums = excluded.sums, mins = excluded.mins, maxs = excluded.maxs,
    regions = excluded.regions, ats = excluded.ats;
