-- Appending leaves the stream's row as it is. A row that changed with every batch became slower to change with every change that
-- somebody's open snapshot still saw. Now a batch locks it, the lease's sign of life changes it every few seconds, and where
-- the stream ends is the number of its newest outbox row, which is never trimmed.

ALTER TABLE streams RENAME TO stream_leases;
ALTER TABLE stream_leases RENAME CONSTRAINT streams_pkey TO stream_leases_pkey;
ALTER TABLE stream_leases RENAME CONSTRAINT streams_stream_check TO stream_leases_stream_check;

-- What everybody reads. `head` in the table is a floor, for an outbox that somebody emptied.
CREATE VIEW streams AS
SELECT
    l.stream, l.epoch,
    greatest(l.head, (SELECT max(o.n) FROM outbox AS o WHERE o.stream = l.stream)) AS head,
    l.published, l.owner, l.owner_name, l.seen_at, l.cluster
FROM stream_leases AS l;

-- Whoever could read `streams` still can.
DO $$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT a.privilege_type, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END AS grantee
        FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS a
        WHERE c.oid = 'stream_leases'::regclass AND a.grantee <> c.relowner
    LOOP
        EXECUTE format('GRANT %s ON streams TO %s', granted.privilege_type, granted.grantee);
    END LOOP;
END
$$;
