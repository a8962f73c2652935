-- Rows on the internal topic are signed, so that nothing there is believed that a gateway has not written.

-- A stream's key, for as long as the stream has this epoch (contract/signature.py). Gateways write it and sign with it, projectors
-- read it; whoever else could read it could make up rows. Without it nothing is wrong: rows are read from the outbox then.
CREATE TABLE stream_keys (
    stream integer PRIMARY KEY REFERENCES stream_leases,
    epoch  uuid    NOT NULL,
    key    bytea   NOT NULL CHECK (octet_length(key) = 32)
);

-- Of roles that are not the owner, gateways are those that change streams, projectors those that report how far they have come.
DO $$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT DISTINCT
            CASE c.relname WHEN 'stream_leases' THEN 'SELECT, INSERT, UPDATE' ELSE 'SELECT' END AS rights,
            a.grantee::regrole::text AS grantee
        FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS a
        WHERE (c.oid, a.privilege_type) IN (('stream_leases'::regclass, 'UPDATE'), ('projections'::regclass, 'INSERT'))
            AND a.grantee NOT IN (0, c.relowner)
    LOOP
        EXECUTE format('GRANT %s ON stream_keys TO %s', granted.rights, granted.grantee);
    END LOOP;
END
$$;

-- A rebuild reads the partitions of measurements by themselves, and who may read a table may by that not yet read its partitions: so
-- whoever may read the parent may.
CREATE FUNCTION grant_as_parent(parent text, name text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    reader text;
BEGIN
    FOR reader IN
        SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END
        FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS a
        WHERE c.oid = to_regclass(parent) AND a.grantee <> c.relowner AND a.privilege_type = 'SELECT'
    LOOP
        EXECUTE format('GRANT SELECT ON %I TO %s', name, reader);
    END LOOP;
END
$$;

SELECT grant_as_parent('measurements', c.relname)
FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid WHERE i.inhparent = 'measurements'::regclass;

-- The same as before, and that.
CREATE OR REPLACE FUNCTION attach_partition(parent text, time_column text, since timestamptz, until timestamptz) RETURNS boolean
LANGUAGE plpgsql
SET lock_timeout = '100ms' AS $$
DECLARE
    name text := parent || '_p' || to_char(since AT TIME ZONE 'UTC', 'YYYYMMDD');
    storage text;
BEGIN
    IF EXISTS (SELECT FROM partitions_of(parent) AS p WHERE p.since <= attach_partition.since AND p.until >= attach_partition.until)
        OR default_partition_holds(parent, time_column, since, until)
    THEN
        RETURN false;
    END IF;
    IF to_regclass(name) IS NOT NULL THEN
        RAISE duplicate_table USING MESSAGE = format(
            'table %s is there and is not the partition of %s from %s: rename or drop it; rows of that time go to %s_default meanwhile',
            name, parent, since, parent);
    END IF;
    SELECT 'WITH (' || array_to_string(c.reloptions, ', ') || ')' INTO storage
    FROM pg_class AS c WHERE c.oid = to_regclass(parent || '_default');
    BEGIN
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL) %s', name, parent, storage);
        PERFORM grant_as_parent(parent, name);
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, name, since, until);
    EXCEPTION
        WHEN check_violation OR duplicate_table OR unique_violation THEN
            RETURN false; -- a row or another gateway was faster
    END;
    RETURN true;
END
$$;
