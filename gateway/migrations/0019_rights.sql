-- A gateway need not own the tables: what only their owner can do is done by functions that run with the owner's rights, each for
-- partitions of the house's own tables and nothing else. contract/rights.py has who may do what. Whoever replaces one of these functions
-- later says SECURITY DEFINER and its search_path again.

-- The tables over time.
CREATE FUNCTION tables_over_time() RETURNS text[]
LANGUAGE sql IMMUTABLE AS $$
    SELECT ARRAY['measurements', 'open_minutes', 'packed_minutes', 'regions_1m', 'measurements_1h', 'regions_1h']
$$;

-- Whether a table is a partition over time of one of these, whoever made it.
CREATE FUNCTION is_partition(name text, parents text[]) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM unnest(parents) AS t (parent) CROSS JOIN LATERAL partitions_of(t.parent) AS p WHERE p.name = is_partition.name)
$$;

CREATE FUNCTION refuse_unless(ours boolean, name text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF NOT ours THEN
        RAISE insufficient_privilege USING MESSAGE = format('%s is no table that this function may change', name);
    END IF;
END
$$;

-- The same as before, of our own tables.
CREATE OR REPLACE FUNCTION attach_partition(parent text, time_column text, since timestamptz, until timestamptz) RETURNS boolean
LANGUAGE plpgsql
SET lock_timeout = '100ms' AS $$
DECLARE
    name text := parent || '_p' || to_char(since AT TIME ZONE 'UTC', 'YYYYMMDD');
    storage text;
BEGIN
    PERFORM refuse_unless(parent = ANY (tables_over_time()), parent);
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

CREATE OR REPLACE FUNCTION shut_default_partition(parent text, time_column text, since timestamptz[], until timestamptz[]) RETURNS void
LANGUAGE plpgsql
SET lock_timeout = '100ms' AS $$
BEGIN
    PERFORM refuse_unless(parent = ANY (tables_over_time()), parent);
    EXECUTE format(
        'ALTER TABLE %I ADD CONSTRAINT partitions_ahead CHECK (%s) NOT VALID', parent || '_default',
        (
            SELECT string_agg(format('(%1$I < %2$L OR %1$I >= %3$L)', time_column, r.since, r.until), ' AND ')
            FROM unnest(since, until) AS r (since, until)
        ));
END
$$;

CREATE OR REPLACE FUNCTION begin_day(name text) RETURNS text
LANGUAGE plpgsql
SET lock_timeout = '100ms' AS $$
BEGIN
    PERFORM refuse_unless(is_partition(name, ARRAY['measurements']), name);
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

CREATE OR REPLACE FUNCTION let_day_be(name text) RETURNS boolean
LANGUAGE plpgsql
SET lock_timeout = '100ms' AS $$
DECLARE
    noting text;
BEGIN
    PERFORM refuse_unless(is_partition(name, ARRAY['measurements']), name);
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

CREATE OR REPLACE FUNCTION drop_empty_partition(name text) RETURNS boolean
LANGUAGE plpgsql
SET enable_seqscan = on
SET lock_timeout = '100ms' AS $$
DECLARE
    holds boolean;
BEGIN
    PERFORM refuse_unless(is_partition(name, ARRAY['measurements']), name);
    EXECUTE format('LOCK TABLE %I IN SHARE MODE', name);
    EXECUTE format('SELECT EXISTS (SELECT FROM %I)', name) INTO holds;
    IF NOT holds THEN
        EXECUTE format('DROP TABLE %I', name);
    END IF;
    RETURN NOT holds;
END
$$;

CREATE OR REPLACE FUNCTION drop_leaving_partition(name text) RETURNS boolean
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_bitmapscan = off
SET lock_timeout = '100ms' AS $$
BEGIN
    PERFORM FROM settled_days WHERE partition = name AND state = 'leaving' FOR UPDATE;
    IF NOT FOUND OR NOT is_partition(name, ARRAY['measurements']) OR EXISTS (SELECT FROM settled_statistics WHERE partition = name) THEN
        RETURN false;
    END IF;
    EXECUTE format('LOCK TABLE %I IN SHARE MODE', name);
    PERFORM fold_late_measurements(name, NULL);
    DELETE FROM settled_days WHERE partition = name;
    EXECUTE format('DROP TABLE %I', name);
    RETURN true;
END
$$;

CREATE OR REPLACE FUNCTION drop_history_partition(name text, its_rollup text, until timestamptz) RETURNS void
LANGUAGE plpgsql
SET lock_timeout = '100ms' AS $$
BEGIN
    UPDATE rollups SET kept_since = until WHERE rollup = its_rollup AND kept_since < until;
    IF is_partition(name, array_remove(tables_over_time(), 'measurements')) THEN
        EXECUTE format('DROP TABLE %I', name);
    END IF;
END
$$;

-- Adds what stands in the blocks [first, beyond) of a day to `retired_statistics` and removes it there; says how many rows it was, and
-- null when the day has been dropped meanwhile.
CREATE FUNCTION retire_blocks(name text, first bigint, beyond bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
BEGIN
    IF to_regclass(name) IS NULL THEN
        RETURN NULL;
    END IF;
    PERFORM refuse_unless(is_partition(name, ARRAY['measurements']), name);
    RETURN retire_measurements(format(
        'DELETE FROM %I WHERE ctid >= %L AND ctid < %L RETURNING *', name, format('(%s,0)', first), format('(%s,0)', beyond)));
END
$$;

-- The same of up to `piece` rows of the default partition, from `since` on and older than `before`, the oldest first; also where to go
-- on, null when there are none.
CREATE FUNCTION retire_strays(since timestamptz, before timestamptz, piece integer, OUT retired bigint, OUT through timestamptz)
LANGUAGE plpgsql AS $$
DECLARE
    places tid[];
BEGIN
    SELECT array_agg(s.place), max(s.ts) INTO places, through
    FROM (
        SELECT d.ctid AS place, d.ts FROM measurements_default AS d
        WHERE d.ts >= since AND d.ts < before
        ORDER BY d.ts
        LIMIT piece
        FOR UPDATE SKIP LOCKED
    ) AS s;
    retired := retire_measurements(format('DELETE FROM measurements_default WHERE ctid = ANY (%L::tid[]) RETURNING *', coalesce(places, '{}')));
END
$$;

-- Which run with the owner's rights, and for whom: of roles that are not the owner, gateways are those that may write leases.
DO $$
DECLARE
    changed regprocedure;
    gateway text;
    keyless text;
BEGIN
    FOREACH changed IN ARRAY ARRAY[
        'attach_partition(text, text, timestamptz, timestamptz)', 'shut_default_partition(text, text, timestamptz[], timestamptz[])',
        'validate_default_partition(text)', 'open_default_partition(text)', 'begin_day(text)', 'let_day_be(text)',
        'retire_blocks(text, bigint, bigint)', 'retire_strays(timestamptz, timestamptz, integer)', 'drop_empty_partition(text)',
        'drop_leaving_partition(text)', 'drop_history_partition(text, text, timestamptz)', 'drop_open_minutes(text)'
    ]::regprocedure[] LOOP
        EXECUTE format('ALTER FUNCTION %s SECURITY DEFINER SET search_path = %I, pg_temp', changed, current_schema());
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', changed);
        FOR gateway IN
            SELECT DISTINCT a.grantee::regrole::text FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS a
            WHERE c.oid = 'stream_leases'::regclass AND a.privilege_type = 'UPDATE' AND a.grantee NOT IN (0, c.relowner)
        LOOP
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s', changed, gateway);
        END LOOP;
    END LOOP;
    -- What a site gives to readers of every new table (ALTER DEFAULT PRIVILEGES) is not for the keys.
    FOR keyless IN
        SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END
        FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS a
        WHERE c.oid = 'stream_keys'::regclass AND a.grantee <> c.relowner AND (a.grantee = 0 OR NOT (
            has_table_privilege(a.grantee, 'stream_leases', 'UPDATE') OR has_table_privilege(a.grantee, 'projections', 'INSERT')))
    LOOP
        EXECUTE format('REVOKE ALL ON stream_keys FROM %s', keyless);
    END LOOP;
END
$$;

-- Whose dead letter it is: the gateway that was told the message. A replay of another gateway's, which has other routes, leaves it alone.
ALTER TABLE dead_letters ADD COLUMN gateway text;
ALTER TABLE dead_letters ALTER COLUMN gateway SET DEFAULT nullif(current_setting('mqtt_edge.gateway', true), '');

DROP FUNCTION select_dead_letters(text[], text[], text, timestamptz, timestamptz, boolean);

-- The letters that a command is about. No gateways are all; letters of before, which are nobody's, are anybody's.
CREATE FUNCTION select_dead_letters(
    reasons text[], devices text[], topics text, since timestamptz, until timestamptz, replayed boolean, gateways text[]
) RETURNS SETOF bigint
LANGUAGE sql STABLE AS $$
    SELECT d.id FROM dead_letters AS d
    WHERE (cardinality(reasons) = 0 OR d.reason = ANY (reasons))
        AND (
            cardinality(devices) = 0 OR d.device_id = ANY (devices) OR d.stands_for && devices
            OR (devices IS NULL AND EXISTS (
                SELECT FROM devices AS a
                WHERE a.state = 'active' AND a.device_id = ANY (coalesce(d.stands_for, ARRAY[d.device_id]))))
        )
        AND (topics IS NULL OR d.topic ~ topics) AND (since IS NULL OR d.received_at >= since)
        AND (until IS NULL OR d.received_at < until) AND (replayed OR d.replayed_at IS NULL)
        AND (cardinality(gateways) = 0 OR d.gateway IS NULL OR d.gateway = ANY (gateways))
$$;
