-- What the dashboards ask PostgreSQL, with Grafana's own macros and variables in it. Text from variables is quoted by Grafana
-- (`:sqlstring`). A range is read by the minute as long as that is few rows, by the hour beyond; the half of a UNION whose
-- condition on the range is false is never planned. What is asked again at every refresh reads a bounded number of rows.

-- name: metrics
-- Every metric there is, by skipping from one to the next in the index.
WITH RECURSIVE m AS (
    SELECT (SELECT min(metric) FROM regions_1h) AS metric
    UNION ALL
    SELECT (SELECT min(r.metric) FROM regions_1h AS r WHERE r.metric > m.metric) FROM m WHERE m.metric IS NOT NULL
)
SELECT metric FROM m WHERE metric IS NOT NULL
LIMIT 1000

-- name: regions
-- The regions that sent a metric in the range.
SELECT DISTINCT region FROM regions_1h
WHERE metric = ${metric:sqlstring} AND region <> ''
    AND bucket BETWEEN $__timeFrom()::timestamptz - interval '1 hour' AND $__timeTo()::timestamptz
ORDER BY region
LIMIT 1000

-- name: regions_and_none
-- The same, and last what stands for the devices that name no region.
SELECT coalesce(nullif(r.region, ''), '(none)') AS region FROM regions_1h AS r
WHERE metric = ${metric:sqlstring}
    AND bucket BETWEEN $__timeFrom()::timestamptz - interval '1 hour' AND $__timeTo()::timestamptz
GROUP BY r.region
ORDER BY r.region = '', r.region
LIMIT 1000

-- name: fleet_average
-- The average of a metric in each region over time.
SELECT $__timeGroupAlias(bucket, $__interval), coalesce(nullif(region, ''), '(none)') AS metric, sum(sum) / sum(count) AS average
FROM (
    SELECT bucket, region, sum, count FROM regions_1m
    WHERE $__unixEpochTo() - $__unixEpochFrom() <= 172800 AND metric = ${metric:sqlstring} AND $__timeFilter(bucket)
    UNION ALL
    SELECT bucket, region, sum, count FROM regions_1h
    WHERE $__unixEpochTo() - $__unixEpochFrom() > 172800 AND metric = ${metric:sqlstring} AND $__timeFilter(bucket)
) AS b
GROUP BY 1, 2
ORDER BY 1

-- name: fleet_rate
-- Values a second of a metric from each region over time. A bucket of an hour counts for its whole hour.
SELECT
    $__timeGroupAlias(bucket, $__interval), coalesce(nullif(region, ''), '(none)') AS metric,
    (sum(count) / greatest($__interval_ms / 1000.0, max(width_s)))::double precision AS rate
FROM (
    SELECT bucket, region, count, 60 AS width_s FROM regions_1m
    WHERE $__unixEpochTo() - $__unixEpochFrom() <= 172800 AND metric = ${metric:sqlstring} AND $__timeFilter(bucket)
    UNION ALL
    SELECT bucket, region, count, 3600 FROM regions_1h
    WHERE $__unixEpochTo() - $__unixEpochFrom() > 172800 AND metric = ${metric:sqlstring} AND $__timeFilter(bucket)
) AS b
GROUP BY 1, 2
ORDER BY 1

-- name: hot_regions
-- Regions by their average in the last quarter of an hour of the range, the highest first.
SELECT region, sum(sum) / sum(count) AS average, min(min) AS lowest, max(max) AS highest, sum(count) AS values
FROM (
    SELECT coalesce(nullif(region, ''), '(none)') AS region, sum, min, max, count FROM regions_1m
    WHERE metric = ${metric:sqlstring}
        AND bucket BETWEEN $__timeTo()::timestamptz - interval '15 minutes' AND $__timeTo()::timestamptz
) AS r
GROUP BY region
ORDER BY average DESC
LIMIT 20

-- name: devices_known
-- How many devices were ever seen. `devices` is read through for this and what follows, which is small beside measurements.
SELECT count(last_seen) AS devices FROM devices

-- name: oldest_readings
-- Devices by their newest readings, the longest ago first. `last_seen` goes by the devices' clocks, so do those that follow.
SELECT device_id, name, coalesce(nullif(region, ''), '(none)') AS region, last_seen FROM devices
WHERE last_seen IS NOT NULL
ORDER BY last_seen
LIMIT 20

-- name: clocks_ahead
-- Devices whose newest message was measured more than five minutes after it came, the furthest ahead first; of the thousand
-- with the newest times, which such devices have. Such a time is not to be believed: the newest in the order of the views decides,
-- among the messages with the newest times and those with usual ones. So a clock that was put right is not ahead any more.
WITH claimed AS (
    SELECT device_id, ts
    FROM (
        SELECT device_id, last_seen FROM devices ORDER BY last_seen DESC NULLS LAST LIMIT 1000
    ) AS heard CROSS JOIN LATERAL (
        SELECT ts, received_at FROM measurements
        WHERE device_id = heard.device_id AND ts >= heard.last_seen
        ORDER BY ts DESC
        LIMIT 1
    ) AS m
    WHERE ts > received_at + interval '5 minutes'
    ORDER BY ts - received_at DESC
    LIMIT 300
)
SELECT
    device_id, extract(epoch FROM m.ts - received_at)::double precision AS ahead,
    (SELECT d.name FROM devices AS d WHERE d.device_id = claimed.device_id) AS name
FROM claimed CROSS JOIN LATERAL (
    SELECT ts, received_at FROM (
        (
            SELECT ts, received_at FROM measurements
            WHERE device_id = claimed.device_id AND ts >= claimed.ts - interval '1 hour'
            ORDER BY ts DESC
            LIMIT 10
        )
        UNION ALL
        (
            SELECT ts, received_at FROM measurements
            WHERE device_id = claimed.device_id AND ts BETWEEN now() - interval '1 day' AND now() + interval '5 minutes'
            ORDER BY ts DESC
            LIMIT 10
        )
    ) AS either
    ORDER BY least(ts, received_at + interval '5 minutes') DESC, received_at DESC
    LIMIT 1
) AS m
WHERE m.ts > received_at + interval '5 minutes'
ORDER BY ahead DESC
LIMIT 20

-- name: regions_now
-- The chosen regions: their devices, and a metric's values in the last quarter of an hour of the range.
WITH every AS MATERIALIZED (
    SELECT
        coalesce(nullif(region, ''), '(none)') AS region, count(*) AS devices,
        count(*) FILTER (WHERE last_seen < $__timeFrom()::timestamptz) AS silent, max(least(last_seen, now())) AS last_seen
    FROM devices
    WHERE last_seen IS NOT NULL
    GROUP BY 1
), lately AS (
    SELECT
        coalesce(nullif(region, ''), '(none)') AS region, sum(sum) / sum(count) AS average, min(min) AS lowest, max(max) AS highest,
        sum(count) AS values
    FROM regions_1m
    WHERE metric = ${metric:sqlstring} AND coalesce(nullif(region, ''), '(none)') IN (${region:sqlstring})
        AND bucket BETWEEN $__timeTo()::timestamptz - interval '15 minutes' AND $__timeTo()::timestamptz
    GROUP BY 1
)
SELECT region, devices, silent, last_seen, average, lowest, highest, values
FROM every LEFT JOIN lately USING (region)
WHERE region IN (${region:sqlstring})
ORDER BY region
LIMIT 200

-- name: region_band
-- Lowest, average and highest value of a metric in the chosen regions together.
SELECT $__timeGroupAlias(bucket, $__interval), min(min) AS lowest, sum(sum) / sum(count) AS average, max(max) AS highest
FROM (
    SELECT bucket, min, max, sum, count FROM regions_1m
    WHERE $__unixEpochTo() - $__unixEpochFrom() <= 172800
        AND metric = ${metric:sqlstring} AND coalesce(nullif(region, ''), '(none)') IN (${region:sqlstring})
        AND $__timeFilter(bucket)
    UNION ALL
    SELECT bucket, min, max, sum, count FROM regions_1h
    WHERE $__unixEpochTo() - $__unixEpochFrom() > 172800
        AND metric = ${metric:sqlstring} AND coalesce(nullif(region, ''), '(none)') IN (${region:sqlstring})
        AND $__timeFilter(bucket)
) AS b
GROUP BY 1
ORDER BY 1

-- name: region_averages
-- The average of a metric in each chosen region over time.
SELECT $__timeGroupAlias(bucket, $__interval), coalesce(nullif(region, ''), '(none)') AS metric, sum(sum) / sum(count) AS average
FROM (
    SELECT bucket, region, sum, count FROM regions_1m
    WHERE $__unixEpochTo() - $__unixEpochFrom() <= 172800
        AND metric = ${metric:sqlstring} AND coalesce(nullif(region, ''), '(none)') IN (${region:sqlstring})
        AND $__timeFilter(bucket)
    UNION ALL
    SELECT bucket, region, sum, count FROM regions_1h
    WHERE $__unixEpochTo() - $__unixEpochFrom() > 172800
        AND metric = ${metric:sqlstring} AND coalesce(nullif(region, ''), '(none)') IN (${region:sqlstring})
        AND $__timeFilter(bucket)
) AS b
GROUP BY 1, 2
ORDER BY 1

-- name: hot_devices
-- Devices of the chosen regions by their average in the last five minutes of the range, the highest first.
SELECT
    device_id, coalesce(nullif(min(region), ''), '(none)') AS region, sum(sum) / sum(count) AS average, max(max) AS highest,
    sum(count) AS values
FROM measurements_1m
WHERE metric = ${metric:sqlstring} AND coalesce(nullif(region, ''), '(none)') IN (${region:sqlstring})
    AND bucket BETWEEN $__timeTo()::timestamptz - interval '5 minutes' AND $__timeTo()::timestamptz
    AND hour BETWEEN $__timeTo()::timestamptz - interval '65 minutes' AND $__timeTo()::timestamptz
GROUP BY device_id
ORDER BY average DESC
LIMIT 20

-- name: tags
-- The names of tags. There is no index of tags: what the thousand devices heard last sent in the range tells. `devices`
-- is read through for them, which is small beside everything else that grows.
WITH heard AS (
    SELECT device_id FROM devices ORDER BY last_seen DESC NULLS LAST LIMIT 1000
), newest AS (
    SELECT m.* FROM heard CROSS JOIN LATERAL (
        SELECT device_id, ts, metrics, tags FROM measurements
        WHERE device_id = heard.device_id AND $__timeFilter(ts)
        ORDER BY ts DESC
        LIMIT 3
    ) AS m
)
SELECT DISTINCT name FROM newest CROSS JOIN LATERAL jsonb_object_keys(tags) AS name ORDER BY name LIMIT 100

-- name: tag_values
-- The values of a tag, from where its name is.
WITH heard AS (
    SELECT device_id FROM devices ORDER BY last_seen DESC NULLS LAST LIMIT 1000
), newest AS (
    SELECT m.* FROM heard CROSS JOIN LATERAL (
        SELECT device_id, ts, metrics, tags FROM measurements
        WHERE device_id = heard.device_id AND $__timeFilter(ts)
        ORDER BY ts DESC
        LIMIT 3
    ) AS m
)
SELECT DISTINCT tags ->> ${tag:sqlstring} AS value FROM newest WHERE tags ? ${tag:sqlstring} ORDER BY value LIMIT 500

-- name: tagged_devices
-- Devices with the chosen tag, and what they sent with it last.
WITH heard AS (
    SELECT device_id FROM devices ORDER BY last_seen DESC NULLS LAST LIMIT 1000
), newest AS (
    SELECT m.* FROM heard CROSS JOIN LATERAL (
        SELECT device_id, ts, metrics, tags FROM measurements
        WHERE device_id = heard.device_id AND $__timeFilter(ts)
        ORDER BY ts DESC
        LIMIT 3
    ) AS m
)
SELECT DISTINCT ON (device_id)
    device_id, (SELECT d.name FROM devices AS d WHERE d.device_id = newest.device_id) AS name, ts,
    metrics ->> ${metric:sqlstring} AS last, tags::text AS tags
FROM newest
WHERE tags ->> ${tag:sqlstring} = ${value:sqlstring}
ORDER BY device_id, ts DESC
LIMIT 200

-- name: tagged_averages
-- The average of a metric of each device with the chosen tag over time, of the first twenty.
WITH heard AS (
    SELECT device_id FROM devices ORDER BY last_seen DESC NULLS LAST LIMIT 1000
), newest AS (
    SELECT m.* FROM heard CROSS JOIN LATERAL (
        SELECT device_id, ts, metrics, tags FROM measurements
        WHERE device_id = heard.device_id AND $__timeFilter(ts)
        ORDER BY ts DESC
        LIMIT 3
    ) AS m
), tagged AS (
    SELECT DISTINCT device_id FROM newest WHERE tags ->> ${tag:sqlstring} = ${value:sqlstring} ORDER BY device_id LIMIT 20
)
SELECT $__timeGroupAlias(bucket, $__interval), device_id AS metric, sum(sum) / sum(count) AS average
FROM (
    SELECT bucket, device_id, sum, count FROM tagged JOIN measurements_1m USING (device_id)
    WHERE $__unixEpochTo() - $__unixEpochFrom() <= 172800 AND metric = ${metric:sqlstring} AND $__timeFilter(bucket)
        AND hour BETWEEN $__timeFrom()::timestamptz - interval '1 hour' AND $__timeTo()::timestamptz
    UNION ALL
    SELECT bucket, device_id, sum, count FROM tagged JOIN measurements_1h USING (device_id)
    WHERE $__unixEpochTo() - $__unixEpochFrom() > 172800 AND metric = ${metric:sqlstring} AND $__timeFilter(bucket)
) AS b
GROUP BY 1, 2
ORDER BY 1

-- name: devices
-- Devices whose id begins with what is typed into the variable, or whose name has it; each with its name.
SELECT device_id AS __value, device_id || coalesce(' · ' || name, '') AS __text FROM devices
WHERE device_id LIKE '$__searchFilter' OR name ILIKE '%$__searchFilter'
ORDER BY device_id
LIMIT 500

-- name: device_metrics
-- Every metric of a device, by skipping from one to the next in the index.
WITH RECURSIVE m AS (
    SELECT (SELECT min(metric) FROM measurements_1h WHERE device_id = ${device:sqlstring}) AS metric
    UNION ALL
    SELECT (SELECT min(h.metric) FROM measurements_1h AS h WHERE h.device_id = ${device:sqlstring} AND h.metric > m.metric)
    FROM m
    WHERE m.metric IS NOT NULL
)
SELECT metric FROM m WHERE metric IS NOT NULL
LIMIT 1000

-- name: device_tags
-- The names of tags in a device's newest messages.
SELECT DISTINCT name
FROM (
    SELECT tags FROM measurements WHERE device_id = ${device:sqlstring} AND $__timeFilter(ts) ORDER BY ts DESC LIMIT 1000
) AS newest CROSS JOIN LATERAL jsonb_object_keys(tags) AS name
ORDER BY name
LIMIT 100

-- name: device_tag_values
-- The values of a tag in a device's newest messages; before them what stands for all messages, with that tag or without.
SELECT value
FROM (
    SELECT '(any)' AS value, 0 AS place
    UNION
    SELECT tags ->> ${tag:sqlstring}, 1
    FROM (
        SELECT tags FROM measurements WHERE device_id = ${device:sqlstring} AND $__timeFilter(ts) ORDER BY ts DESC LIMIT 1000
    ) AS newest
    WHERE tags ? ${tag:sqlstring}
) AS v
ORDER BY place, value
LIMIT 500

-- name: device_seen
-- When a device was last heard of: by its clock, at most five minutes after arrival, and when something came; as epoch
-- milliseconds. Without messages, their days dropped, what `devices` knows. Here and in what follows times that are ahead are
-- read apart, so that however many a wrong clock left they do not hide what came since it was put right.
SELECT
    extract(epoch FROM coalesce(max(least(m.ts, m.received_at + interval '5 minutes')), d.last_seen))::double precision * 1000
        AS last_seen,
    extract(epoch FROM max(m.received_at))::double precision * 1000 AS arrived
FROM devices AS d LEFT JOIN LATERAL (
    (
        SELECT ts, received_at FROM measurements
        WHERE device_id = d.device_id
            AND ts BETWEEN least(d.last_seen, now()) - interval '1 day' AND now() + interval '5 minutes'
        ORDER BY ts DESC
        LIMIT 1000
    )
    UNION ALL
    (
        SELECT ts, received_at FROM measurements
        WHERE device_id = d.device_id AND ts > now() + interval '5 minutes'
        ORDER BY ts DESC
        LIMIT 1000
    )
) AS m ON true
WHERE d.device_id = ${device:sqlstring}
GROUP BY d.last_seen

-- name: device_region
-- The region that a device's newest message named.
SELECT coalesce(nullif(region, ''), '(none)') AS region FROM devices WHERE device_id = ${device:sqlstring}

-- name: device_now
-- The newest value of a metric among a device's newest thousand messages of its last day and the thousand that are furthest
-- ahead, whatever the range, and what the range amounts to.
SELECT
    (
        SELECT
            CASE jsonb_typeof(metrics -> ${metric:sqlstring})
                WHEN 'number' THEN (metrics ->> ${metric:sqlstring})::double precision
                WHEN 'boolean' THEN (metrics ->> ${metric:sqlstring})::boolean::integer
            END
        FROM (
            (
                SELECT ts, received_at, metrics FROM measurements
                WHERE device_id = ${device:sqlstring} AND ts <= now() + interval '5 minutes' AND ts >= (
                    SELECT least(last_seen, now()) - interval '1 day' FROM devices WHERE device_id = ${device:sqlstring}
                )
                ORDER BY ts DESC
                LIMIT 1000
            )
            UNION ALL
            (
                SELECT ts, received_at, metrics FROM measurements
                WHERE device_id = ${device:sqlstring} AND ts > now() + interval '5 minutes'
                ORDER BY ts DESC
                LIMIT 1000
            )
        ) AS newest
        WHERE jsonb_typeof(metrics -> ${metric:sqlstring}) IN ('number', 'boolean')
        ORDER BY least(ts, received_at + interval '5 minutes') DESC, received_at DESC
        LIMIT 1
    ) AS last,
    sum(sum) / sum(count) AS average, min(min) AS lowest, max(max) AS highest, sum(count)::double precision AS values
FROM (
    SELECT min, max, sum, count FROM measurements_1m
    WHERE $__unixEpochTo() - $__unixEpochFrom() <= 172800
        AND device_id = ${device:sqlstring} AND metric = ${metric:sqlstring} AND $__timeFilter(bucket)
        AND hour BETWEEN $__timeFrom()::timestamptz - interval '1 hour' AND $__timeTo()::timestamptz
    UNION ALL
    SELECT min, max, sum, count FROM measurements_1h
    WHERE $__unixEpochTo() - $__unixEpochFrom() > 172800
        AND device_id = ${device:sqlstring} AND metric = ${metric:sqlstring} AND $__timeFilter(bucket)
) AS b

-- name: device_statistics
-- Every metric of a device: its newest value among the newest thousand messages of its last day and the thousand that are
-- furthest ahead, whatever the range, and what it amounts to in the hours of the range. A text has no statistics.
WITH last AS (
    SELECT DISTINCT ON (each.metric) each.metric, each.value, newest.ts
    FROM (
        (
            SELECT ts, received_at, metrics FROM measurements
            WHERE device_id = ${device:sqlstring} AND ts <= now() + interval '5 minutes' AND ts >= (
                SELECT least(last_seen, now()) - interval '1 day' FROM devices WHERE device_id = ${device:sqlstring}
            )
            ORDER BY ts DESC
            LIMIT 1000
        )
        UNION ALL
        (
            SELECT ts, received_at, metrics FROM measurements
            WHERE device_id = ${device:sqlstring} AND ts > now() + interval '5 minutes'
            ORDER BY ts DESC
            LIMIT 1000
        )
    ) AS newest CROSS JOIN LATERAL jsonb_each_text(newest.metrics) AS each (metric, value)
    ORDER BY each.metric, least(newest.ts, newest.received_at + interval '5 minutes') DESC, newest.received_at DESC
), hours AS (
    SELECT metric, sum(sum) / sum(count) AS average, min(min) AS lowest, max(max) AS highest, sum(count) AS values
    FROM measurements_1h
    WHERE device_id = ${device:sqlstring}
        AND bucket BETWEEN $__timeFrom()::timestamptz - interval '1 hour' AND $__timeTo()::timestamptz
    GROUP BY metric
)
SELECT metric, value AS last, ts, average, lowest, highest, values
FROM last FULL JOIN hours USING (metric)
ORDER BY metric
LIMIT 500

-- name: device_band
-- Lowest, average and highest value of a device's metric over time.
SELECT $__timeGroupAlias(bucket, $__interval), min(min) AS lowest, sum(sum) / sum(count) AS average, max(max) AS highest
FROM (
    SELECT bucket, min, max, sum, count FROM measurements_1m
    WHERE $__unixEpochTo() - $__unixEpochFrom() <= 172800
        AND device_id = ${device:sqlstring} AND metric = ${metric:sqlstring} AND $__timeFilter(bucket)
        AND hour BETWEEN $__timeFrom()::timestamptz - interval '1 hour' AND $__timeTo()::timestamptz
    UNION ALL
    SELECT bucket, min, max, sum, count FROM measurements_1h
    WHERE $__unixEpochTo() - $__unixEpochFrom() > 172800
        AND device_id = ${device:sqlstring} AND metric = ${metric:sqlstring} AND $__timeFilter(bucket)
) AS b
GROUP BY 1
ORDER BY 1

-- name: device_values
-- A device's newest values in the range with the chosen tag, each as it was sent; among its newest ten thousand messages.
SELECT time, value FROM (
    SELECT
        ts AS time,
        CASE jsonb_typeof(metrics -> ${metric:sqlstring})
            WHEN 'number' THEN (metrics ->> ${metric:sqlstring})::double precision
            WHEN 'boolean' THEN (metrics ->> ${metric:sqlstring})::boolean::integer
        END AS value
    FROM (
        SELECT ts, metrics, tags FROM measurements
        WHERE device_id = ${device:sqlstring} AND $__timeFilter(ts)
        ORDER BY ts DESC
        LIMIT 10000
    ) AS latest
    WHERE ${value:sqlstring} = '(any)' OR tags ->> ${tag:sqlstring} = ${value:sqlstring}
    ORDER BY ts DESC
    LIMIT 1000
) AS newest
ORDER BY time

-- name: device_delay
-- How long a device's newest messages were under way, by its clock and the gateway's.
SELECT time, delay FROM (
    SELECT ts AS time, extract(epoch FROM received_at - ts)::double precision AS delay
    FROM measurements
    WHERE device_id = ${device:sqlstring} AND $__timeFilter(ts)
    ORDER BY ts DESC
    LIMIT 1000
) AS newest
ORDER BY time

-- name: device_messages
-- A device's newest messages in the range with the chosen tag; among its newest ten thousand.
SELECT ts, received_at, message_key, region, metrics::text AS metrics, tags::text AS tags
FROM (
    SELECT * FROM measurements
    WHERE device_id = ${device:sqlstring} AND $__timeFilter(ts)
    ORDER BY ts DESC
    LIMIT 10000
) AS latest
WHERE ${value:sqlstring} = '(any)' OR tags ->> ${tag:sqlstring} = ${value:sqlstring}
ORDER BY ts DESC
LIMIT 100

-- name: device_dead_letters
-- What of a device was rejected, among the newest thousand dead letters.
SELECT received_at, reason, topic, left(error, 200) AS error
FROM (SELECT id, received_at, device_id, reason, topic, error FROM dead_letters ORDER BY id DESC LIMIT 1000) AS newest
WHERE device_id = ${device:sqlstring}
ORDER BY id DESC

-- name: dead_letters
-- The newest dead letters.
SELECT received_at, reason, device_id, topic, left(error, 200) AS error FROM dead_letters ORDER BY id DESC LIMIT 50
