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
