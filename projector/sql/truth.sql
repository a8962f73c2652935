-- What a fold of everything stored reads. Each row leaves as a line of JSON, in the order of the struct that takes it.

-- name: lock_truth
-- Dropping a partition does not wait for snapshots: a reader with an older one would miss the day's rows and not yet see what
-- they amounted to. This must be had before the snapshot is taken.
LOCK TABLE measurements, retired_statistics IN ACCESS SHARE MODE;

-- name: estimate_measurements
-- About how many measurements there are, for the progress bar; 0 when the server has not counted yet.
SELECT coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint
FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
WHERE i.inhparent = 'measurements'::regclass;

-- name: read_measurements
-- Every measurement, in whatever order is cheapest.
SELECT json_build_array(
    device_id, region,
    to_char(ts AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    to_char(received_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    message_key, metrics, tags)
FROM measurements;

-- name: read_retired
-- What measurements that are not kept any more amounted to, a device's rows together.
SELECT json_build_array(
    device_id, region, metric, count, sum, min, max, last_value,
    to_char(last_ts AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), last_key,
    to_char(last_received_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
FROM retired_statistics
ORDER BY device_id;
