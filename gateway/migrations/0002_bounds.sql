-- What keeps the tables in bounds: day partitions made and dropped beside a running path, what dropped measurements amounted
-- to, and dead letters limited by count and size.

-- Where rows of days without a partition of their own are looked for by age.
CREATE INDEX measurements_default_ts ON measurements_default (ts);

-- Makes the day partitions of [first, last]. The table is made first and attached after, which lets writers go on: it locks
-- the default partition for a moment, and the day's rows nowhere. When a reader of the default partition does not let go
-- within the timeout it fails, to be tried again: days are made ahead, so there is time. A day that the default partition
-- already holds rows of is left there, for good.
CREATE OR REPLACE FUNCTION create_measurement_partitions(first date, last date) RETURNS integer
LANGUAGE plpgsql
SET lock_timeout = '100ms' AS $$
DECLARE
    day date;
    made integer := 0;
    name text;
    since timestamptz;
    until timestamptz;
BEGIN
    FOR day IN SELECT generate_series(first, last, interval '1 day')::date LOOP
        name := 'measurements_p' || to_char(day, 'YYYYMMDD');
        since := day::timestamp AT TIME ZONE 'UTC';
        until := (day + 1)::timestamp AT TIME ZONE 'UTC';
        CONTINUE WHEN to_regclass(name) IS NOT NULL;
        CONTINUE WHEN EXISTS (SELECT FROM measurements_default AS d WHERE d.ts >= since AND d.ts < until);
        BEGIN
            EXECUTE format('CREATE TABLE %I (LIKE measurements INCLUDING ALL)', name);
            EXECUTE format('ALTER TABLE measurements ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', name, since, until);
            made := made + 1;
        EXCEPTION
            WHEN check_violation OR duplicate_table OR unique_violation THEN NULL; -- a row or another gateway was faster
        END;
    END LOOP;
    RETURN made;
END
$$;

-- What measurements that are not kept any more amounted to, so that statistics over all time can still be checked against
-- PostgreSQL and rebuilt from it. One row per device, region ('' when the message named none) and metric; the metric '' stands
-- for the messages themselves. Numbers are IEEE doubles, true and false count as 1 and 0, a string has a last value only.
-- "Last" is the newest by (ts, key, received_at), keys compared byte by byte.
CREATE TABLE retired_statistics (
    device_id        text             NOT NULL,
    region           text             NOT NULL,
    metric           text             NOT NULL,
    count            bigint           NOT NULL,
    sum              double precision,
    min              double precision,
    max              double precision,
    last_value       jsonb,
    last_ts          timestamptz      NOT NULL,
    last_key         text             COLLATE "C" NOT NULL,
    last_received_at timestamptz      NOT NULL,
    PRIMARY KEY (device_id, region, metric)
);

-- The sum of two doubles, kept finite as the projections keep theirs (projector/views/fold.py).
CREATE FUNCTION saturating_sum(a double precision, b double precision) RETURNS double precision
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN a IS NULL THEN b
        WHEN b IS NULL THEN a
        WHEN abs(a) < 8e307 AND abs(b) < 8e307 THEN a + b
        ELSE least(1.79769313486231e308, greatest(-1.79769313486231e308, a::numeric + b::numeric))::double precision
    END
$$;

-- Adds the measurements that `source` yields, a SELECT or a DELETE … RETURNING, to `retired_statistics`; returns how many.
-- The newest value of a group is found as the greatest of texts that begin with its place in the order: time, key in hex and
-- receipt, each of which sorts as text the way it does by itself.
CREATE FUNCTION retire_measurements(source text) RETURNS bigint
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
                device_id, coalesce(region, '') AS region, metrics,
                to_char(ts, 'YYYY-MM-DD HH24:MI:SS.US') || ' ' || encode(convert_to(message_key, 'UTF8'), 'hex') || ' '
                    || to_char(received_at, 'YYYY-MM-DD HH24:MI:SS.US') || ' ' AS mark
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
            ) AS v
            GROUP BY m.device_id, m.region, v.metric
        ),
        added AS (
            INSERT INTO retired_statistics AS r
            SELECT
                device_id, region, metric, CASE metric WHEN '' THEN messages ELSE numbers END, sum, min, max,
                CASE WHEN metric <> '' THEN substr(newest, 56 + length(split_part(newest, ' ', 3)))::jsonb END,
                substr(newest, 1, 26)::timestamptz,
                convert_from(decode(split_part(newest, ' ', 3), 'hex'), 'UTF8'),
                substr(newest, 29 + length(split_part(newest, ' ', 3)), 26)::timestamptz
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
                    ORDER BY n.ts DESC, n.key COLLATE "C" DESC, n.received_at DESC
                    LIMIT 1
                )
        )
        SELECT coalesce(sum(messages), 0) FROM grouped WHERE metric = ''
    $sql$, source) INTO messages;
    RETURN messages;
END
$$;

-- Drops a partition whose `expected` rows have been retired in this transaction. Tells whether it did: not when a late row
-- came meanwhile, and then nothing of the transaction may stay. From the lock to the end of the transaction only a writer
-- with a row of that very day waits; the drop itself stops everyone for an instant, or fails within the timeout.
CREATE FUNCTION drop_measurement_partition(name text, expected bigint) RETURNS boolean
LANGUAGE plpgsql
SET enable_seqscan = on
SET lock_timeout = '100ms' AS $$
DECLARE
    held bigint;
BEGIN
    EXECUTE format('LOCK TABLE %I IN SHARE MODE', name);
    EXECUTE format('SELECT count(*) FROM %I', name) INTO held;
    IF held <> expected THEN
        RETURN false;
    END IF;
    EXECUTE format('DROP TABLE %I', name);
    RETURN true;
END
$$;

-- How much `dead_letters` holds, kept exact by whoever inserts, deletes or truncates. Each change is a row of its own, so that
-- writers never wait for each other; they are added up when the bounds are looked at.
CREATE TABLE dead_letter_totals (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    letters  bigint  NOT NULL,
    bytes    bigint  NOT NULL
);

CREATE TABLE dead_letter_changes (
    letters bigint NOT NULL,
    bytes   bigint NOT NULL
);

-- What counts of a letter: that which never changes, unlike its error.
CREATE FUNCTION dead_letter_bytes(topic text, payload bytea) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$
    SELECT octet_length(topic)::bigint + octet_length(payload)
$$;

-- Ids of the letters with any of these reasons, of any of these devices, on a topic that the expression matches, received in
-- [since, until); those that wait, or also those that were replayed. Empty arrays and nulls select everything.
CREATE FUNCTION select_dead_letters(
    reasons text[], devices text[], topics text, since timestamptz, until timestamptz, replayed boolean
) RETURNS SETOF bigint
LANGUAGE sql STABLE AS $$
    SELECT d.id FROM dead_letters AS d
    WHERE (cardinality(reasons) = 0 OR d.reason = ANY (reasons)) AND (cardinality(devices) = 0 OR d.device_id = ANY (devices))
        AND (topics IS NULL OR d.topic ~ topics) AND (since IS NULL OR d.received_at >= since)
        AND (until IS NULL OR d.received_at < until) AND (replayed OR d.replayed_at IS NULL)
$$;

CREATE FUNCTION count_dead_letters() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        DELETE FROM dead_letter_changes;
        UPDATE dead_letter_totals SET letters = 0, bytes = 0;
        RETURN NULL;
    END IF;
    INSERT INTO dead_letter_changes
    SELECT sign * count(*), sign * sum(dead_letter_bytes(changed.topic, changed.payload))
    FROM changed, (SELECT CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END AS sign) AS s
    GROUP BY sign;
    RETURN NULL;
END
$$;

CREATE TRIGGER count_inserted AFTER INSERT ON dead_letters
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION count_dead_letters();

CREATE TRIGGER count_deleted AFTER DELETE ON dead_letters
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION count_dead_letters();

CREATE TRIGGER count_truncated AFTER TRUNCATE ON dead_letters
    FOR EACH STATEMENT EXECUTE FUNCTION count_dead_letters();

INSERT INTO dead_letter_totals (letters, bytes)
SELECT count(*), coalesce(sum(dead_letter_bytes(topic, payload)), 0) FROM dead_letters;

-- Removes the oldest dead letters, up to `piece` of them, as long as there are more than so many or so many bytes. One gateway
-- at a time; letters that a replay holds are passed over.
CREATE FUNCTION evict_dead_letters(max_letters bigint, max_bytes bigint, piece integer, OUT letters bigint, OUT bytes bigint)
LANGUAGE plpgsql AS $$
DECLARE
    over_letters bigint;
    over_bytes bigint;
BEGIN
    letters := 0;
    bytes := 0;
    IF NOT pg_try_advisory_xact_lock(hashtextextended('mqtt-edge-gateway/dead-letters', 0)) THEN
        RETURN;
    END IF;
    WITH gone AS (DELETE FROM dead_letter_changes RETURNING *)
    UPDATE dead_letter_totals AS t
    SET letters = t.letters + g.letters, bytes = t.bytes + g.bytes
    FROM (SELECT sum(c.letters) AS letters, sum(c.bytes) AS bytes FROM gone AS c HAVING count(*) > 0) AS g;
    SELECT t.letters - max_letters, t.bytes - max_bytes INTO over_letters, over_bytes FROM dead_letter_totals AS t;
    IF over_letters <= 0 AND over_bytes <= 0 THEN
        RETURN;
    END IF;
    WITH oldest AS (
        SELECT d.id, dead_letter_bytes(d.topic, d.payload) AS size
        FROM dead_letters AS d ORDER BY d.id LIMIT piece FOR UPDATE SKIP LOCKED
    ),
    counted AS (
        SELECT o.id, row_number() OVER w - 1 AS before, sum(o.size) OVER w - o.size AS bytes_before
        FROM oldest AS o WINDOW w AS (ORDER BY o.id)
    ),
    gone AS (
        DELETE FROM dead_letters AS d USING counted AS c
        WHERE d.id = c.id AND (c.before < over_letters OR c.bytes_before < over_bytes)
        RETURNING dead_letter_bytes(d.topic, d.payload) AS size
    )
    SELECT count(*), coalesce(sum(g.size), 0) INTO letters, bytes FROM gone AS g;
END
$$;
