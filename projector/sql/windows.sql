-- What a device measured lately.

-- name: are_kept
-- Of each of some times, whether both minutes and hours are kept since then.
SELECT array_agg(s.since >= (SELECT max(kept_since) FROM rollups) ORDER BY s.nth)
FROM unnest($1::timestamptz[]) WITH ORDINALITY AS s (since, nth);

-- name: read_windows
-- What each of the metrics $2 of device $1 amounts to in windows that begin at $3, the longest first, and end at $4; of a window the
-- first and the last bucket too. Of what comes before $5, which is an hour, whole hours are read as such once they are not open any
-- more. Sums are parts of 2048: those of a day, however large, add up to what a double holds.
WITH hours AS (
    SELECT h.since, greatest(h.since, least(o.since, $5)) AS until
    FROM open_hours AS o, date_trunc('hour', ($3::timestamptz[])[1] + interval '59 minutes', 'UTC') AS h (since)
),
measured AS (
    SELECT w.metric, m.bucket, m.count, m.sum, m.min, m.max
    FROM unnest($2::text[]) AS w (metric)
    CROSS JOIN hours AS h
    CROSS JOIN LATERAL (
        SELECT bucket, count, sum, min, max FROM measurements_1m
        WHERE device_id = $1 AND metric = w.metric AND bucket >= ($3::timestamptz[])[1] AND bucket < h.since
            AND hour > ($3::timestamptz[])[1] - interval '1 hour' AND hour < h.since
        UNION ALL
        SELECT bucket, count, sum, min, max FROM measurements_1h
        WHERE device_id = $1 AND metric = w.metric AND bucket >= h.since AND bucket < h.until
        UNION ALL
        SELECT bucket, count, sum, min, max FROM measurements_1m
        WHERE device_id = $1 AND metric = w.metric AND bucket >= h.until AND bucket < $4 AND hour >= h.until AND hour < $4
    ) AS m
)
SELECT
    metric, nth, sum(count)::bigint AS count, sum(sum / 2048) AS sum, min(min) AS min, max(max) AS max,
    first, sum(count) FILTER (WHERE bucket = first)::bigint AS first_count, sum(sum / 2048) FILTER (WHERE bucket = first) AS first_sum,
    last, sum(count) FILTER (WHERE bucket = last)::bigint AS last_count, sum(sum / 2048) FILTER (WHERE bucket = last) AS last_sum
FROM (
    SELECT *, min(bucket) OVER both_keys AS first, max(bucket) OVER both_keys AS last
    FROM measured JOIN unnest($3::timestamptz[]) WITH ORDINALITY AS s (since, nth) ON bucket >= since
    WINDOW both_keys AS (PARTITION BY metric, nth)
) AS m
GROUP BY metric, nth, first, last;
