-- Minutes of hours that are over lie packed: a row of arrays a device, metric and hour, a sixth of what they took. A row a minute is
-- there for the last few hours only, in `open_minutes`; `measurements_1m` is both.

-- Before the table that is renamed, as whoever changes history does.
LOCK TABLE rollups IN ACCESS EXCLUSIVE MODE;

-- Views of others that would follow the table to its new name.
CREATE TEMPORARY TABLE views_of_minutes ON COMMIT DROP AS
SELECT v.oid::regclass AS name, pg_get_viewdef(v.oid) AS query, 'WITH (' || array_to_string(v.reloptions, ', ') || ')' AS options
FROM pg_class AS v
WHERE v.relkind = 'v' AND EXISTS (
    SELECT FROM pg_rewrite AS r JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
    WHERE r.ev_class = v.oid AND r.rulename = '_RETURN' AND d.refclassid = 'pg_class'::regclass AND d.refobjid = 'measurements_1m'::regclass
);

DO $$
DECLARE
    part text;
BEGIN
    ALTER TABLE measurements_1m RENAME TO open_minutes;
    FOR part IN SELECT 'measurements_1m_default' UNION ALL SELECT p.name FROM partitions_of('open_minutes') AS p
    LOOP
        EXECUTE format('ALTER TABLE %I RENAME TO %I', part, regexp_replace(part, '^measurements_1m_', 'open_minutes_'));
    END LOOP;
END
$$;

ALTER INDEX measurements_1m_pkey RENAME TO open_minutes_pkey;
ALTER INDEX measurements_1m_metric_bucket RENAME TO open_minutes_metric_bucket;
ALTER INDEX measurements_1m_default_pkey RENAME TO open_minutes_default_pkey;
ALTER INDEX measurements_1m_default_metric_bucket_idx RENAME TO open_minutes_default_metric_bucket_idx;
ALTER INDEX measurements_1m_default_bucket RENAME TO open_minutes_default_bucket;

-- Minutes before `packed_until`, a whole hour, are packed, all others are rows. Up to `packing_until` they are being packed: what is
-- added to those is noted in `late_minutes` too. `packing` is another number with each that begins, or is not to count any more.
ALTER TABLE rollups
    ADD COLUMN packed_until timestamptz NOT NULL DEFAULT '-infinity',
    ADD COLUMN packing_until timestamptz NOT NULL DEFAULT '-infinity',
    ADD COLUMN packing bigint NOT NULL DEFAULT 0,
    -- Rows before `droppable_until` were packed before `noted_at`, those before `noted_until` then.
    ADD COLUMN droppable_until timestamptz NOT NULL DEFAULT '-infinity',
    ADD COLUMN noted_until timestamptz NOT NULL DEFAULT '-infinity',
    ADD COLUMN noted_at timestamptz NOT NULL DEFAULT '-infinity';

-- The minutes of an hour, an element each, oldest first. What is the same in all of them is there once, or not at all.
CREATE TABLE packed_minutes (
    device_id text               NOT NULL,
    metric    text               NOT NULL,
    hour      timestamptz        NOT NULL,
    minutes   smallint[],                  -- of the hour; null: all sixty
    counts    bigint[],                    -- null: one value each
    sums      double precision[] NOT NULL,
    mins      double precision[],          -- null: as `sums`
    maxs      double precision[],
    regions   text[],                      -- null: none
    ats       integer[],                   -- when the region was named, in microseconds of the minute
    PRIMARY KEY (device_id, metric, hour)
) PARTITION BY RANGE (hour);

-- All devices of one time: rows lie in the order in which hours are packed. No tree, which a look for one device could be taken to
-- while the server knows nothing of a day's rows yet.
CREATE INDEX packed_minutes_hour ON packed_minutes USING brin (hour) WITH (pages_per_range = 16, autosummarize = on);

-- Texts are sorted as in `open_minutes`, whichever way that is.
DO $$
BEGIN
    EXECUTE (
        SELECT 'ALTER TABLE packed_minutes ' || string_agg(
            format('ALTER COLUMN %I TYPE text COLLATE %s', a.attname, a.attcollation::regcollation), ', ' ORDER BY a.attnum)
        FROM pg_attribute AS a
        WHERE a.attrelid = 'open_minutes'::regclass AND a.attname IN ('device_id', 'metric')
    );
END
$$;

CREATE TABLE packed_minutes_default PARTITION OF packed_minutes DEFAULT;
CREATE INDEX packed_minutes_default_hour ON packed_minutes_default (hour);

-- Packed hours get the days that their minutes have.
SELECT attach_partition('packed_minutes', 'hour', p.since, p.until)
FROM partitions_of('open_minutes') AS p WHERE p.name ~ '^open_minutes_p[0-9]{8}$' ORDER BY p.since;

-- What came for hours that are packed, until it is merged: within the transaction that adds it, or at the end of the packing that is
-- under way.
CREATE TABLE late_minutes (LIKE open_minutes);

-- Packed hours, a row a minute, those that are being packed too.
CREATE VIEW unpacked_minutes AS
SELECT
    p.device_id, p.metric, p.hour + m.minute * interval '1 minute' AS bucket, m.region,
    p.hour + m.minute * interval '1 minute' + m.at * interval '1 microsecond' AS region_at, m.count, m.sum, m.min, m.max, p.hour,
    m.minute, m.at
FROM packed_minutes AS p
CROSS JOIN LATERAL (
    SELECT
        coalesce(u.minute, (u.n - 1)::smallint) AS minute, CASE cardinality(p.regions) WHEN 1 THEN p.regions[1] ELSE u.region END AS region,
        CASE cardinality(p.ats) WHEN 1 THEN p.ats[1] ELSE u.at END AS at,
        CASE cardinality(p.counts) WHEN 1 THEN p.counts[1] ELSE coalesce(u.count, 1) END AS count, u.sum,
        coalesce(u.min, u.sum) AS min, coalesce(u.max, u.sum) AS max
    FROM unnest(p.minutes, p.counts, p.sums, p.mins, p.maxs, p.regions, p.ats) WITH ORDINALITY
        AS u (minute, count, sum, min, max, region, at, n)
) AS m;

-- Every minute, wherever it lies. PostgreSQL does not see that a condition on `bucket` is one on `hour` too: who reads much of it
-- says both.
CREATE VIEW measurements_1m AS
SELECT device_id, metric, bucket, region, region_at, count, sum, min, max, date_trunc('hour', bucket, 'UTC') AS hour
FROM open_minutes WHERE bucket >= (SELECT packed_until FROM rollups WHERE rollup = '1m')
UNION ALL
SELECT device_id, metric, bucket, region, region_at, count, sum, min, max, hour
FROM unpacked_minutes WHERE hour < (SELECT packed_until FROM rollups WHERE rollup = '1m');

-- Rights on the table are rights on all that it is now.
DO $$
DECLARE
    granted record;
    name text;
BEGIN
    FOR granted IN
        SELECT a.privilege_type, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END AS grantee
        FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS a
        WHERE c.oid = 'open_minutes'::regclass AND a.grantee <> c.relowner
    LOOP
        FOREACH name IN ARRAY ARRAY['measurements_1m', 'packed_minutes', 'unpacked_minutes', 'late_minutes']
        LOOP
            EXECUTE format('GRANT %s ON %I TO %s', granted.privilege_type, name, granted.grantee);
        END LOOP;
    END LOOP;
END
$$;

-- Without their minutes as rows hours are added to.
CREATE OR REPLACE VIEW open_hours AS
SELECT greatest(h.open_since, m.kept_since, m.packed_until) AS since, h.open_since + interval '2 hours' AS until
FROM rollups AS h, rollups AS m
WHERE h.rollup = '1h' AND m.rollup = '1m';

-- Says of rows that were packed an hour ago, by the server's clock, that they may be dropped: who took a snapshot before finds them
-- there for so long.
CREATE FUNCTION note_packed() RETURNS void
LANGUAGE sql AS $$
    UPDATE rollups
    SET droppable_until = CASE WHEN noted_at <= now() THEN noted_until ELSE droppable_until END,
        noted_until = packed_until, noted_at = now()
    WHERE rollup = '1m' AND packed_until > droppable_until AND noted_at NOT BETWEEN now() - interval '1 hour' AND now()
$$;

-- Drops a day of rows all of which are packed, for an hour; false when they are not.
CREATE FUNCTION drop_open_minutes(name text) RETURNS boolean
LANGUAGE plpgsql
SET lock_timeout = '100ms' AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM partitions_of('open_minutes') AS p, rollups AS r
        WHERE p.name = drop_open_minutes.name AND r.rollup = '1m' AND p.until <= r.droppable_until
    ) THEN
        RETURN false;
    END IF;
    EXECUTE format('DROP TABLE IF EXISTS %I', name);
    RETURN true;
END
$$;

-- Views of others read all minutes again. What else was made on the table cannot be made anew here, and is named.
DO $$
DECLARE
    view record;
    other text;
BEGIN
    FOR view IN SELECT * FROM views_of_minutes LOOP
        BEGIN
            EXECUTE format('CREATE OR REPLACE VIEW %s %s AS %s', view.name, view.options, view.query);
        EXCEPTION WHEN OTHERS THEN
            NULL; -- it is among those that are named
        END;
    END LOOP;
    FOR other IN
        SELECT DISTINCT CASE r.rulename
            WHEN '_RETURN' THEN pg_describe_object('pg_class'::regclass, r.ev_class, 0) ELSE pg_describe_object(d.classid, d.objid, 0)
        END
        FROM pg_depend AS d LEFT JOIN pg_rewrite AS r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
        WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = 'open_minutes'::regclass
            AND d.classid = ANY ('{pg_rewrite, pg_proc, pg_policy, pg_publication_rel}'::regclass[])
            AND r.ev_class IS DISTINCT FROM 'measurements_1m'::regclass
    LOOP
        RAISE WARNING '% has minutes of the last hours only now, those of open_minutes: make it anew on measurements_1m', other;
    END LOOP;
END
$$;
