-- Which message is the newest, and where a projection stands, without a row that is written over and over.

-- The time by which a message is ordered: its own, unless that is too far ahead of its arrival. The order of last values is this,
-- then time of receipt, then key and device byte by byte (contract/order.py).
CREATE FUNCTION order_time(ts timestamptz, received_at timestamptz) RETURNS timestamptz
LANGUAGE sql STABLE AS $$
    SELECT least(ts, received_at + interval '5 minutes')
$$;

-- Adds the measurements that `source` yields, a SELECT or a DELETE … RETURNING, to `retired_statistics`; returns how many. "Last" is
-- the newest in that order, and last_ts its own time, by which retention goes; the metric E'\ttags' stands for the newest tags.
-- The newest value of a group is found as the greatest of texts that begin with its place in the order: order time, receipt and
-- key in hex, each of which sorts as text the way it does by itself; then device time.
CREATE OR REPLACE FUNCTION retire_measurements(source text) RETURNS bigint
LANGUAGE plpgsql
SET enable_seqscan = on
SET enable_hashjoin = on
SET TimeZone = 'UTC' AS $$
DECLARE
    messages bigint;
BEGIN
    EXECUTE format($sql$
        WITH retired AS (%s),
        marked AS (
            SELECT
                device_id, coalesce(region, '') AS region, metrics, tags,
                to_char(order_time(ts, received_at), 'YYYY-MM-DD HH24:MI:SS.US') || ' '
                    || to_char(received_at, 'YYYY-MM-DD HH24:MI:SS.US') || ' '
                    || encode(convert_to(message_key, 'UTF8'), 'hex') || ' '
                    || to_char(ts, 'YYYY-MM-DD HH24:MI:SS.US') || ' ' AS mark
            FROM retired
            OFFSET 0 -- made once a message, not once a metric
        ),
        grouped AS (
            SELECT
                m.device_id, m.region, v.metric, count(*) AS messages, count(v.number) AS numbers,
                CASE WHEN count(v.number) > 0 THEN
                    least(1.79769313486231e308, greatest(-1.79769313486231e308, sum(v.number)))::double precision
                END AS sum,
                min(v.number::double precision) AS min, max(v.number::double precision) AS max,
                max((m.mark || coalesce(v.value, '')) COLLATE "C") AS newest
            FROM marked AS m
            CROSS JOIN LATERAL (
                SELECT
                    e.key AS metric, e.value::text AS value,
                    CASE jsonb_typeof(e.value)
                        WHEN 'number' THEN e.value::numeric
                        WHEN 'boolean' THEN e.value::boolean::integer::numeric
                    END AS number
                FROM jsonb_each(m.metrics) AS e
                UNION ALL
                SELECT '', NULL, NULL
                UNION ALL
                SELECT E'\ttags', m.tags::text, NULL WHERE m.tags <> '{}'
            ) AS v
            GROUP BY m.device_id, m.region, v.metric
        ),
        added AS (
            INSERT INTO retired_statistics AS r
            SELECT
                device_id, region, metric, CASE metric WHEN '' THEN messages ELSE numbers END, sum, min, max,
                CASE WHEN metric <> '' THEN substr(newest, 83 + length(split_part(newest, ' ', 5)))::jsonb END,
                substr(newest, 56 + length(split_part(newest, ' ', 5)), 26)::timestamptz,
                convert_from(decode(split_part(newest, ' ', 5), 'hex'), 'UTF8'),
                substr(newest, 28, 26)::timestamptz
            FROM grouped
            ON CONFLICT (device_id, region, metric) DO UPDATE SET
                count = r.count + excluded.count,
                sum = saturating_sum(r.sum, excluded.sum),
                min = least(r.min, excluded.min),
                max = greatest(r.max, excluded.max),
                (last_value, last_ts, last_key, last_received_at) = (
                    SELECT n.value, n.ts, n.key, n.received_at
                    FROM (
                        VALUES
                            (r.last_value, r.last_ts, r.last_key, r.last_received_at),
                            (excluded.last_value, excluded.last_ts, excluded.last_key, excluded.last_received_at)
                    ) AS n (value, ts, key, received_at)
                    ORDER BY order_time(n.ts, n.received_at) DESC, n.received_at DESC, n.key COLLATE "C" DESC
                    LIMIT 1
                )
        )
        SELECT coalesce(sum(messages), 0) FROM grouped WHERE metric = ''
    $sql$, source) INTO messages;
    RETURN messages;
END
$$;

-- Where projections stand. A row that is updated leaves its old versions behind for as long as anybody holds a snapshot (a dump, a
-- dashboard), and who looks it up by an unchanged key passes all of them. So each move counts `version` up, which is part of the
-- key: the newest version is the last entry under its name, and is found in one step backwards into the index however many
-- older ones are there. Who reads the table as a whole sees one row a projection and stream, as ever.
ALTER TABLE projections
    DROP CONSTRAINT projections_pkey,
    ALTER COLUMN projection TYPE text COLLATE "C",
    ADD COLUMN version bigint NOT NULL DEFAULT 0,
    ADD PRIMARY KEY (stream, projection, version);

-- Where one projection stands on a stream; no row where it has not begun.
CREATE FUNCTION projection_at(name text, which integer) RETURNS SETOF projections
LANGUAGE sql STABLE ROWS 1
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
    SELECT * FROM projections WHERE stream = which AND projection = name ORDER BY version DESC LIMIT 1
$$;

-- Where every projection of a stream stands: from name to name backwards, a step into the index each.
CREATE FUNCTION projections_on(which integer) RETURNS SETOF projections
LANGUAGE sql STABLE ROWS 3
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
    WITH RECURSIVE found AS (
        (SELECT p AS newest FROM projections AS p WHERE p.stream = which ORDER BY p.projection DESC, p.version DESC LIMIT 1)
        UNION ALL
        SELECT (
            SELECT p FROM projections AS p
            WHERE p.stream = which AND p.projection < (f.newest).projection
            ORDER BY p.projection DESC, p.version DESC
            LIMIT 1
        )
        FROM found AS f
        WHERE (f.newest).projection IS NOT NULL
    )
    SELECT (f.newest).* FROM found AS f WHERE (f.newest).projection IS NOT NULL
$$;

-- Moves a projection, or begins it; from `since`, or from wherever it is. False when it is not there, or was moved meanwhile.
CREATE FUNCTION move_projection(name text, which integer, target bigint, history uuid, since bigint DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
DECLARE
    known projections;
BEGIN
    SELECT * INTO known FROM projection_at(name, which);
    IF known.n <> since OR (known.n IS NULL AND since IS NOT NULL) THEN
        RETURN false;
    ELSIF known.n IS NULL THEN
        INSERT INTO projections (projection, stream, n, epoch) VALUES (name, which, target, history) ON CONFLICT DO NOTHING;
    ELSE
        UPDATE projections SET n = target, epoch = history, updated_at = now(), version = version + 1
        WHERE stream = which AND projection = name AND version = known.version;
    END IF;
    RETURN FOUND;
END
$$;
