-- History: what was measured in each minute and each hour, so that long series read a few rows instead of every measurement.
-- The projector adds to all four tables in one transaction and moves its cursor, the row `history` of `projections`, with it.

-- One row per device, metric and bucket. Only numbers are here; true and false count as 1 and 0. `region` is the one that the
-- newest of these messages with a region named, at `region_at`; of equal times the greater name.
CREATE TABLE measurements_1m (
    device_id text             NOT NULL,
    metric    text             NOT NULL,
    bucket    timestamptz      NOT NULL,
    region    text,
    region_at timestamptz,
    count     bigint           NOT NULL,
    sum       double precision NOT NULL,
    min       double precision NOT NULL,
    max       double precision NOT NULL,
    PRIMARY KEY (device_id, metric, bucket)
) PARTITION BY RANGE (bucket);

-- All devices of one time. Few bytes a row: equal keys share an entry.
CREATE INDEX measurements_1m_metric_bucket ON measurements_1m (metric, bucket);

CREATE TABLE measurements_1h (LIKE measurements_1m INCLUDING ALL) PARTITION BY RANGE (bucket);

-- The same of whole regions, by the region that each message named; '' for those that named none. All regions together are the
-- fleet.
CREATE TABLE regions_1m (
    metric text             NOT NULL,
    bucket timestamptz      NOT NULL,
    region text             NOT NULL,
    count  bigint           NOT NULL,
    sum    double precision NOT NULL,
    min    double precision NOT NULL,
    max    double precision NOT NULL,
    PRIMARY KEY (metric, bucket, region)
) PARTITION BY RANGE (bucket);

CREATE TABLE regions_1h (LIKE regions_1m INCLUDING ALL) PARTITION BY RANGE (bucket);

-- Rows are updated a few times while their bucket fills: with half of each page free that touches no index.
CREATE TABLE measurements_1m_default PARTITION OF measurements_1m DEFAULT WITH (fillfactor = 50);
CREATE TABLE measurements_1h_default PARTITION OF measurements_1h DEFAULT WITH (fillfactor = 50);
CREATE TABLE regions_1m_default PARTITION OF regions_1m DEFAULT WITH (fillfactor = 50);
CREATE TABLE regions_1h_default PARTITION OF regions_1h DEFAULT WITH (fillfactor = 50);

-- Where rows without a partition of their own are looked for by age.
CREATE INDEX measurements_1m_default_bucket ON measurements_1m_default (bucket);
CREATE INDEX measurements_1h_default_bucket ON measurements_1h_default (bucket);
CREATE INDEX regions_1m_default_bucket ON regions_1m_default (bucket);
CREATE INDEX regions_1h_default_bucket ON regions_1h_default (bucket);

-- Since when each resolution is whole; older buckets have been dropped, and nothing is added to them. Whoever changes history
-- locks this table, so that one does at a time.
CREATE TABLE rollups (
    rollup     text        PRIMARY KEY,
    kept_since timestamptz NOT NULL DEFAULT '-infinity'
);

INSERT INTO rollups (rollup) VALUES ('1m'), ('1h');

-- Makes the partition [since, until) of a table of history, as create_measurement_partitions does for days; false when it is
-- there already, or the default partition holds rows of it.
CREATE FUNCTION create_history_partition(parent text, since timestamptz, until timestamptz) RETURNS boolean
LANGUAGE plpgsql
SET lock_timeout = '100ms' AS $$
DECLARE
    name text := parent || '_p' || to_char(since AT TIME ZONE 'UTC', 'YYYYMMDD');
    taken boolean;
BEGIN
    EXECUTE format('SELECT EXISTS (SELECT FROM %I WHERE bucket >= %L AND bucket < %L)', parent || '_default', since, until)
    INTO taken;
    IF taken OR to_regclass(name) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL) WITH (fillfactor = 50)', name, parent);
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, name, since, until);
    RETURN true;
EXCEPTION
    WHEN check_violation OR duplicate_table OR unique_violation THEN
        RETURN false; -- a row or another gateway was faster
END
$$;

-- Drops a partition of history that ends at `until`, and says for good that nothing before is whole.
CREATE FUNCTION drop_history_partition(name text, its_rollup text, until timestamptz) RETURNS void
LANGUAGE plpgsql
SET lock_timeout = '100ms' AS $$
BEGIN
    UPDATE rollups SET kept_since = until WHERE rollup = its_rollup AND kept_since < until;
    EXECUTE format('DROP TABLE IF EXISTS %I', name);
END
$$;
