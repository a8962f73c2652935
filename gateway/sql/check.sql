-- What `gateway check` asks of a database. Nothing here writes.

-- name: check_server
-- What the server is and whether it keeps what it acknowledges.
SELECT
    current_setting('server_version') AS version,
    current_setting('server_version_num')::integer / 10000 AS major,
    current_setting('fsync') AS fsync,
    current_setting('full_page_writes') AS full_page_writes,
    current_setting('synchronous_commit') AS synchronous_commit,
    pg_is_in_recovery() AS standby,
    current_database() AS database,
    current_user AS username,
    coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS creates;

-- name: check_registry
-- How many devices may send, and how many messages are held of those that are not known.
SELECT
    count(*) FILTER (WHERE state = 'active') AS active,
    (SELECT count(*) FROM dead_letters WHERE reason = 'unknown_device' AND replayed_at IS NULL) AS held
FROM devices;

-- name: check_sorting
-- By what ids are sorted: the columns that go by the locale, and whether that is one whose order can change at all.
SELECT
    d.datcollate IN ('C', 'POSIX', 'C.UTF-8', 'C.utf8') AS by_bytes,
    d.datcollate AS locale,
    to_jsonb(d) ->> 'datcollversion' AS version,
    pg_encoding_to_char(d.encoding) AS encoding,
    array(
        SELECT format('%s.%s', a.attrelid::regclass, a.attname)
        FROM pg_attribute AS a
        WHERE a.attrelid IN (
                to_regclass('devices'), to_regclass('measurements'), to_regclass('open_minutes'), to_regclass('packed_minutes'),
                to_regclass('measurements_1h'), to_regclass('regions_1m'), to_regclass('regions_1h'), to_regclass('retired_statistics')
            )
            AND a.attname IN ('device_id', 'metric') AND a.attcollation <> '"C"'::regcollation
        ORDER BY 1
    ) AS by_locale
FROM pg_database AS d WHERE d.datname = current_database();

-- name: check_sorting_version
-- The version of the locale that the server has now; from PostgreSQL 15 on.
SELECT pg_database_collation_actual_version(oid) FROM pg_database WHERE datname = current_database();

-- name: check_gateways
-- How many gateways have been here within a week; replays (the last stream) aside.
SELECT count(*) FROM streams WHERE stream < 32768 AND seen_at > now() - interval '7 days';

-- name: check_size
-- What the database takes on disk, and since when measurements are kept.
SELECT pg_database_size(current_database()) AS bytes, (SELECT min(ts) FROM measurements) AS since;

-- name: check_keys
-- Of up to ten thousand measurements of the last hour, how many came without a key, and how many without key and time. The
-- prefixes are those of gateway/decode.
SELECT
    count(*) AS measurements,
    count(*) FILTER (WHERE message_key LIKE 'auto:%') AS by_content,
    count(*) FILTER (WHERE message_key LIKE 'uuid:%') AS unkeyed
FROM (SELECT message_key FROM measurements WHERE ts > now() - interval '1 hour' LIMIT 10000) AS recent;

-- name: check_constant_keys
-- Among the newest conflicts, devices of which all name one key, or a few again and again: they never change, so they are
-- none. The words and the bound are those of gateway/conflicts.py.
SELECT device_id, min(topic) AS topic, min(key) AS key, count(DISTINCT key) AS keys, count(*) AS letters
FROM (
    SELECT device_id, topic, substring(error FROM '^key (.+?) is stored with other content') AS key
    FROM dead_letters
    WHERE reason = 'conflict' AND replayed_at IS NULL AND device_id IS NOT NULL
    ORDER BY id DESC
    LIMIT 1000
) AS conflicts
GROUP BY device_id
HAVING count(*) >= 2 AND (count(DISTINCT key) = 1 OR (count(DISTINCT key) <= 32 AND count(*) >= 3 * count(DISTINCT key)))
ORDER BY letters DESC
LIMIT 3;
