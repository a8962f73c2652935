-- What a fold of everything stored reads. Each row leaves as a line of JSON, in the order of the struct that takes it.

-- name: lock_truth
-- Dropping a partition does not wait for snapshots: a reader with an older one would miss the day's rows and not yet see what
-- they amounted to. This must be had before the snapshot is taken.
LOCK TABLE measurements, retired_statistics IN ACCESS SHARE MODE;

-- name: added_up
-- The days that are read as what they amount to, by partition, and how many measurements those are: all that are settled, if that is
-- asked for ($1); those that leave in any case, as part of them is among the retired ones, and those are not counted as measurements.
SELECT
    coalesce(array_agg(partition), '{}') AS partitions,
    coalesce(sum(measurements) FILTER (WHERE state = 'settled'), 0)::bigint AS measurements
FROM days_added_up
WHERE state = 'leaving' OR $1;

-- name: estimate_measurements
-- About how many measurements there are in the partitions but for these ($1), for the progress bar; 0 when the server has not
-- counted yet.
SELECT coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint
FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
WHERE i.inhparent = 'measurements'::regclass AND c.relname <> ALL ($1::text[]);

-- name: read_measurements
-- The statements that read measurements, in whatever order is cheapest: of each partition but for these ($1), and of these what came
-- late. Of a day that is settled also its name and how many there have to be.
SELECT format($statement$
    SELECT json_build_array(
        device_id, region,
        to_char(ts AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        to_char(received_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        message_key, metrics, tags)
    FROM %s
$statement$, s.source) AS statement, s.day, s.settled
FROM (
    SELECT
        i.inhrelid::regclass::text AS source, d.partition AS day,
        d.measurements + (SELECT count(*) FROM late_measurements AS l WHERE l.partition = d.partition) AS settled
    FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid LEFT JOIN days_added_up AS d ON d.relation = c.oid
    WHERE i.inhparent = 'measurements'::regclass AND c.relname <> ALL ($1::text[])
    UNION ALL
    SELECT format('late_measurements WHERE partition = ANY (%L)', $1::text[]), NULL, NULL
) AS s;

-- name: read_statistics
-- What measurements that are not kept any more amounted to, and those of these days ($1), a device's rows together.
SELECT json_build_array(
    device_id, region, metric, count, sum, min, max, last_value,
    to_char(last_ts AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), last_key,
    to_char(last_received_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
FROM (
    SELECT * FROM (
        SELECT device_id, region, metric, count, sum, min, max, last_value, last_ts, last_key, last_received_at
        FROM retired_statistics
        UNION ALL
        SELECT device_id, region, metric, count, sum, min, max, last_value, last_ts, last_key, last_received_at
        FROM settled_statistics WHERE partition = ANY ($1::text[])
    ) AS u
    ORDER BY device_id
    OFFSET 0 -- sorted before they become text
) AS s;

-- name: read_presence
-- Whether devices are online, each as the transaction decided that stored the message which changed it: rows as of read_statistics.
SELECT json_build_array(
    device_id, '', E'\tonline', 0, NULL, NULL, NULL, online,
    to_char(ts AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), message_key,
    to_char(received_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
FROM device_presence;
