-- What a day amounts to is worked out once, when it is over, so that views are made anew without reading every measurement.

-- Days that are over, by partition. `begun`: so many `blocks` of its `file` have been added up. `settled`: all have. `left`: its
-- statistics would be hardly fewer rows than its measurements. `leaving`: retention has begun with it, and moves its statistics to
-- `retired_statistics`.
CREATE TABLE settled_days (
    partition    text        COLLATE "C" PRIMARY KEY,
    state        text        NOT NULL CHECK (state IN ('begun', 'settled', 'left', 'leaving')),
    file         text        NOT NULL DEFAULT '',
    blocks       bigint      NOT NULL DEFAULT 0,
    measurements bigint      NOT NULL DEFAULT 0,
    changed_at   timestamptz NOT NULL DEFAULT now()
);

-- What they amount to, in the form of `retired_statistics`.
CREATE TABLE settled_statistics (
    partition        text             COLLATE "C" NOT NULL,
    device_id        text             COLLATE "C" NOT NULL,
    region           text             COLLATE "C" NOT NULL,
    metric           text             COLLATE "C" NOT NULL,
    count            bigint           NOT NULL,
    sum              double precision,
    min              double precision,
    max              double precision,
    last_value       jsonb,
    last_ts          timestamptz      NOT NULL,
    last_key         text             COLLATE "C" NOT NULL,
    last_received_at timestamptz      NOT NULL,
    PRIMARY KEY (partition, device_id, region, metric)
) WITH (fillfactor = 80);

-- Copies of rows that came after it was begun with their day, and where they are in its partition.
CREATE TABLE late_measurements (
    partition   text        COLLATE "C" NOT NULL,
    place       tid         NOT NULL,
    device_id   text        COLLATE "C" NOT NULL,
    ts          timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    message_key text        NOT NULL,
    region      text,
    metrics     jsonb       NOT NULL,
    tags        jsonb
);

-- Set on the partitions of such days alone, so that others pay nothing. A row that comes is noted with its place. Where one is changed
-- or removed by hand, the day is begun anew; whose snapshot is older than what is said of the day cannot.
CREATE FUNCTION note_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO late_measurements (partition, place, device_id, ts, received_at, message_key, region, metrics, tags)
        VALUES (TG_TABLE_NAME, NEW.ctid, NEW.device_id, NEW.ts, NEW.received_at, NEW.message_key, NEW.region, NEW.metrics, NEW.tags);
        RETURN NULL;
    END IF;
    INSERT INTO settled_days AS d (partition, state) VALUES (TG_TABLE_NAME, 'begun')
    ON CONFLICT (partition) DO UPDATE SET state = 'begun', file = '', changed_at = now() -- waits for who is adding it up
    WHERE d.state = 'settled' OR (d.state = 'begun' AND d.file <> '');
    IF EXISTS (SELECT FROM settled_days WHERE partition = TG_TABLE_NAME AND state = 'leaving') THEN
        RAISE object_in_use USING MESSAGE = format(
            '%s is being dropped, and what it amounts to is in retired_statistics by now', TG_TABLE_NAME);
    END IF;
    RETURN NULL;
END
$$;

-- Who may write measurements needs no other right for it, nor gets one by a search path or a temporary table.
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION note_change() SET search_path = %I, pg_temp', current_schema());
    REVOKE EXECUTE ON FUNCTION note_change() FROM PUBLIC;
END
$$;

-- Days whose statistics and late rows count, and not the rows of their partitions. In every snapshot these, `retired_statistics`
-- and the rows of all other partitions are every measurement once. A settled day whose trigger somebody removed is read as its rows; of
-- one that leaves they may be among the retired ones.
CREATE VIEW days_added_up AS
SELECT d.partition, d.state, d.measurements, i.inhrelid AS relation
FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid JOIN settled_days AS d ON d.partition = c.relname
WHERE i.inhparent = 'measurements'::regclass AND (
    d.state = 'leaving' OR (
        d.state = 'settled'
        AND EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = c.oid AND t.tgname = 'note_change' AND t.tgenabled <> 'D')));

-- Whose blocks they are. Tables are rewritten into other files, and restored on other servers, with their rows at other places.
CREATE FUNCTION file_of(name text) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT extract(epoch FROM pg_postmaster_start_time()) || ' ' || pg_relation_filepath(to_regclass(name))
$$;

-- Leaves a day as it is, false when it leaves: nothing is noted any more, and nothing kept. Writers of that very day make it fail
-- within the timeout.
CREATE FUNCTION let_day_be(name text) RETURNS boolean
LANGUAGE plpgsql
SET lock_timeout = '100ms' AS $$
DECLARE
    noting text;
BEGIN
    INSERT INTO settled_days AS d (partition, state) VALUES (name, 'left')
    ON CONFLICT (partition) DO UPDATE SET state = 'left', changed_at = now() WHERE d.state <> 'leaving';
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    FOR noting IN
        SELECT tgname FROM pg_trigger WHERE tgrelid = to_regclass(name) AND tgname IN ('note_change', 'note_truncation')
    LOOP
        EXECUTE format('ALTER TABLE %I DISABLE TRIGGER %I', name, noting);
    END LOOP;
    DELETE FROM settled_statistics WHERE partition = name;
    DELETE FROM late_measurements WHERE partition = name;
    RETURN true;
END
$$;

-- Whether a day's statistics would be more than half as many rows as its measurements, by what the server has counted; it would take as
-- long to find out otherwise as to add it up. Null when it has counted nothing.
CREATE FUNCTION is_sparse(name text) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
DECLARE
    metrics bigint;
BEGIN
    EXECUTE format(
        'SELECT count(DISTINCT k) FROM (SELECT metrics FROM %I LIMIT 100) AS m, jsonb_object_keys(m.metrics) AS k', name) INTO metrics;
    RETURN (
        SELECT CASE WHEN s.n_distinct < 0 THEN -s.n_distinct * c.reltuples ELSE s.n_distinct END * (1 + metrics) > greatest(
            1000, c.reltuples / greatest(c.relpages, 1) * pg_relation_size(c.oid) / current_setting('block_size')::bigint / 2)
        FROM pg_class AS c
        JOIN pg_stats AS s ON s.schemaname = c.relnamespace::regnamespace::text AND s.tablename = c.relname
        WHERE c.oid = to_regclass(name) AND c.reltuples > 0 AND s.attname = 'device_id'
    );
END
$$;

-- From here on whatever changes in a partition is noted, unless the day is left as it is; returns its state. Writers of that very day
-- make it fail within the timeout.
CREATE FUNCTION begin_day(name text) RETURNS text
LANGUAGE plpgsql
SET lock_timeout = '100ms' AS $$
BEGIN
    IF is_sparse(name) AND let_day_be(name) THEN
        RETURN 'left';
    END IF;
    EXECUTE format(
        'CREATE OR REPLACE TRIGGER note_change AFTER INSERT OR UPDATE OR DELETE ON %I FOR EACH ROW EXECUTE FUNCTION note_change()', name);
    EXECUTE format(
        'CREATE OR REPLACE TRIGGER note_truncation AFTER TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION note_change()', name);
    INSERT INTO settled_days AS d (partition, state) VALUES (name, 'begun')
    ON CONFLICT (partition) DO UPDATE SET state = 'begun', file = '', changed_at = now() WHERE d.state <> 'leaving';
    RETURN 'begun';
END
$$;

-- Removes up to `piece` statistics of a partition that somebody dropped, and with the last of them the rest; returns how many.
CREATE FUNCTION forget_day(name text, piece bigint) RETURNS bigint
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_bitmapscan = off
SET lock_timeout = '100ms' AS $$
DECLARE
    gone bigint;
BEGIN
    PERFORM FROM settled_days WHERE partition = name FOR UPDATE;
    IF EXISTS (SELECT FROM partitions_of('measurements') AS p WHERE p.name = forget_day.name) THEN
        RETURN 0; -- somebody has made it anew
    END IF;
    DELETE FROM settled_statistics
    WHERE ctid = ANY (ARRAY(SELECT ctid FROM settled_statistics WHERE partition = name LIMIT piece));
    GET DIAGNOSTICS gone = ROW_COUNT;
    IF gone < piece THEN
        DELETE FROM late_measurements WHERE partition = name;
        DELETE FROM settled_days WHERE partition = name;
    END IF;
    RETURN gone;
END
$$;

-- The statement that adds statistics, which `rows` yields, to those of a day, or to the retired ones when that is null.
CREATE FUNCTION statement_to_add(rows text, day text) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT format(
        $sql$
            INSERT INTO %s AS r
            SELECT %s s.* FROM (%s) AS s
            ON CONFLICT (%s device_id, region, metric) DO UPDATE SET
                count = r.count + excluded.count,
                sum = saturating_sum(r.sum, excluded.sum),
                min = least(r.min, excluded.min),
                max = greatest(r.max, excluded.max),
                last_value = CASE WHEN %5$s THEN excluded.last_value ELSE r.last_value END,
                last_ts = CASE WHEN %5$s THEN excluded.last_ts ELSE r.last_ts END,
                last_key = CASE WHEN %5$s THEN excluded.last_key ELSE r.last_key END,
                last_received_at = CASE WHEN %5$s THEN excluded.last_received_at ELSE r.last_received_at END
        $sql$,
        CASE WHEN day IS NULL THEN 'retired_statistics' ELSE 'settled_statistics' END,
        quote_literal(day) || ',',
        rows,
        CASE WHEN day IS NOT NULL THEN 'partition,' END,
        '(order_time(excluded.last_ts, excluded.last_received_at), excluded.last_received_at, excluded.last_key COLLATE "C")'
            ' > (order_time(r.last_ts, r.last_received_at), r.last_received_at, r.last_key COLLATE "C")')
$$;

-- A time in bytes that sort as it does, from year 1 on, and back from hex of them. A quarter of what to_char takes.
CREATE FUNCTION to_mark(t timestamptz) RETURNS bytea
LANGUAGE sql STABLE AS $$
    SELECT timestamptz_send(t + interval '17600000 hours')
$$;

CREATE FUNCTION from_mark(hex text) RETURNS timestamptz
LANGUAGE sql STABLE AS $$
    SELECT timestamptz '2000-01-01 00:00:00+00' - interval '17600000 hours'
        + ('x' || hex)::bit(64)::bigint / 1000000 * interval '1 second'
        + ('x' || hex)::bit(64)::bigint % 1000000 * interval '1 microsecond'
$$;

-- Adds measurements to the statistics of a day, or to the retired ones when that is null; returns how many. `sources` are common
-- table expressions, of which `added` yields the measurements. The newest value of a group is found as the greatest of texts that
-- begin with its place in the order of last values: order time, receipt and key in hex, each of which sorts as text the way it does
-- by itself; then device time. The metric E'\ttags' stands for the newest tags, '' for the messages.
CREATE FUNCTION add_measurements(sources text, day text) RETURNS bigint
LANGUAGE plpgsql
SET enable_seqscan = on
SET enable_hashagg = on
SET enable_sort = off -- the server takes every message for a hundred metrics
SET jit = off
SET work_mem = '32MB' AS $$
DECLARE
    messages bigint;
BEGIN
    EXECUTE format($sql$
        WITH %s,
        marked AS (
            SELECT
                device_id, coalesce(region, '') AS region, tags,
                CASE WHEN tags <> '{}' THEN metrics || jsonb_build_object('', NULL, E'\ttags', tags) ELSE metrics || '{"": null}' END AS metrics,
                encode(to_mark(order_time(ts, received_at)) || to_mark(received_at) || convert_to(message_key, 'UTF8'), 'hex')
                    || ' ' || encode(to_mark(ts), 'hex') AS mark
            FROM added
            OFFSET 0 -- made once a message, not once a metric
        ),
        grouped AS (
            SELECT
                m.device_id, m.region, v.metric, count(*) AS messages, count(v.number) AS numbers,
                CASE WHEN count(v.number) > 0 THEN
                    least(1.79769313486231e308, greatest(-1.79769313486231e308, sum(v.number)))::double precision
                END AS sum,
                min(v.number)::double precision AS min, max(v.number)::double precision AS max,
                max((m.mark || v.value) COLLATE "C") AS newest
            FROM marked AS m
            CROSS JOIN LATERAL (
                SELECT
                    e.key AS metric, e.value::text AS value,
                    CASE jsonb_typeof(e.value)
                        WHEN 'number' THEN e.value::numeric
                        WHEN 'boolean' THEN e.value::boolean::integer::numeric
                    END AS number
                FROM jsonb_each(m.metrics) AS e
                OFFSET 0 -- and this once a metric, not once an aggregate
            ) AS v
            GROUP BY m.device_id, m.region, v.metric
        ),
        placed AS (
            SELECT *, strpos(newest, ' ') AS key_ends FROM grouped
        ),
        written AS (%s)
        SELECT coalesce(sum(messages), 0) FROM grouped WHERE metric = ''
    $sql$, sources, statement_to_add($rows$
        SELECT
            device_id, region, metric, CASE metric WHEN '' THEN messages ELSE numbers END, sum, min, max,
            CASE WHEN metric <> '' THEN substr(newest, key_ends + 17)::jsonb END,
            from_mark(substr(newest, key_ends + 1, 16)),
            convert_from(decode(substr(newest, 33, key_ends - 33), 'hex'), 'UTF8'),
            from_mark(substr(newest, 17, 16))
        FROM placed
    $rows$, day)) INTO messages;
    RETURN messages;
END
$$;

-- Adds the measurements that `source` yields, a SELECT or a DELETE … RETURNING, to `retired_statistics`; returns how many.
CREATE OR REPLACE FUNCTION retire_measurements(source text) RETURNS bigint
LANGUAGE sql AS $$
    SELECT add_measurements('added AS (' || source || ')', NULL)
$$;

-- Adds the next `step` blocks of a day to its statistics; returns what its state is then, null when it was not to be added up. Rows and
-- the copies of the late ones among them are seen in one snapshot, by one statement: the copies of those that are added up go, the
-- others stay and count beside them. So no piece needs to know of another's snapshot.
CREATE FUNCTION settle_blocks(name text, step bigint) RETURNS text
LANGUAGE plpgsql
SET lock_timeout = '100ms' AS $$
DECLARE
    day settled_days;
    stands_in text;
    ends bigint;
    until bigint;
    span text;
BEGIN
    EXECUTE format('LOCK TABLE %I IN ACCESS SHARE MODE', name); -- so that nobody gives its rows other places
    stands_in := file_of(name);
    SELECT * INTO day FROM settled_days WHERE partition = name AND state = 'begun' FOR UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    IF day.file <> stands_in THEN
        -- From the first block on; what is seen now will be added up.
        DELETE FROM settled_statistics WHERE partition = name;
        DELETE FROM late_measurements WHERE partition = name;
        day.blocks := 0;
        day.measurements := 0;
    END IF;
    ends := pg_relation_size(to_regclass(name)) / current_setting('block_size')::bigint;
    until := least(day.blocks + step, ends);
    span := format('>= %L AND %%1$s < %L', format('(%s,0)', day.blocks), format('(%s,0)', until));
    day.measurements := day.measurements + add_measurements(
        format(
            'copies AS (DELETE FROM late_measurements WHERE partition = %L AND place %s), added AS (SELECT * FROM %I WHERE ctid %s)',
            name, format(span, 'place'), name, format(span, 'ctid')),
        name);
    IF until >= ends THEN
        day.state := 'settled';
        IF EXISTS (SELECT FROM settled_statistics WHERE partition = name OFFSET greatest(1000, day.measurements / 2)) THEN
            day.state := 'left';
            PERFORM let_day_be(name);
        END IF;
    END IF;
    UPDATE settled_days
    SET state = day.state, file = stands_in, blocks = until, measurements = day.measurements, changed_at = now()
    WHERE partition = name;
    RETURN day.state;
END
$$;

-- Adds up to `piece` late rows of a day, or all, to its statistics, of one that leaves to the retired ones; returns how many.
CREATE FUNCTION fold_late_measurements(name text, piece bigint) RETURNS bigint
LANGUAGE plpgsql
SET lock_timeout = '100ms' AS $$
DECLARE
    day settled_days;
    folded bigint;
BEGIN
    SELECT * INTO day FROM settled_days WHERE partition = name AND state IN ('settled', 'leaving') FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    folded := add_measurements(
        format(
            'added AS (DELETE FROM late_measurements WHERE ctid = ANY (ARRAY('
                'SELECT ctid FROM late_measurements WHERE partition = %L LIMIT %L)) RETURNING *)',
            name, piece),
        CASE day.state WHEN 'settled' THEN name END);
    UPDATE settled_days SET measurements = measurements + folded WHERE partition = name;
    RETURN folded;
END
$$;

-- Moves up to `piece` statistics of a day that leaves to `retired_statistics`; returns how many. By the index: a table is full of those
-- of other days, and of those that have moved.
CREATE FUNCTION retire_statistics(name text, piece bigint) RETURNS bigint
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_bitmapscan = off AS $$
DECLARE
    moved bigint;
BEGIN
    EXECUTE format($sql$
        WITH gone AS (
            DELETE FROM settled_statistics
            WHERE ctid = ANY (ARRAY(SELECT ctid FROM settled_statistics WHERE partition = %L LIMIT %s))
            RETURNING device_id, region, metric, count, sum, min, max, last_value, last_ts, last_key, last_received_at
        ),
        written AS (%s)
        SELECT count(*) FROM gone
    $sql$, name, piece, statement_to_add('SELECT * FROM gone', NULL)) INTO moved;
    RETURN moved;
END
$$;

-- Drops the partition of a day that leaves and whose statistics have moved, and takes along what came late until now; false when it is
-- not one. From the lock to the end of the transaction only a writer with a row of that very day waits; the drop itself stops everyone
-- for an instant, or fails within the timeout.
CREATE FUNCTION drop_leaving_partition(name text) RETURNS boolean
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_bitmapscan = off
SET lock_timeout = '100ms' AS $$
BEGIN
    PERFORM FROM settled_days WHERE partition = name AND state = 'leaving' FOR UPDATE;
    IF NOT FOUND OR EXISTS (SELECT FROM settled_statistics WHERE partition = name) THEN
        RETURN false;
    END IF;
    EXECUTE format('LOCK TABLE %I IN SHARE MODE', name);
    PERFORM fold_late_measurements(name, NULL);
    DELETE FROM settled_days WHERE partition = name;
    EXECUTE format('DROP TABLE %I', name);
    RETURN true;
END
$$;

-- Has every day added up again but those that leave; returns how many. For when what stands there is not to be trusted.
CREATE FUNCTION settle_again() RETURNS bigint
LANGUAGE sql AS $$
    WITH again AS (
        UPDATE settled_days SET state = 'begun', file = '', changed_at = now() WHERE state <> 'leaving' RETURNING 1
    )
    SELECT count(*) FROM again
$$;

-- Whoever could read what dropped days amount to can read it of settled ones.
DO $$
DECLARE
    grantee text;
    name text;
BEGIN
    FOR grantee IN
        SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END
        FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS a
        WHERE c.oid = 'retired_statistics'::regclass AND a.grantee <> c.relowner AND a.privilege_type = 'SELECT'
    LOOP
        FOREACH name IN ARRAY ARRAY['settled_days', 'settled_statistics', 'late_measurements', 'days_added_up']
        LOOP
            EXECUTE format('GRANT SELECT ON %I TO %s', name, grantee);
        END LOOP;
    END LOOP;
END
$$;
