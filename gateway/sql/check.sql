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
    has_schema_privilege(current_schema(), 'CREATE') AS creates,
    coalesce(
        (
            SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass('measurements')
        ),
        true
    ) AS owns;

-- name: check_tables
-- Which of the write side's tables are there, and which of the rights that it needs on each are not.
SELECT
    needed.name AS "table",
    to_regclass(needed.name) IS NOT NULL AS present,
    array(
        SELECT needed_right
        FROM unnest(string_to_array(needed.rights, ' ')) AS needed_right
        WHERE NOT has_table_privilege(to_regclass(needed.name), needed_right)
    ) AS missing
FROM (
    VALUES
        ('schema_migrations', 'SELECT'),
        ('stream_leases', 'SELECT INSERT UPDATE'),
        ('streams', 'SELECT'),
        ('outbox', 'SELECT INSERT DELETE'),
        ('measurements', 'SELECT INSERT'),
        ('message_keys_0', 'SELECT INSERT TRUNCATE'),
        ('message_keys_1', 'SELECT INSERT TRUNCATE'),
        ('dedup', 'SELECT UPDATE'),
        ('devices', 'SELECT INSERT UPDATE'),
        ('dead_letters', 'SELECT INSERT UPDATE DELETE'),
        ('dead_letter_totals', 'SELECT UPDATE'),
        ('dead_letter_changes', 'SELECT INSERT DELETE'),
        ('retired_statistics', 'SELECT INSERT UPDATE'),
        ('subscriptions', 'SELECT INSERT UPDATE DELETE'),
        ('projections', 'SELECT'),
        ('rollups', 'SELECT UPDATE'),
        ('measurements_1m_default', 'SELECT DELETE'),
        ('measurements_1h_default', 'SELECT DELETE'),
        ('regions_1m_default', 'SELECT DELETE'),
        ('regions_1h_default', 'SELECT DELETE')
) AS needed (name, rights);

-- name: check_keys
-- Of up to ten thousand measurements of the last hour, how many came without a key, and how many without key and time. The
-- prefixes are those of gateway/decode.
SELECT
    count(*) AS measurements,
    count(*) FILTER (WHERE message_key LIKE 'auto:%') AS by_content,
    count(*) FILTER (WHERE message_key LIKE 'uuid:%') AS unkeyed
FROM (SELECT message_key FROM measurements WHERE ts > now() - interval '1 hour' LIMIT 10000) AS recent;
