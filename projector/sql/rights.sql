-- What the projector's role must be allowed to do.

-- name: missing_rights
-- Which of these rights the role does not have, each as GRANT has it. What is not there yet, nobody lacks a right on.
SELECT format('%s ON %s', string_agg(n.needed_right, ', ' ORDER BY n.place), n.name) AS missing
FROM (
    SELECT needed.name, r.needed_right, r.place
    FROM (
        VALUES
            ('streams', 'SELECT'),
            ('stream_keys', 'SELECT'),
            ('outbox', 'SELECT'),
            ('projections', 'SELECT INSERT UPDATE DELETE'),
            ('measurements', 'SELECT'),
            ('measurements_default', 'SELECT'),
            ('retired_statistics', 'SELECT'),
            ('days_added_up', 'SELECT'),
            ('settled_statistics', 'SELECT'),
            ('late_measurements', 'SELECT'),
            ('devices', 'SELECT'),
            ('dead_letters', 'SELECT'),
            ('device_care', 'SELECT INSERT UPDATE'),
            ('device_presence', 'SELECT'),
            ('rollups', 'SELECT UPDATE'),
            ('open_hours', 'SELECT'),
            ('open_minutes', 'SELECT INSERT UPDATE DELETE'),
            ('open_minutes_default', 'SELECT'),
            ('packed_minutes', 'SELECT INSERT UPDATE DELETE'),
            ('packed_minutes_default', 'SELECT'),
            ('unpacked_minutes', 'SELECT'),
            ('late_minutes', 'SELECT INSERT DELETE'),
            ('measurements_1m', 'SELECT'),
            ('measurements_1h', 'SELECT INSERT UPDATE DELETE'),
            ('measurements_1h_default', 'SELECT'),
            ('regions_1m', 'SELECT INSERT UPDATE DELETE'),
            ('regions_1m_default', 'SELECT'),
            ('regions_1h', 'SELECT INSERT UPDATE DELETE'),
            ('regions_1h_default', 'SELECT')
    ) AS needed (name, rights)
    CROSS JOIN LATERAL unnest(string_to_array(needed.rights, ' ')) WITH ORDINALITY AS r (needed_right, place)
    WHERE NOT has_table_privilege(to_regclass(needed.name), r.needed_right)
    UNION ALL
    SELECT 'SEQUENCE device_care_versions', 'USAGE', 1
    WHERE NOT has_sequence_privilege(to_regclass('device_care_versions')::oid, 'USAGE')
    UNION ALL
    SELECT format('DATABASE %I', current_database()), 'TEMPORARY', 1
    WHERE NOT has_database_privilege(current_database(), 'TEMPORARY')
) AS n
GROUP BY n.name
UNION ALL
-- A rebuild reads the days by themselves. New ones are made for whoever may read the table.
SELECT 'SELECT ON ' || string_agg(c.oid::regclass::text, ', ' ORDER BY c.relname)
FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
WHERE i.inhparent = to_regclass('measurements') AND c.relname <> 'measurements_default' AND NOT has_table_privilege(c.oid, 'SELECT')
HAVING count(*) > 0
ORDER BY missing;
