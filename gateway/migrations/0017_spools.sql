-- Gateways keep on disk what comes while PostgreSQL is away, and drain it later (gateway/spool/).

-- How far each run, a process that has written to a spool, is drained: noted with what was stored, so that nothing is drained twice.
CREATE TABLE spools (
    run           uuid             PRIMARY KEY,
    stream        integer          NOT NULL,
    place         bigint           NOT NULL,
    last          timestamptz,     -- the time of arrival that was given last
    messages_left bigint           NOT NULL,
    oldest_at     timestamptz,
    drains_in_s   double precision,
    noted_at      timestamptz      NOT NULL DEFAULT now()
);

-- Of roles that are not the owner, gateways are those that change streams, projectors those that report how far they have come.
DO $$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT DISTINCT
            CASE c.relname WHEN 'stream_leases' THEN 'SELECT, INSERT, UPDATE, DELETE' ELSE 'SELECT' END AS rights,
            a.grantee::regrole::text AS grantee
        FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS a
        WHERE (c.oid, a.privilege_type) IN (('stream_leases'::regclass, 'UPDATE'), ('projections'::regclass, 'INSERT'))
            AND a.grantee NOT IN (0, c.relowner)
    LOOP
        EXECUTE format('GRANT %s ON spools TO %s', granted.rights, granted.grantee);
    END LOOP;
END
$$;
