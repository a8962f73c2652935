-- What the migrations in gateway/migrations/ add up to, for reading. Written by `make schema`.

CREATE FUNCTION public.add_measurements(sources text, day text) RETURNS bigint
    LANGUAGE plpgsql
    SET enable_seqscan TO 'on'
    SET enable_hashagg TO 'on'
    SET enable_sort TO 'off'
    SET jit TO 'off'
    SET work_mem TO '32MB'
    AS $_$
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
$_$;

CREATE FUNCTION public.attach_partition(parent text, time_column text, since timestamp with time zone, until timestamp with time zone) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET lock_timeout TO '100ms'
    SET search_path TO 'public', 'pg_temp'
    AS $$
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

CREATE FUNCTION public.begin_day(name text) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET lock_timeout TO '100ms'
    SET search_path TO 'public', 'pg_temp'
    AS $$
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

CREATE FUNCTION public.claim_keys(current integer, identities text, contents text, readings integer, OUT claimed_1 bigint[], OUT claimed_2 bigint[]) RETURNS record
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF current = 0 THEN
        WITH claimed AS (
            INSERT INTO message_keys_0 (h1, h2, digest)
            SELECT hashtextextended(i.identity, 0) AS h1, hashtextextended(i.identity, 1) AS h2, hashtextextended(i.content, 2)
            FROM unnest(string_to_array(identities, E'\x1d'), string_to_array(contents, E'\x1d'))
                WITH ORDINALITY AS i (identity, content, ord)
            WHERE NOT EXISTS (
                SELECT FROM message_keys_1 AS older
                WHERE older.h1 = hashtextextended(i.identity, 0) AND older.h2 = hashtextextended(i.identity, 1)
            )
            ORDER BY 1, 2, i.ord
            ON CONFLICT DO NOTHING
            RETURNING h1, h2
        ),
        counted AS (
            SELECT count(*) < readings AS short FROM claimed
        )
        SELECT
            CASE WHEN short THEN (SELECT coalesce(array_agg(h1), '{}') FROM claimed) END,
            CASE WHEN short THEN (SELECT coalesce(array_agg(h2), '{}') FROM claimed) END
        INTO claimed_1, claimed_2
        FROM counted;
    ELSE
        WITH claimed AS (
            INSERT INTO message_keys_1 (h1, h2, digest)
            SELECT hashtextextended(i.identity, 0) AS h1, hashtextextended(i.identity, 1) AS h2, hashtextextended(i.content, 2)
            FROM unnest(string_to_array(identities, E'\x1d'), string_to_array(contents, E'\x1d'))
                WITH ORDINALITY AS i (identity, content, ord)
            WHERE NOT EXISTS (
                SELECT FROM message_keys_0 AS older
                WHERE older.h1 = hashtextextended(i.identity, 0) AND older.h2 = hashtextextended(i.identity, 1)
            )
            ORDER BY 1, 2, i.ord
            ON CONFLICT DO NOTHING
            RETURNING h1, h2
        ),
        counted AS (
            SELECT count(*) < readings AS short FROM claimed
        )
        SELECT
            CASE WHEN short THEN (SELECT coalesce(array_agg(h1), '{}') FROM claimed) END,
            CASE WHEN short THEN (SELECT coalesce(array_agg(h2), '{}') FROM claimed) END
        INTO claimed_1, claimed_2
        FROM counted;
    END IF;
END
$$;

CREATE FUNCTION public.count_dead_letters() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        DELETE FROM dead_letter_changes;
        DELETE FROM dead_letter_shares;
        UPDATE dead_letter_totals SET letters = 0, bytes = 0;
        RETURN NULL;
    END IF;
    INSERT INTO dead_letter_changes (device_id, reason, letters, bytes)
    SELECT coalesce(c.device_id, ''), c.reason, sign * count(*), sign * sum(dead_letter_bytes(c.topic, c.payload))
    FROM changed AS c, (SELECT CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END AS sign) AS s
    GROUP BY sign, 1, 2;
    RETURN NULL;
END
$$;

CREATE FUNCTION public.create_history_partition(parent text, since timestamp with time zone, until timestamp with time zone) RETURNS boolean
    LANGUAGE plpgsql
    SET lock_timeout TO '100ms'
    AS $$
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

CREATE FUNCTION public.create_measurement_partitions(first date, last date) RETURNS integer
    LANGUAGE plpgsql
    SET lock_timeout TO '100ms'
    AS $$
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

CREATE FUNCTION public.dead_letter_bytes(topic text, payload bytea) RETURNS bigint
    LANGUAGE sql IMMUTABLE
    AS $$
    SELECT octet_length(topic)::bigint + octet_length(payload)
$$;

CREATE FUNCTION public.dead_letter_cuts(of_letters boolean, excess bigint, piece integer) RETURNS TABLE(device_id text, reason text, turn bigint, cut bigint)
    LANGUAGE sql STABLE
    AS $$
    WITH largest AS (
        (SELECT s.device_id, s.reason, s.letters AS held FROM dead_letter_shares AS s WHERE of_letters ORDER BY s.letters DESC LIMIT piece + 1)
        UNION ALL
        (SELECT s.device_id, s.reason, s.bytes FROM dead_letter_shares AS s WHERE NOT of_letters ORDER BY s.bytes DESC LIMIT piece + 1)
    ),
    ranked AS (
        SELECT
            l.*, row_number() OVER w AS turn, sum(l.held) OVER w AS through, lead(l.held) OVER w AS next,
            count(*) OVER () AS senders
        FROM largest AS l WINDOW w AS (ORDER BY l.held DESC, l.device_id, l.reason)
    ),
    -- What goes when the first `turn` senders come down to the level of the next.
    levels AS (
        SELECT r.turn, r.through, r.through - r.turn * coalesce(r.next, 0) AS gain
        FROM ranked AS r WHERE r.next IS NOT NULL OR r.senders <= piece
    ),
    level AS (
        SELECT l.turn AS senders, l.through - least(l.gain, excess) AS kept
        FROM levels AS l ORDER BY l.gain < excess, CASE WHEN l.gain < excess THEN -l.turn ELSE l.turn END
        LIMIT 1
    )
    SELECT
        r.device_id, r.reason, r.turn,
        (r.held - div(v.kept, v.senders) - CASE WHEN r.turn <= mod(v.kept, v.senders) THEN 1 ELSE 0 END)::bigint
    FROM ranked AS r, level AS v
    WHERE r.turn <= v.senders
$$;

CREATE FUNCTION public.default_partition_holds(parent text, time_column text, since timestamp with time zone, until timestamp with time zone) RETURNS boolean
    LANGUAGE plpgsql STABLE
    AS $_$
DECLARE
    found boolean;
BEGIN
    EXECUTE format('SELECT EXISTS (SELECT FROM %1$I WHERE %2$I >= %3$L AND %2$I < %4$L)', parent || '_default', time_column, since, until)
    INTO found;
    RETURN found;
END
$_$;

CREATE FUNCTION public.drop_empty_partition(name text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET enable_seqscan TO 'on'
    SET lock_timeout TO '100ms'
    SET search_path TO 'public', 'pg_temp'
    AS $$
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

CREATE FUNCTION public.drop_history_partition(name text, its_rollup text, until timestamp with time zone) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET lock_timeout TO '100ms'
    SET search_path TO 'public', 'pg_temp'
    AS $$
BEGIN
    UPDATE rollups SET kept_since = until WHERE rollup = its_rollup AND kept_since < until;
    IF is_partition(name, array_remove(tables_over_time(), 'measurements')) THEN
        EXECUTE format('DROP TABLE %I', name);
    END IF;
END
$$;

CREATE FUNCTION public.drop_leaving_partition(name text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET lock_timeout TO '100ms'
    SET search_path TO 'public', 'pg_temp'
    AS $$
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

CREATE FUNCTION public.drop_measurement_partition(name text, expected bigint) RETURNS boolean
    LANGUAGE plpgsql
    SET enable_seqscan TO 'on'
    SET lock_timeout TO '100ms'
    AS $$
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

CREATE FUNCTION public.drop_open_minutes(name text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET lock_timeout TO '100ms'
    SET search_path TO 'public', 'pg_temp'
    AS $$
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

CREATE FUNCTION public.evict_dead_letters(max_letters bigint, max_bytes bigint, piece integer, OUT letters bigint, OUT bytes bigint) RETURNS record
    LANGUAGE plpgsql
    AS $$
DECLARE
    over_letters bigint;
    over_bytes bigint;
BEGIN
    letters := 0;
    bytes := 0;
    IF NOT pg_try_advisory_xact_lock(hashtextextended('mqtt-edge-gateway/dead-letters', 0)) THEN
        RETURN;
    END IF;
    PERFORM fold_dead_letter_changes(100000);
    DELETE FROM dead_letter_shares AS s WHERE s.letters = 0 AND s.bytes = 0;
    SELECT t.letters - max_letters, t.bytes - max_bytes INTO over_letters, over_bytes FROM dead_letter_totals AS t;
    IF over_letters <= 0 AND over_bytes <= 0 THEN
        RETURN;
    END IF;
    WITH oldest AS (
        SELECT c.turn, o.id, o.size
        FROM dead_letter_cuts(over_letters > 0, CASE WHEN over_letters > 0 THEN least(over_letters, piece) ELSE over_bytes END, piece) AS c
        CROSS JOIN LATERAL (
            SELECT q.id, q.size, sum(q.size) OVER (ORDER BY q.id) - q.size AS bytes_before
            FROM (
                SELECT d.id, dead_letter_bytes(d.topic, d.payload) AS size
                FROM dead_letters AS d
                WHERE coalesce(d.device_id, '') COLLATE "C" = c.device_id AND d.reason COLLATE "C" = c.reason
                ORDER BY d.id
                LIMIT least(piece, CASE WHEN over_letters > 0 THEN c.cut END)
                FOR UPDATE SKIP LOCKED
            ) AS q
        ) AS o
        WHERE c.cut > 0 AND (over_letters > 0 OR o.bytes_before < c.cut)
        LIMIT piece
    ),
    counted AS (
        SELECT o.id, sum(o.size) OVER (ORDER BY o.turn, o.id) - o.size AS bytes_before FROM oldest AS o
    ),
    gone AS (
        DELETE FROM dead_letters AS d USING counted AS c
        WHERE d.id = c.id AND (over_letters > 0 OR c.bytes_before < over_bytes)
        RETURNING dead_letter_bytes(d.topic, d.payload) AS size
    )
    SELECT count(*), coalesce(sum(g.size), 0) INTO letters, bytes FROM gone AS g;
END
$$;

CREATE FUNCTION public.file_of(name text) RETURNS text
    LANGUAGE sql STABLE
    AS $$
    SELECT extract(epoch FROM pg_postmaster_start_time()) || ' ' || pg_relation_filepath(to_regclass(name))
$$;

CREATE FUNCTION public.find_repeats(identities text, contents text, claimed_1 bigint[], claimed_2 bigint[]) RETURNS TABLE(place integer, differs boolean)
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM pg_logical_emit_message(true, 'mqtt-edge-gateway', '');
    RETURN QUERY
    WITH incoming AS MATERIALIZED (
        SELECT
            hashtextextended(i.identity, 0) AS h1,
            hashtextextended(i.identity, 1) AS h2,
            hashtextextended(i.content, 2) AS digest,
            i.ord::integer AS ord
        FROM unnest(string_to_array(identities, E'\x1d'), string_to_array(contents, E'\x1d'))
            WITH ORDINALITY AS i (identity, content, ord)
    ),
    marked AS (
        SELECT i.ord, i.h1, i.h2, i.digest <> k.digest AS conflict, false AS ours
        FROM incoming AS i JOIN message_keys_0 AS k USING (h1, h2)
        UNION ALL
        SELECT i.ord, i.h1, i.h2, i.digest <> k.digest, false
        FROM incoming AS i JOIN message_keys_1 AS k USING (h1, h2)
        UNION ALL
        SELECT NULL, c.h1, c.h2, NULL, true FROM unnest(claimed_1, claimed_2) AS c (h1, h2)
    ),
    ranked AS (
        SELECT
            ord, conflict, bool_or(ours) OVER (PARTITION BY h1, h2) AS ours,
            row_number() OVER (PARTITION BY h1, h2 ORDER BY ord NULLS LAST) AS turn
        FROM marked
    )
    SELECT r.ord, r.conflict FROM ranked AS r WHERE r.ord IS NOT NULL AND NOT (r.ours AND r.turn = 1) ORDER BY r.ord;
END
$$;

CREATE FUNCTION public.fold_dead_letter_changes(piece integer) RETURNS bigint
    LANGUAGE sql
    AS $$
    WITH gone AS (
        DELETE FROM dead_letter_changes
        WHERE ctid = ANY (ARRAY(SELECT ctid FROM dead_letter_changes LIMIT piece FOR UPDATE SKIP LOCKED))
        RETURNING *
    ),
    shared AS (
        INSERT INTO dead_letter_shares AS s (device_id, reason, letters, bytes)
        SELECT g.device_id, g.reason, sum(g.letters), sum(g.bytes) FROM gone AS g GROUP BY 1, 2
        ON CONFLICT (device_id, reason) DO UPDATE SET letters = s.letters + excluded.letters, bytes = s.bytes + excluded.bytes
    ),
    added AS (
        UPDATE dead_letter_totals AS t
        SET letters = t.letters + g.letters, bytes = t.bytes + g.bytes
        FROM (SELECT sum(c.letters) AS letters, sum(c.bytes) AS bytes FROM gone AS c HAVING count(*) > 0) AS g
    )
    SELECT count(*) FROM gone;
$$;

CREATE FUNCTION public.fold_late_measurements(name text, piece bigint) RETURNS bigint
    LANGUAGE plpgsql
    SET lock_timeout TO '100ms'
    AS $$
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

CREATE FUNCTION public.forget_day(name text, piece bigint) RETURNS bigint
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET lock_timeout TO '100ms'
    AS $$
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

CREATE FUNCTION public.from_mark(hex text) RETURNS timestamp with time zone
    LANGUAGE sql STABLE
    AS $$
    SELECT timestamptz '2000-01-01 00:00:00+00' - interval '17600000 hours'
        + ('x' || hex)::bit(64)::bigint / 1000000 * interval '1 second'
        + ('x' || hex)::bit(64)::bigint % 1000000 * interval '1 microsecond'
$$;

CREATE FUNCTION public.grant_as_parent(parent text, name text) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    reader text;
BEGIN
    FOR reader IN
        SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END
        FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS a
        WHERE c.oid = to_regclass(parent) AND a.grantee <> c.relowner AND a.privilege_type = 'SELECT'
    LOOP
        EXECUTE format('GRANT SELECT ON %I TO %s', name, reader);
    END LOOP;
END
$$;

CREATE FUNCTION public.is_partition(name text, parents text[]) RETURNS boolean
    LANGUAGE sql STABLE
    AS $$
    SELECT EXISTS (SELECT FROM unnest(parents) AS t (parent) CROSS JOIN LATERAL partitions_of(t.parent) AS p WHERE p.name = is_partition.name)
$$;

CREATE FUNCTION public.is_sparse(name text) RETURNS boolean
    LANGUAGE plpgsql STABLE
    AS $$
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

CREATE FUNCTION public.let_day_be(name text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET lock_timeout TO '100ms'
    SET search_path TO 'public', 'pg_temp'
    AS $$
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

CREATE FUNCTION public.move_projection(name text, which integer, target bigint, history uuid, since bigint DEFAULT NULL::bigint) RETURNS boolean
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_sort TO 'off'
    AS $$
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

CREATE FUNCTION public.note_change() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
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

CREATE FUNCTION public.note_device_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    NEW.changed := pg_current_xact_id();
    RETURN NEW;
END
$$;

CREATE FUNCTION public.note_packed() RETURNS void
    LANGUAGE sql
    AS $$
    UPDATE rollups
    SET droppable_until = CASE WHEN noted_at <= now() THEN noted_until ELSE droppable_until END,
        noted_until = packed_until, noted_at = now()
    WHERE rollup = '1m' AND packed_until > droppable_until AND noted_at NOT BETWEEN now() - interval '1 hour' AND now()
$$;

CREATE FUNCTION public.note_presence(device_ids text[], tss timestamp with time zone[], arrivals timestamp with time zone[], keys text[], onlines boolean[], copies boolean[]) RETURNS SETOF integer
    LANGUAGE plpgsql
    AS $$
DECLARE
    said record;
    known device_presence;
    changes boolean;
    now_known text[] := '{}';
BEGIN
    FOR said IN
        SELECT s.device_id, s.ts, s.received_at, s.key, s.online, s.copy, s.ord::integer AS ord, least(s.ts, s.received_at) AS said_at
        FROM unnest(device_ids, tss, arrivals, keys, onlines, copies)
            WITH ORDINALITY AS s (device_id, ts, received_at, key, online, copy, ord)
        ORDER BY s.device_id COLLATE "C", s.ord
    LOOP
        IF said.online IS NOT NULL THEN
            INSERT INTO device_presence
            VALUES (
                said.device_id, said.online, said.ts, said.received_at, said.key, said.said_at, said.received_at, said.key)
            ON CONFLICT DO NOTHING;
            IF FOUND THEN
                now_known := now_known || said.device_id;
                RETURN NEXT said.ord;
                CONTINUE;
            END IF;
        END IF;
        SELECT * INTO known FROM device_presence WHERE device_id = said.device_id FOR NO KEY UPDATE;
        IF NOT FOUND OR (said.online IS NULL AND known.online)
            OR (said.said_at, said.received_at, said.key COLLATE "C")
                <= (known.said_at, known.said_received_at, known.said_key COLLATE "C")
        THEN
            CONTINUE;
        END IF;
        changes := coalesce(said.online, true) <> known.online;
        IF said.copy AND (NOT changes OR known.by_reading) THEN
            CONTINUE;
        END IF;
        UPDATE device_presence SET
            online = coalesce(said.online, true),
            ts = CASE WHEN changes THEN said.ts ELSE ts END,
            received_at = CASE WHEN changes THEN said.received_at ELSE received_at END,
            message_key = CASE WHEN changes THEN said.key ELSE message_key END,
            said_at = said.said_at, said_received_at = said.received_at, said_key = said.key,
            by_reading = said.online IS NULL
        WHERE device_id = said.device_id;
        IF changes THEN
            now_known := now_known || said.device_id;
            RETURN NEXT said.ord;
        END IF;
    END LOOP;
    UPDATE devices AS d SET online = p.online, online_since = least(p.ts, p.received_at)
    FROM device_presence AS p
    WHERE p.device_id = d.device_id AND d.device_id IN (
        SELECT f.device_id FROM devices AS f WHERE f.device_id = ANY (now_known)
        ORDER BY f.device_id COLLATE "C"
        FOR NO KEY UPDATE SKIP LOCKED
    );
END
$$;

CREATE FUNCTION public.note_spool_places(whole boolean, of_stream integer, runs text[], places bigint[], lasts text[], left_messages bigint, left_oldest text, left_drains_in_s double precision) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF NOT whole THEN
        RAISE integrity_constraint_violation USING MESSAGE = 'a batch out of a spool is stored as a whole';
    END IF;
    DELETE FROM spools WHERE noted_at < now() - interval '90 days' AND run::text <> ALL (runs);
    INSERT INTO spools AS s (run, stream, place, last, messages_left, oldest_at, drains_in_s)
    SELECT p.run::uuid, of_stream, p.place, p.last::timestamptz, left_messages, left_oldest::timestamptz, left_drains_in_s
    FROM unnest(runs, places, lasts) AS p (run, place, last)
    ON CONFLICT (run) DO UPDATE SET
        stream = excluded.stream,
        place = excluded.place,
        last = greatest(s.last, excluded.last),
        messages_left = excluded.messages_left,
        oldest_at = excluded.oldest_at,
        drains_in_s = excluded.drains_in_s,
        noted_at = now()
    WHERE excluded.place >= s.place;
END
$$;

CREATE FUNCTION public.open_default_partition(parent text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET lock_timeout TO '100ms'
    SET search_path TO 'public', 'pg_temp'
    AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_constraint WHERE conrelid = to_regclass(parent || '_default') AND conname = 'partitions_ahead') THEN
        EXECUTE format('ALTER TABLE %I DROP CONSTRAINT partitions_ahead', parent || '_default');
    END IF;
END
$$;

CREATE FUNCTION public.order_time(ts timestamp with time zone, received_at timestamp with time zone) RETURNS timestamp with time zone
    LANGUAGE sql STABLE
    AS $$
    SELECT least(ts, received_at + interval '5 minutes')
$$;

CREATE FUNCTION public.partitions_of(parent text) RETURNS TABLE(name text, since timestamp with time zone, until timestamp with time zone)
    LANGUAGE sql STABLE
    AS $_$
    SELECT
        b.relname::text, coalesce(substring(b.bound FROM $r$FROM \('([^']+)'\)$r$)::timestamptz, '-infinity'),
        coalesce(substring(b.bound FROM $r$TO \('([^']+)'\)$r$)::timestamptz, 'infinity')
    FROM (
        SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) AS bound
        FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
        WHERE i.inhparent = to_regclass(parent)
    ) AS b
    WHERE b.bound LIKE 'FOR VALUES FROM%'
$_$;

CREATE TABLE public.projections (
    projection text NOT NULL COLLATE pg_catalog."C",
    stream integer NOT NULL,
    n bigint NOT NULL,
    epoch uuid NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    version bigint DEFAULT 0 NOT NULL
)
WITH (fillfactor='50');

CREATE FUNCTION public.projection_at(name text, which integer) RETURNS SETOF public.projections
    LANGUAGE sql STABLE ROWS 1
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_sort TO 'off'
    AS $$
    SELECT * FROM projections WHERE stream = which AND projection = name ORDER BY version DESC LIMIT 1
$$;

CREATE FUNCTION public.projections_on(which integer) RETURNS SETOF public.projections
    LANGUAGE sql STABLE ROWS 3
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_sort TO 'off'
    AS $$
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

CREATE FUNCTION public.recount_dead_letters() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO dead_letter_changes (device_id, reason, letters, bytes)
    SELECT c.device_id, c.reason, sum(c.sign), sum(c.sign * c.bytes)
    FROM (
        SELECT coalesce(device_id, '') AS device_id, reason, 1 AS sign, dead_letter_bytes(topic, payload) AS bytes FROM after
        UNION ALL
        SELECT coalesce(device_id, ''), reason, -1, dead_letter_bytes(topic, payload) FROM before
    ) AS c
    GROUP BY c.device_id, c.reason
    HAVING sum(c.sign) <> 0 OR sum(c.sign * c.bytes) <> 0;
    RETURN NULL;
END
$$;

CREATE FUNCTION public.refuse_unless(ours boolean, name text) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF NOT ours THEN
        RAISE insufficient_privilege USING MESSAGE = format('%s is no table that this function may change', name);
    END IF;
END
$$;

CREATE FUNCTION public.retire_blocks(name text, first bigint, beyond bigint) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
BEGIN
    IF to_regclass(name) IS NULL THEN
        RETURN NULL;
    END IF;
    PERFORM refuse_unless(is_partition(name, ARRAY['measurements']), name);
    RETURN retire_measurements(format(
        'DELETE FROM %I WHERE ctid >= %L AND ctid < %L RETURNING *', name, format('(%s,0)', first), format('(%s,0)', beyond)));
END
$$;

CREATE FUNCTION public.retire_measurements(source text) RETURNS bigint
    LANGUAGE sql
    AS $$
    SELECT add_measurements('added AS (' || source || ')', NULL)
$$;

CREATE FUNCTION public.retire_statistics(name text, piece bigint) RETURNS bigint
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    AS $_$
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
$_$;

CREATE FUNCTION public.retire_strays(since timestamp with time zone, before timestamp with time zone, piece integer, OUT retired bigint, OUT through timestamp with time zone) RETURNS record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
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

CREATE FUNCTION public.saturating_sum(a double precision, b double precision) RETURNS double precision
    LANGUAGE sql IMMUTABLE
    AS $$
    SELECT CASE
        WHEN a IS NULL THEN b
        WHEN b IS NULL THEN a
        WHEN abs(a) < 8e307 AND abs(b) < 8e307 THEN a + b
        ELSE least(1.79769313486231e308, greatest(-1.79769313486231e308, a::numeric + b::numeric))::double precision
    END
$$;

CREATE FUNCTION public.select_dead_letters(reasons text[], devices text[], topics text, since timestamp with time zone, until timestamp with time zone, replayed boolean, gateways text[]) RETURNS SETOF bigint
    LANGUAGE sql STABLE
    AS $$
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

CREATE FUNCTION public.settle_again() RETURNS bigint
    LANGUAGE sql
    AS $$
    WITH again AS (
        UPDATE settled_days SET state = 'begun', file = '', changed_at = now() WHERE state <> 'leaving' RETURNING 1
    )
    SELECT count(*) FROM again
$$;

CREATE FUNCTION public.settle_blocks(name text, step bigint) RETURNS text
    LANGUAGE plpgsql
    SET lock_timeout TO '100ms'
    AS $_$
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
$_$;

CREATE FUNCTION public.shut_default_partition(parent text, time_column text, since timestamp with time zone[], until timestamp with time zone[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET lock_timeout TO '100ms'
    SET search_path TO 'public', 'pg_temp'
    AS $_$
BEGIN
    PERFORM refuse_unless(parent = ANY (tables_over_time()), parent);
    EXECUTE format(
        'ALTER TABLE %I ADD CONSTRAINT partitions_ahead CHECK (%s) NOT VALID', parent || '_default',
        (
            SELECT string_agg(format('(%1$I < %2$L OR %1$I >= %3$L)', time_column, r.since, r.until), ' AND ')
            FROM unnest(since, until) AS r (since, until)
        ));
END
$_$;

CREATE FUNCTION public.statement_to_add(rows text, day text) RETURNS text
    LANGUAGE sql IMMUTABLE
    AS $_$
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
$_$;

CREATE FUNCTION public.store_batch(of_stream integer, by_owner uuid, next_n bigint, follows boolean, identities text, contents text, events text, readings integer, letter_arrivals text[], letter_topics text[], letter_device_ids text[], letter_reasons text[], letter_errors text[], letter_payloads bytea[], letter_stand_for text[], said_places integer[], said_device_ids text[], said_tss text[], said_arrivals text[], said_keys text[], said_onlines boolean[], said_copies boolean[], said_endings text[], OUT refused boolean, OUT created_at timestamp with time zone, OUT repeats integer[], OUT conflicts integer[], OUT letters bigint[], OUT changing integer[]) RETURNS record
    LANGUAGE plpgsql
    AS $$
DECLARE
    began timestamptz := clock_timestamp();
    last_n bigint;
    current integer;
    claimed_1 bigint[];
    claimed_2 bigint[];
    stored integer := readings;
    payload text;
    asked integer[];
    device_ids text[];
    tss text[];
    arrivals text[];
    keys text[];
    onlines boolean[];
    copies boolean[];
BEGIN
    WHILE follows AND clock_timestamp() < began + interval '50 ms' LOOP
        EXIT WHEN next_n <= 1 + (
            SELECT greatest(l.head, (SELECT max(o.n) FROM outbox AS o WHERE o.stream = of_stream))
            FROM stream_leases AS l WHERE l.stream = of_stream);
        PERFORM pg_sleep(0.001);
    END LOOP;
    SELECT l.head INTO last_n FROM stream_leases AS l WHERE l.stream = of_stream AND l.owner = by_owner FOR NO KEY UPDATE;
    refused := NOT FOUND OR next_n <> 1 + greatest(last_n, (SELECT max(o.n) FROM outbox AS o WHERE o.stream = of_stream));
    IF refused THEN
        RETURN;
    END IF;

    LOCK TABLE message_keys_0, message_keys_1 IN ACCESS SHARE MODE; -- from here on the window does not turn
    SELECT d.generation INTO current FROM dedup AS d;
    SELECT c.claimed_1, c.claimed_2 INTO claimed_1, claimed_2 FROM claim_keys(current, identities, contents, readings) AS c;
    IF claimed_1 IS NOT NULL THEN
        SELECT array_agg(r.place) FILTER (WHERE NOT r.differs), array_agg(r.place) FILTER (WHERE r.differs)
        INTO repeats, conflicts
        FROM find_repeats(identities, contents, claimed_1, claimed_2) AS r;
    END IF;
    IF said_places IS NOT NULL THEN
        SELECT
            array_agg(s.place ORDER BY s.place), array_agg(s.device_id ORDER BY s.place), array_agg(s.ts ORDER BY s.place),
            array_agg(s.received_at ORDER BY s.place), array_agg(s.key ORDER BY s.place), array_agg(s.online ORDER BY s.place),
            array_agg(s.copy ORDER BY s.place)
        INTO asked, device_ids, tss, arrivals, keys, onlines, copies
        FROM unnest(said_places, said_device_ids, said_tss, said_arrivals, said_keys, said_onlines, said_copies)
            AS s (place, device_id, ts, received_at, key, online, copy)
        WHERE (s.place = ANY (repeats || conflicts)) IS NOT TRUE;
        SELECT array_agg(asked[n.nth]) INTO changing
        FROM note_presence(device_ids, tss::timestamptz[], arrivals::timestamptz[], keys, onlines, copies) AS n (nth);
    END IF;
    IF repeats IS NOT NULL OR conflicts IS NOT NULL OR changing IS NOT NULL THEN
        SELECT string_agg(CASE WHEN p.changes THEN left(p.event, -1) || p.ending ELSE p.event END, E'\n' ORDER BY p.place), count(*)
        INTO events, stored
        FROM (
            SELECT
                a.place, max(a.event) AS event, max(a.ending) AS ending, bool_or(a.changes) AS changes, bool_or(a.is_out) AS is_out
            FROM (
                SELECT e.place::integer, e.event, NULL AS ending, false AS changes, false AS is_out
                FROM unnest(string_to_array(events, E'\n')) WITH ORDINALITY AS e (event, place)
                UNION ALL
                SELECT s.place, NULL, s.ending, false, false FROM unnest(said_places, said_endings) AS s (place, ending)
                UNION ALL
                SELECT c.place, NULL, NULL, true, false FROM unnest(changing) AS c (place)
                UNION ALL
                SELECT o.place, NULL, NULL, false, true FROM unnest(repeats || conflicts) AS o (place)
            ) AS a
            GROUP BY a.place
        ) AS p
        WHERE NOT p.is_out;
    END IF;
    IF stored > 0 THEN
        payload := '[' || replace(events, E'\n', ',') || ']';
        INSERT INTO measurements (device_id, ts, received_at, message_key, region, metrics, tags)
        SELECT e.device_id, e.ts, e.received_at, e.key, e.region, e.metrics, e.tags
        FROM json_to_recordset(payload::json) AS e (
            device_id text, ts timestamptz, received_at timestamptz, key text, region text, metrics jsonb, tags jsonb);
        IF letter_topics IS NOT NULL THEN
            WITH kept AS (
                INSERT INTO dead_letters (received_at, topic, device_id, reason, error, payload, stands_for)
                SELECT
                    r.received_at::timestamptz, r.topic, r.device_id, r.reason, r.error, r.payload,
                    string_to_array(r.stands_for, E'\x1d')
                FROM unnest(
                    letter_arrivals, letter_topics, letter_device_ids, letter_reasons, letter_errors, letter_payloads,
                    letter_stand_for
                ) WITH ORDINALITY AS r (received_at, topic, device_id, reason, error, payload, stands_for, ord)
                ORDER BY r.ord
                RETURNING id
            )
            SELECT array_agg(k.id ORDER BY k.id) INTO letters FROM kept AS k;
        END IF;
        created_at := clock_timestamp();
        INSERT INTO outbox (stream, n, events, payload, created_at)
        VALUES (of_stream, next_n, stored, convert_to(payload, 'UTF8'), store_batch.created_at);
    END IF;
END
$$;

CREATE FUNCTION public.tables_over_time() RETURNS text[]
    LANGUAGE sql IMMUTABLE
    AS $$
    SELECT ARRAY['measurements', 'open_minutes', 'packed_minutes', 'regions_1m', 'measurements_1h', 'regions_1h']
$$;

CREATE FUNCTION public.to_mark(t timestamp with time zone) RETURNS bytea
    LANGUAGE sql STABLE
    AS $$
    SELECT timestamptz_send(t + interval '17600000 hours')
$$;

CREATE FUNCTION public.turn_dedup(window_length interval) RETURNS boolean
    LANGUAGE plpgsql
    SET lock_timeout TO '50ms'
    AS $$
DECLARE
    late interval;
    older text;
BEGIN
    SELECT now() - window_length - turned_at, 'message_keys_' || (1 - generation) INTO late, older FROM dedup FOR UPDATE;
    IF late < interval '0' THEN
        RETURN false;
    END IF;
    IF late > interval '1 hour' THEN
        PERFORM set_config('lock_timeout', '500ms', true);
    END IF;
    EXECUTE format('TRUNCATE %I', older);
    UPDATE dedup SET generation = 1 - generation, turned_at = now();
    RETURN true;
END
$$;

CREATE FUNCTION public.validate_default_partition(parent text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
BEGIN
    EXECUTE format('ALTER TABLE %I VALIDATE CONSTRAINT partitions_ahead', parent || '_default');
END
$$;

CREATE TABLE public.measurements (
    device_id text NOT NULL COLLATE pg_catalog."C",
    ts timestamp with time zone NOT NULL,
    received_at timestamp with time zone NOT NULL,
    message_key text NOT NULL,
    region text,
    metrics jsonb NOT NULL,
    tags jsonb
)
PARTITION BY RANGE (ts);

CREATE TABLE public.settled_days (
    partition text NOT NULL COLLATE pg_catalog."C",
    state text NOT NULL,
    file text DEFAULT ''::text NOT NULL,
    blocks bigint DEFAULT 0 NOT NULL,
    measurements bigint DEFAULT 0 NOT NULL,
    changed_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT settled_days_state_check CHECK ((state = ANY (ARRAY['begun'::text, 'settled'::text, 'left'::text, 'leaving'::text])))
);

CREATE VIEW public.days_added_up AS
 SELECT d.partition,
    d.state,
    d.measurements,
    i.inhrelid AS relation
   FROM ((pg_inherits i
     JOIN pg_class c ON ((c.oid = i.inhrelid)))
     JOIN public.settled_days d ON ((d.partition = c.relname)))
  WHERE ((i.inhparent = ('public.measurements'::regclass)::oid) AND ((d.state = 'leaving'::text) OR ((d.state = 'settled'::text) AND (EXISTS ( SELECT
           FROM pg_trigger t
          WHERE ((t.tgrelid = c.oid) AND (t.tgname = 'note_change'::name) AND (t.tgenabled <> 'D'::"char")))))));

CREATE TABLE public.dead_letter_changes (
    letters bigint NOT NULL,
    bytes bigint NOT NULL,
    device_id text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    reason text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C"
);

CREATE TABLE public.dead_letter_shares (
    device_id text NOT NULL COLLATE pg_catalog."C",
    reason text NOT NULL COLLATE pg_catalog."C",
    letters bigint NOT NULL,
    bytes bigint NOT NULL
)
WITH (fillfactor='50');

CREATE TABLE public.dead_letter_totals (
    only_row boolean DEFAULT true NOT NULL,
    letters bigint NOT NULL,
    bytes bigint NOT NULL,
    CONSTRAINT dead_letter_totals_only_row_check CHECK (only_row)
);

CREATE TABLE public.dead_letters (
    id bigint NOT NULL,
    received_at timestamp with time zone NOT NULL,
    topic text NOT NULL,
    device_id text,
    reason text NOT NULL,
    error text NOT NULL,
    payload bytea NOT NULL,
    replayed_at timestamp with time zone,
    stands_for text[],
    gateway text DEFAULT NULLIF(current_setting('mqtt_edge.gateway'::text, true), ''::text)
);

ALTER TABLE public.dead_letters ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.dead_letters_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.dedup (
    only_row boolean DEFAULT true NOT NULL,
    generation smallint NOT NULL,
    turned_at timestamp with time zone NOT NULL,
    CONSTRAINT dedup_generation_check CHECK ((generation = ANY (ARRAY[0, 1]))),
    CONSTRAINT dedup_only_row_check CHECK (only_row)
);

CREATE TABLE public.device_care (
    device_id text NOT NULL COLLATE pg_catalog."C",
    what text NOT NULL,
    since timestamp with time zone NOT NULL,
    until timestamp with time zone,
    said_by text NOT NULL,
    reason text NOT NULL,
    version bigint NOT NULL,
    told_by text,
    CONSTRAINT device_care_check CHECK (((until IS NOT NULL) OR (what <> ALL (ARRAY['muted'::text, 'expired'::text])))),
    CONSTRAINT device_care_reason_check CHECK ((length(reason) <= 500)),
    CONSTRAINT device_care_said_by_check CHECK ((length(said_by) <= 500)),
    CONSTRAINT device_care_what_check CHECK ((what = ANY (ARRAY['muted'::text, 'unmuted'::text, 'expired'::text, 'retired'::text, 'unretired'::text, 'returned'::text])))
);

CREATE SEQUENCE public.device_care_versions
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

CREATE TABLE public.device_presence (
    device_id text NOT NULL COLLATE pg_catalog."C",
    online boolean NOT NULL,
    ts timestamp with time zone NOT NULL,
    received_at timestamp with time zone NOT NULL,
    message_key text NOT NULL,
    said_at timestamp with time zone NOT NULL,
    said_received_at timestamp with time zone NOT NULL,
    said_key text NOT NULL,
    by_reading boolean DEFAULT false NOT NULL
);

CREATE TABLE public.devices (
    device_id text NOT NULL COLLATE pg_catalog."C",
    region text,
    first_seen timestamp with time zone,
    last_seen timestamp with time zone,
    online boolean,
    online_since timestamp with time zone,
    name text,
    labels jsonb DEFAULT '{}'::jsonb NOT NULL,
    expected_every interval,
    state text DEFAULT 'active'::text NOT NULL,
    changed xid8 DEFAULT pg_current_xact_id() NOT NULL,
    CONSTRAINT devices_expected_every_check CHECK (((EXTRACT(epoch FROM expected_every) >= (1)::numeric) AND (EXTRACT(epoch FROM expected_every) <= (315360000)::numeric))),
    CONSTRAINT devices_labels_check CHECK (((jsonb_typeof(labels) = 'object'::text) AND (octet_length((labels)::text) <= 4000))),
    CONSTRAINT devices_name_check CHECK (((length(name) >= 1) AND (length(name) <= 100))),
    CONSTRAINT devices_state_check CHECK ((state = ANY (ARRAY['active'::text, 'blocked'::text, 'unknown'::text])))
)
WITH (fillfactor='80');

CREATE TABLE public.late_measurements (
    partition text NOT NULL COLLATE pg_catalog."C",
    place tid NOT NULL,
    device_id text NOT NULL COLLATE pg_catalog."C",
    ts timestamp with time zone NOT NULL,
    received_at timestamp with time zone NOT NULL,
    message_key text NOT NULL,
    region text,
    metrics jsonb NOT NULL,
    tags jsonb
);

CREATE TABLE public.late_minutes (
    device_id text NOT NULL COLLATE pg_catalog."C",
    metric text NOT NULL COLLATE pg_catalog."C",
    bucket timestamp with time zone NOT NULL,
    region text,
    region_at timestamp with time zone,
    count bigint NOT NULL,
    sum double precision NOT NULL,
    min double precision NOT NULL,
    max double precision NOT NULL
);

CREATE TABLE public.measurements_1h (
    device_id text NOT NULL COLLATE pg_catalog."C",
    metric text NOT NULL COLLATE pg_catalog."C",
    bucket timestamp with time zone NOT NULL,
    region text,
    region_at timestamp with time zone,
    count bigint NOT NULL,
    sum double precision NOT NULL,
    min double precision NOT NULL,
    max double precision NOT NULL
)
PARTITION BY RANGE (bucket);

CREATE TABLE public.measurements_1h_default (
    device_id text NOT NULL COLLATE pg_catalog."C",
    metric text NOT NULL COLLATE pg_catalog."C",
    bucket timestamp with time zone NOT NULL,
    region text,
    region_at timestamp with time zone,
    count bigint NOT NULL,
    sum double precision NOT NULL,
    min double precision NOT NULL,
    max double precision NOT NULL
)
WITH (fillfactor='50');

CREATE TABLE public.open_minutes (
    device_id text NOT NULL COLLATE pg_catalog."C",
    metric text NOT NULL COLLATE pg_catalog."C",
    bucket timestamp with time zone NOT NULL,
    region text,
    region_at timestamp with time zone,
    count bigint NOT NULL,
    sum double precision NOT NULL,
    min double precision NOT NULL,
    max double precision NOT NULL
)
PARTITION BY RANGE (bucket);

CREATE TABLE public.packed_minutes (
    device_id text NOT NULL COLLATE pg_catalog."C",
    metric text NOT NULL COLLATE pg_catalog."C",
    hour timestamp with time zone NOT NULL,
    minutes smallint[],
    counts bigint[],
    sums double precision[] NOT NULL,
    mins double precision[],
    maxs double precision[],
    regions text[],
    ats integer[]
)
PARTITION BY RANGE (hour);

CREATE TABLE public.rollups (
    rollup text NOT NULL,
    kept_since timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    open_since timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    made_at timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    packed_until timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    packing_until timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    packing bigint DEFAULT 0 NOT NULL,
    droppable_until timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    noted_until timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    noted_at timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL
);

CREATE VIEW public.unpacked_minutes AS
 SELECT p.device_id,
    p.metric,
    (p.hour + ((m.minute)::double precision * '00:01:00'::interval)) AS bucket,
    m.region,
    ((p.hour + ((m.minute)::double precision * '00:01:00'::interval)) + ((m.at)::double precision * '00:00:00.000001'::interval)) AS region_at,
    m.count,
    m.sum,
    m.min,
    m.max,
    p.hour,
    m.minute,
    m.at
   FROM (public.packed_minutes p
     CROSS JOIN LATERAL ( SELECT COALESCE(u.minute, ((u.n - 1))::smallint) AS minute,
                CASE cardinality(p.regions)
                    WHEN 1 THEN p.regions[1]
                    ELSE u.region
                END AS region,
                CASE cardinality(p.ats)
                    WHEN 1 THEN p.ats[1]
                    ELSE u.at
                END AS at,
                CASE cardinality(p.counts)
                    WHEN 1 THEN p.counts[1]
                    ELSE COALESCE(u.count, (1)::bigint)
                END AS count,
            u.sum,
            COALESCE(u.min, u.sum) AS min,
            COALESCE(u.max, u.sum) AS max
           FROM UNNEST(p.minutes, p.counts, p.sums, p.mins, p.maxs, p.regions, p.ats) WITH ORDINALITY u(minute, count, sum, min, max, region, at, n)) m);

CREATE VIEW public.measurements_1m AS
 SELECT open_minutes.device_id,
    open_minutes.metric,
    open_minutes.bucket,
    open_minutes.region,
    open_minutes.region_at,
    open_minutes.count,
    open_minutes.sum,
    open_minutes.min,
    open_minutes.max,
    date_trunc('hour'::text, open_minutes.bucket, 'UTC'::text) AS hour
   FROM public.open_minutes
  WHERE (open_minutes.bucket >= ( SELECT rollups.packed_until
           FROM public.rollups
          WHERE (rollups.rollup = '1m'::text)))
UNION ALL
 SELECT unpacked_minutes.device_id,
    unpacked_minutes.metric,
    unpacked_minutes.bucket,
    unpacked_minutes.region,
    unpacked_minutes.region_at,
    unpacked_minutes.count,
    unpacked_minutes.sum,
    unpacked_minutes.min,
    unpacked_minutes.max,
    unpacked_minutes.hour
   FROM public.unpacked_minutes
  WHERE (unpacked_minutes.hour < ( SELECT rollups.packed_until
           FROM public.rollups
          WHERE (rollups.rollup = '1m'::text)));

CREATE TABLE public.measurements_default (
    device_id text NOT NULL COLLATE pg_catalog."C",
    ts timestamp with time zone NOT NULL,
    received_at timestamp with time zone NOT NULL,
    message_key text NOT NULL,
    region text,
    metrics jsonb NOT NULL,
    tags jsonb
);

CREATE TABLE public.message_keys_0 (
    h1 bigint NOT NULL,
    h2 bigint NOT NULL,
    digest bigint NOT NULL
);

CREATE TABLE public.message_keys_1 (
    h1 bigint NOT NULL,
    h2 bigint NOT NULL,
    digest bigint NOT NULL
);

CREATE VIEW public.open_hours AS
 SELECT GREATEST(h.open_since, m.kept_since, m.packed_until) AS since,
    (h.open_since + '02:00:00'::interval) AS until
   FROM public.rollups h,
    public.rollups m
  WHERE ((h.rollup = '1h'::text) AND (m.rollup = '1m'::text));

CREATE TABLE public.open_minutes_default (
    device_id text NOT NULL COLLATE pg_catalog."C",
    metric text NOT NULL COLLATE pg_catalog."C",
    bucket timestamp with time zone NOT NULL,
    region text,
    region_at timestamp with time zone,
    count bigint NOT NULL,
    sum double precision NOT NULL,
    min double precision NOT NULL,
    max double precision NOT NULL
)
WITH (fillfactor='90');

CREATE TABLE public.outbox (
    stream integer NOT NULL,
    n bigint NOT NULL,
    events integer NOT NULL,
    payload bytea NOT NULL,
    created_at timestamp with time zone NOT NULL
);
ALTER TABLE ONLY public.outbox ALTER COLUMN payload SET COMPRESSION lz4;

CREATE TABLE public.packed_minutes_default (
    device_id text NOT NULL COLLATE pg_catalog."C",
    metric text NOT NULL COLLATE pg_catalog."C",
    hour timestamp with time zone NOT NULL,
    minutes smallint[],
    counts bigint[],
    sums double precision[] NOT NULL,
    mins double precision[],
    maxs double precision[],
    regions text[],
    ats integer[]
);

CREATE TABLE public.regions_1h (
    metric text NOT NULL COLLATE pg_catalog."C",
    bucket timestamp with time zone NOT NULL,
    region text NOT NULL COLLATE pg_catalog."C",
    count bigint NOT NULL,
    sum double precision NOT NULL,
    min double precision NOT NULL,
    max double precision NOT NULL
)
PARTITION BY RANGE (bucket);

CREATE TABLE public.regions_1h_default (
    metric text NOT NULL COLLATE pg_catalog."C",
    bucket timestamp with time zone NOT NULL,
    region text NOT NULL COLLATE pg_catalog."C",
    count bigint NOT NULL,
    sum double precision NOT NULL,
    min double precision NOT NULL,
    max double precision NOT NULL
)
WITH (fillfactor='50');

CREATE TABLE public.regions_1m (
    metric text NOT NULL COLLATE pg_catalog."C",
    bucket timestamp with time zone NOT NULL,
    region text NOT NULL COLLATE pg_catalog."C",
    count bigint NOT NULL,
    sum double precision NOT NULL,
    min double precision NOT NULL,
    max double precision NOT NULL
)
PARTITION BY RANGE (bucket);

CREATE TABLE public.regions_1m_default (
    metric text NOT NULL COLLATE pg_catalog."C",
    bucket timestamp with time zone NOT NULL,
    region text NOT NULL COLLATE pg_catalog."C",
    count bigint NOT NULL,
    sum double precision NOT NULL,
    min double precision NOT NULL,
    max double precision NOT NULL
)
WITH (fillfactor='50');

CREATE TABLE public.retired_statistics (
    device_id text NOT NULL COLLATE pg_catalog."C",
    region text NOT NULL COLLATE pg_catalog."C",
    metric text NOT NULL COLLATE pg_catalog."C",
    count bigint NOT NULL,
    sum double precision,
    min double precision,
    max double precision,
    last_value jsonb,
    last_ts timestamp with time zone NOT NULL,
    last_key text NOT NULL COLLATE pg_catalog."C",
    last_received_at timestamp with time zone NOT NULL
);

CREATE TABLE public.schema_migrations (
    version integer NOT NULL,
    name text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE public.settled_statistics (
    partition text NOT NULL COLLATE pg_catalog."C",
    device_id text NOT NULL COLLATE pg_catalog."C",
    region text NOT NULL COLLATE pg_catalog."C",
    metric text NOT NULL COLLATE pg_catalog."C",
    count bigint NOT NULL,
    sum double precision,
    min double precision,
    max double precision,
    last_value jsonb,
    last_ts timestamp with time zone NOT NULL,
    last_key text NOT NULL COLLATE pg_catalog."C",
    last_received_at timestamp with time zone NOT NULL
)
WITH (fillfactor='80');

CREATE TABLE public.site_settings (
    name text NOT NULL COLLATE pg_catalog."C",
    value text NOT NULL,
    set_by text NOT NULL,
    set_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE public.sparkplug_births (
    node text NOT NULL COLLATE pg_catalog."C",
    device text NOT NULL COLLATE pg_catalog."C",
    topic text NOT NULL,
    online boolean,
    bd_seq bigint,
    born bigint,
    ended_at text NOT NULL,
    births json NOT NULL,
    changed_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE public.sparkplug_held (
    id text NOT NULL,
    stream integer NOT NULL,
    received_at timestamp with time zone NOT NULL,
    topic text NOT NULL,
    payload bytea NOT NULL,
    taken_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE public.spools (
    run uuid NOT NULL,
    stream integer NOT NULL,
    place bigint NOT NULL,
    last timestamp with time zone,
    messages_left bigint NOT NULL,
    oldest_at timestamp with time zone,
    drains_in_s double precision,
    noted_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE public.stream_keys (
    stream integer NOT NULL,
    epoch uuid NOT NULL,
    key bytea NOT NULL,
    CONSTRAINT stream_keys_key_check CHECK ((octet_length(key) = 32))
);

CREATE TABLE public.stream_leases (
    stream integer NOT NULL,
    epoch uuid DEFAULT gen_random_uuid() NOT NULL,
    head bigint DEFAULT 0 NOT NULL,
    published bigint DEFAULT 0 NOT NULL,
    owner uuid,
    owner_name text,
    seen_at timestamp with time zone,
    cluster text,
    CONSTRAINT stream_leases_stream_check CHECK ((stream >= 0))
)
WITH (fillfactor='50');

CREATE VIEW public.streams AS
 SELECT l.stream,
    l.epoch,
    GREATEST(l.head, ( SELECT max(o.n) AS max
           FROM public.outbox o
          WHERE (o.stream = l.stream))) AS head,
    l.published,
    l.owner,
    l.owner_name,
    l.seen_at,
    l.cluster
   FROM public.stream_leases l;

CREATE TABLE public.subscriptions (
    client_id text NOT NULL,
    topic_filter text NOT NULL,
    qos smallint NOT NULL
);

ALTER TABLE ONLY public.measurements_1h ATTACH PARTITION public.measurements_1h_default DEFAULT;

ALTER TABLE ONLY public.measurements ATTACH PARTITION public.measurements_default DEFAULT;

ALTER TABLE ONLY public.open_minutes ATTACH PARTITION public.open_minutes_default DEFAULT;

ALTER TABLE ONLY public.packed_minutes ATTACH PARTITION public.packed_minutes_default DEFAULT;

ALTER TABLE ONLY public.regions_1h ATTACH PARTITION public.regions_1h_default DEFAULT;

ALTER TABLE ONLY public.regions_1m ATTACH PARTITION public.regions_1m_default DEFAULT;

ALTER TABLE ONLY public.dead_letter_shares
    ADD CONSTRAINT dead_letter_shares_pkey PRIMARY KEY (device_id, reason);

ALTER TABLE ONLY public.dead_letter_totals
    ADD CONSTRAINT dead_letter_totals_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY public.dead_letters
    ADD CONSTRAINT dead_letters_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.dedup
    ADD CONSTRAINT dedup_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY public.device_care
    ADD CONSTRAINT device_care_pkey PRIMARY KEY (device_id);

ALTER TABLE ONLY public.device_presence
    ADD CONSTRAINT device_presence_pkey PRIMARY KEY (device_id);

ALTER TABLE ONLY public.devices
    ADD CONSTRAINT devices_pkey PRIMARY KEY (device_id);

ALTER TABLE ONLY public.measurements_1h
    ADD CONSTRAINT measurements_1h_pkey PRIMARY KEY (device_id, metric, bucket);

ALTER TABLE ONLY public.measurements_1h_default
    ADD CONSTRAINT measurements_1h_default_pkey PRIMARY KEY (device_id, metric, bucket);

ALTER TABLE ONLY public.message_keys_0
    ADD CONSTRAINT message_keys_0_pkey PRIMARY KEY (h1, h2);

ALTER TABLE ONLY public.message_keys_1
    ADD CONSTRAINT message_keys_1_pkey PRIMARY KEY (h1, h2);

ALTER TABLE ONLY public.open_minutes
    ADD CONSTRAINT open_minutes_pkey PRIMARY KEY (device_id, metric, bucket);

ALTER TABLE ONLY public.open_minutes_default
    ADD CONSTRAINT open_minutes_default_pkey PRIMARY KEY (device_id, metric, bucket);

ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT outbox_pkey PRIMARY KEY (stream, n);

ALTER TABLE ONLY public.packed_minutes
    ADD CONSTRAINT packed_minutes_pkey PRIMARY KEY (device_id, metric, hour);

ALTER TABLE ONLY public.packed_minutes_default
    ADD CONSTRAINT packed_minutes_default_pkey PRIMARY KEY (device_id, metric, hour);

ALTER TABLE ONLY public.projections
    ADD CONSTRAINT projections_pkey PRIMARY KEY (stream, projection, version);

ALTER TABLE ONLY public.regions_1h
    ADD CONSTRAINT regions_1h_pkey PRIMARY KEY (metric, bucket, region);

ALTER TABLE ONLY public.regions_1h_default
    ADD CONSTRAINT regions_1h_default_pkey PRIMARY KEY (metric, bucket, region);

ALTER TABLE ONLY public.regions_1m
    ADD CONSTRAINT regions_1m_pkey PRIMARY KEY (metric, bucket, region);

ALTER TABLE ONLY public.regions_1m_default
    ADD CONSTRAINT regions_1m_default_pkey PRIMARY KEY (metric, bucket, region);

ALTER TABLE ONLY public.retired_statistics
    ADD CONSTRAINT retired_statistics_pkey PRIMARY KEY (device_id, region, metric);

ALTER TABLE ONLY public.rollups
    ADD CONSTRAINT rollups_pkey PRIMARY KEY (rollup);

ALTER TABLE ONLY public.schema_migrations
    ADD CONSTRAINT schema_migrations_pkey PRIMARY KEY (version);

ALTER TABLE ONLY public.settled_days
    ADD CONSTRAINT settled_days_pkey PRIMARY KEY (partition);

ALTER TABLE ONLY public.settled_statistics
    ADD CONSTRAINT settled_statistics_pkey PRIMARY KEY (partition, device_id, region, metric);

ALTER TABLE ONLY public.site_settings
    ADD CONSTRAINT site_settings_pkey PRIMARY KEY (name);

ALTER TABLE ONLY public.sparkplug_births
    ADD CONSTRAINT sparkplug_births_pkey PRIMARY KEY (node, device);

ALTER TABLE ONLY public.sparkplug_held
    ADD CONSTRAINT sparkplug_held_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.spools
    ADD CONSTRAINT spools_pkey PRIMARY KEY (run);

ALTER TABLE ONLY public.stream_keys
    ADD CONSTRAINT stream_keys_pkey PRIMARY KEY (stream);

ALTER TABLE ONLY public.stream_leases
    ADD CONSTRAINT stream_leases_pkey PRIMARY KEY (stream);

ALTER TABLE ONLY public.subscriptions
    ADD CONSTRAINT subscriptions_pkey PRIMARY KEY (client_id, topic_filter);

CREATE INDEX dead_letter_shares_bytes ON public.dead_letter_shares USING btree (bytes);

CREATE INDEX dead_letter_shares_letters ON public.dead_letter_shares USING btree (letters);

CREATE INDEX dead_letters_held ON public.dead_letters USING btree (id) WHERE ((reason = 'unknown_device'::text) AND (replayed_at IS NULL));

CREATE INDEX dead_letters_sender ON public.dead_letters USING btree (COALESCE(device_id, ''::text) COLLATE "C", reason COLLATE "C", id);

CREATE UNIQUE INDEX device_care_version ON public.device_care USING btree (version);

CREATE INDEX device_presence_offline ON public.device_presence USING btree (device_id) WHERE (NOT online);

CREATE INDEX devices_changed ON public.devices USING btree (changed, device_id);

CREATE INDEX measurements_1h_default_bucket ON public.measurements_1h_default USING btree (bucket);

CREATE INDEX measurements_1h_metric_bucket_idx ON ONLY public.measurements_1h USING btree (metric, bucket);

CREATE INDEX measurements_1h_default_metric_bucket_idx ON public.measurements_1h_default USING btree (metric, bucket);

CREATE INDEX measurements_device_id_ts ON ONLY public.measurements USING btree (device_id, ts);

CREATE INDEX measurements_default_device_id_ts_idx ON public.measurements_default USING btree (device_id, ts);

CREATE INDEX measurements_default_ts ON public.measurements_default USING btree (ts);

CREATE INDEX open_minutes_default_bucket ON public.open_minutes_default USING btree (bucket);

CREATE INDEX open_minutes_metric_bucket ON ONLY public.open_minutes USING btree (metric, bucket);

CREATE INDEX open_minutes_default_metric_bucket_idx ON public.open_minutes_default USING btree (metric, bucket);

CREATE INDEX packed_minutes_default_hour ON public.packed_minutes_default USING btree (hour);

CREATE INDEX packed_minutes_hour ON ONLY public.packed_minutes USING brin (hour) WITH (pages_per_range='16', autosummarize='on');

CREATE INDEX packed_minutes_default_hour_idx ON public.packed_minutes_default USING brin (hour) WITH (pages_per_range='16', autosummarize='on');

CREATE INDEX regions_1h_default_bucket ON public.regions_1h_default USING btree (bucket);

CREATE INDEX regions_1m_default_bucket ON public.regions_1m_default USING btree (bucket);

ALTER INDEX public.measurements_1h_metric_bucket_idx ATTACH PARTITION public.measurements_1h_default_metric_bucket_idx;

ALTER INDEX public.measurements_1h_pkey ATTACH PARTITION public.measurements_1h_default_pkey;

ALTER INDEX public.measurements_device_id_ts ATTACH PARTITION public.measurements_default_device_id_ts_idx;

ALTER INDEX public.open_minutes_metric_bucket ATTACH PARTITION public.open_minutes_default_metric_bucket_idx;

ALTER INDEX public.open_minutes_pkey ATTACH PARTITION public.open_minutes_default_pkey;

ALTER INDEX public.packed_minutes_hour ATTACH PARTITION public.packed_minutes_default_hour_idx;

ALTER INDEX public.packed_minutes_pkey ATTACH PARTITION public.packed_minutes_default_pkey;

ALTER INDEX public.regions_1h_pkey ATTACH PARTITION public.regions_1h_default_pkey;

ALTER INDEX public.regions_1m_pkey ATTACH PARTITION public.regions_1m_default_pkey;

CREATE TRIGGER count_deleted AFTER DELETE ON public.dead_letters REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION public.count_dead_letters();

CREATE TRIGGER count_inserted AFTER INSERT ON public.dead_letters REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION public.count_dead_letters();

CREATE TRIGGER count_truncated AFTER TRUNCATE ON public.dead_letters FOR EACH STATEMENT EXECUTE FUNCTION public.count_dead_letters();

CREATE TRIGGER count_updated AFTER UPDATE ON public.dead_letters REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION public.recount_dead_letters();

CREATE TRIGGER note_device_change BEFORE UPDATE ON public.devices FOR EACH ROW WHEN ((((((old.name IS DISTINCT FROM new.name) OR (old.labels IS DISTINCT FROM new.labels)) OR (old.expected_every IS DISTINCT FROM new.expected_every)) OR (old.state IS DISTINCT FROM new.state)) OR ((old.last_seen IS NULL) IS DISTINCT FROM (new.last_seen IS NULL)))) EXECUTE FUNCTION public.note_device_change();

ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT outbox_stream_fkey FOREIGN KEY (stream) REFERENCES public.stream_leases(stream);

ALTER TABLE ONLY public.projections
    ADD CONSTRAINT projections_stream_fkey FOREIGN KEY (stream) REFERENCES public.stream_leases(stream);

ALTER TABLE ONLY public.stream_keys
    ADD CONSTRAINT stream_keys_stream_fkey FOREIGN KEY (stream) REFERENCES public.stream_leases(stream);
