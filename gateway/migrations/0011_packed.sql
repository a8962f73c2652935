-- Minutes of hours that are over lie packed: a row of arrays a device, metric and hour, a sixth of what they took. A row a minute is
-- there for the last few hours only, in `open_minutes`; `measurements_1m` is both.

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
    ADD COLUMN packing bigint NOT NULL DEFAULT 0;

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
    p.hour + m.minute * interval '1 minute' + m.at * interval '1 microsecond' AS region_at, m.count, m.sum, m.min, m.max, p.hour
FROM packed_minutes AS p
CROSS JOIN LATERAL (
    SELECT
        coalesce(u.minute, u.n - 1) AS minute, CASE cardinality(p.regions) WHEN 1 THEN p.regions[1] ELSE u.region END AS region,
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

-- Whoever could read minutes, or write them, still can.
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

-- Drops a day of rows all of which are packed; false when they are not. An hour later than it could: who took a snapshot before
-- finds them there.
CREATE FUNCTION drop_open_minutes(name text) RETURNS boolean
LANGUAGE plpgsql
SET lock_timeout = '100ms' AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM partitions_of('open_minutes') AS p, rollups AS r
        WHERE p.name = drop_open_minutes.name AND r.rollup = '1m' AND p.until <= r.packed_until - interval '1 hour'
    ) THEN
        RETURN false;
    END IF;
    EXECUTE format('DROP TABLE IF EXISTS %I', name);
    RETURN true;
END
$$;
