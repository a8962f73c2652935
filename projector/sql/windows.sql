-- What a device measured lately.

-- name: are_kept
-- Of each of some times, whether both minutes and hours are kept since then.
SELECT array_agg(s.since >= (SELECT max(kept_since) FROM rollups) ORDER BY s.nth)
FROM unnest($1::timestamptz[]) WITH ORDINALITY AS s (since, nth);

-- name: first_rows_after
-- The first row of each of the streams $1 after the row $2 of it that is still there, and when it was written.
SELECT a.stream, o.n, o.created_at
FROM unnest($1::bigint[], $2::bigint[]) AS a (stream, n)
CROSS JOIN LATERAL (SELECT n, created_at FROM outbox WHERE stream = a.stream AND outbox.n > a.n ORDER BY outbox.n LIMIT 1) AS o;

-- name: read_windows
-- What each of the metrics $2 of device $1 amounts to in windows that begin at $3, the longest first, and end at $4; of the second the
-- first and the last minute too, as seconds since 1970, count and sum. Of what comes before $5, which is an hour, whole hours are read
-- as such once they are not open any more. Sums are parts of 2048: those of a day, however large, add up to what a double holds.
WITH hours AS (
    SELECT h.since, greatest(h.since, least(o.since, $5)) AS until
    FROM open_hours AS o, date_trunc('hour', ($3::timestamptz[])[1] + interval '59 minutes', 'UTC') AS h (since)
)
SELECT w.metric, m.*
FROM unnest($2::text[]) AS w (metric)
CROSS JOIN hours AS h
CROSS JOIN LATERAL (
    SELECT
        sum(count)::bigint AS count, sum(sum / 2048) AS sum, min(min) AS min, max(max) AS max,
        sum(count) FILTER (WHERE bucket >= ($3::timestamptz[])[2])::bigint AS count_2,
        sum(sum / 2048) FILTER (WHERE bucket >= ($3::timestamptz[])[2]) AS sum_2,
        min(min) FILTER (WHERE bucket >= ($3::timestamptz[])[2]) AS min_2,
        max(max) FILTER (WHERE bucket >= ($3::timestamptz[])[2]) AS max_2,
        sum(count) FILTER (WHERE bucket >= ($3::timestamptz[])[3])::bigint AS count_3,
        sum(sum / 2048) FILTER (WHERE bucket >= ($3::timestamptz[])[3]) AS sum_3,
        min(min) FILTER (WHERE bucket >= ($3::timestamptz[])[3]) AS min_3,
        max(max) FILTER (WHERE bucket >= ($3::timestamptz[])[3]) AS max_3,
        min(ARRAY[extract(epoch FROM bucket)::float8, count, sum / 2048]) FILTER (WHERE bucket >= ($3::timestamptz[])[2]) AS first,
        max(ARRAY[extract(epoch FROM bucket)::float8, count, sum / 2048]) FILTER (WHERE bucket >= ($3::timestamptz[])[2]) AS last
    FROM (
        SELECT bucket, count, sum, min, max FROM measurements_1m
        WHERE device_id = $1 AND metric = w.metric AND bucket >= ($3::timestamptz[])[1] AND bucket < h.since
            AND hour > ($3::timestamptz[])[1] - interval '1 hour' AND hour < h.since
        UNION ALL
        SELECT bucket, count, sum, min, max FROM measurements_1h
        WHERE device_id = $1 AND metric = w.metric AND bucket >= h.since AND bucket < h.until
        UNION ALL
        SELECT bucket, count, sum, min, max FROM measurements_1m
        WHERE device_id = $1 AND metric = w.metric AND bucket >= h.until AND bucket < $4 AND hour >= h.until AND hour < $4
    ) AS b
) AS m
WHERE m.count IS NOT NULL;
