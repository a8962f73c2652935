-- What tests of settling ask (tests/integration/test_settling.py).

-- name: told_and_read
-- In one snapshot how many measurements were told, how many a rebuild reads, and how many a verification.
WITH days AS (SELECT * FROM days_added_up),
leaving AS (SELECT * FROM days WHERE state = 'leaving'),
retired AS (SELECT coalesce(sum(count), 0) AS n FROM retired_statistics WHERE metric = '')
SELECT
    (SELECT coalesce(sum(n), 0) FROM told)::bigint AS told,
    (
        (SELECT n FROM retired)
        + (SELECT coalesce(sum(count), 0) FROM settled_statistics JOIN days USING (partition) WHERE metric = '')
        + (SELECT count(*) FROM late_measurements JOIN days USING (partition))
        + (SELECT count(*) FROM measurements AS m WHERE m.tableoid NOT IN (SELECT relation FROM days))
    )::bigint AS rebuilt,
    (
        (SELECT n FROM retired)
        + (SELECT coalesce(sum(count), 0) FROM settled_statistics JOIN leaving USING (partition) WHERE metric = '')
        + (SELECT count(*) FROM late_measurements JOIN leaving USING (partition))
        + (SELECT count(*) FROM measurements AS m WHERE m.tableoid NOT IN (SELECT relation FROM leaving))
    )::bigint AS verified;

-- name: settled
-- What days that are settled amount to; of a single day, as no device may come twice.
SELECT device_id, region, metric, count, sum, min, max, last_value, last_ts, last_key, last_received_at FROM settled_statistics;

-- name: all_measurements
-- As a test stores them.
SELECT device_id, ts, received_at, message_key, region, metrics FROM measurements;

-- name: somebody_waits
-- For a lock of anything in this database, or for the end of a transaction that holds one of a row.
SELECT EXISTS (
    SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
);

-- name: scans_of_statistics
-- How often all of them have been read, their index aside, as far as this session has not told it to the server.
SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relname = 'settled_statistics';
