-- Chores in pieces whose progress is kept, whatever the tables hold: partitions attached without a scan, days retired piece by
-- piece, dead letters evicted by fair shares; settings that every gateway of a site goes by; ids sorted by their bytes.

-- What all gateways of a site go by. Each writes what it is configured with when it starts, so the last start wins; `set_by` says
-- whose that was.
CREATE TABLE site_settings (
    name   text        COLLATE "C" PRIMARY KEY,
    value  text        NOT NULL,
    set_by text        NOT NULL,
    set_at timestamptz NOT NULL DEFAULT now()
);

-- The range partitions of a table over time, by their real bounds, whoever made them and whatever they are called.
CREATE FUNCTION partitions_of(parent text) RETURNS TABLE (name text, since timestamptz, until timestamptz)
LANGUAGE sql STABLE AS $$
    SELECT
        b.relname::text, coalesce(substring(b.bound FROM $r$FROM \('([^']+)'\)$r$)::timestamptz, '-infinity'),
        coalesce(substring(b.bound FROM $r$TO \('([^']+)'\)$r$)::timestamptz, 'infinity')
    FROM (
        SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) AS bound
        FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
        WHERE i.inhparent = to_regclass(parent)
    ) AS b
    WHERE b.bound LIKE 'FOR VALUES FROM%'
$$;

-- Whether the default partition holds rows of a range.
CREATE FUNCTION default_partition_holds(parent text, time_column text, since timestamptz, until timestamptz) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
DECLARE
    found boolean;
BEGIN
    EXECUTE format('SELECT EXISTS (SELECT FROM %1$I WHERE %2$I >= %3$L AND %2$I < %4$L)', parent || '_default', time_column, since, until)
    INTO found;
    RETURN found;
END
$$;

-- Makes the partition [since, until) of a table over time; false when its range is taken care of already, or rows of it are in
-- the default partition, where they stay. The table is made first and attached after, which lets writers go on; whoever reads the
-- default partition makes it fail within the timeout. Unless `shut_default_partition` went before, the server reads the default
-- partition once more, while nobody can write to it.
CREATE FUNCTION attach_partition(parent text, time_column text, since timestamptz, until timestamptz) RETURNS boolean
LANGUAGE plpgsql
SET lock_timeout = '100ms' AS $$
DECLARE
    name text := parent || '_p' || to_char(since AT TIME ZONE 'UTC', 'YYYYMMDD');
    storage text;
BEGIN
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
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, name, since, until);
    EXCEPTION
        WHEN check_violation OR duplicate_table OR unique_violation THEN
            RETURN false; -- a row or another gateway was faster
    END;
    RETURN true;
END
$$;

-- Says of the default partition that it will hold no rows of these ranges, none of which it holds now. Once that is validated,
-- which reads all of it and stops nobody, partitions for them are attached without reading it. Until it is opened again it refuses
-- rows of these ranges: they must be of a time that no row can have yet.
CREATE FUNCTION shut_default_partition(parent text, time_column text, since timestamptz[], until timestamptz[]) RETURNS void
LANGUAGE plpgsql
SET lock_timeout = '100ms' AS $$
BEGIN
    EXECUTE format(
        'ALTER TABLE %I ADD CONSTRAINT partitions_ahead CHECK (%s) NOT VALID', parent || '_default',
        (
            SELECT string_agg(format('(%1$I < %2$L OR %1$I >= %3$L)', time_column, r.since, r.until), ' AND ')
            FROM unnest(since, until) AS r (since, until)
        ));
END
$$;

CREATE FUNCTION validate_default_partition(parent text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %I VALIDATE CONSTRAINT partitions_ahead', parent || '_default');
END
$$;

-- Takes that back; also what a gateway left behind that was killed meanwhile.
CREATE FUNCTION open_default_partition(parent text) RETURNS void
LANGUAGE plpgsql
SET lock_timeout = '100ms' AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_constraint WHERE conrelid = to_regclass(parent || '_default') AND conname = 'partitions_ahead') THEN
        EXECUTE format('ALTER TABLE %I DROP CONSTRAINT partitions_ahead', parent || '_default');
    END IF;
END
$$;

-- Drops a partition of measurements when nothing is in it any more, and tells whether it did. From the lock to the end of the
-- transaction only a writer with a row of that very day waits; the drop itself stops everyone for an instant, or fails within the
-- timeout.
CREATE FUNCTION drop_empty_partition(name text) RETURNS boolean
LANGUAGE plpgsql
SET enable_seqscan = on
SET lock_timeout = '100ms' AS $$
DECLARE
    holds boolean;
BEGIN
    EXECUTE format('LOCK TABLE %I IN SHARE MODE', name);
    EXECUTE format('SELECT EXISTS (SELECT FROM %I)', name) INTO holds;
    IF NOT holds THEN
        EXECUTE format('DROP TABLE %I', name);
    END IF;
    RETURN NOT holds;
END
$$;

-- As it was, but for the wait: TRUNCATE waits for whoever reads the keys, a dump for instance, and every batch waits behind it. So
-- it gives up after 50 ms and is tried again in a minute; keys live for so much longer. A turn that is an hour late waits for half
-- a second, which batches of slow round trips need to let it in between.
CREATE OR REPLACE FUNCTION turn_dedup(window_length interval) RETURNS boolean
LANGUAGE plpgsql
SET lock_timeout = '50ms' AS $$
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

-- How much of `dead_letters` each sender has, by device ('' when nobody knows) and reason: eviction takes from whoever has most.
CREATE TABLE dead_letter_shares (
    device_id text   COLLATE "C" NOT NULL,
    reason    text   COLLATE "C" NOT NULL,
    letters   bigint NOT NULL,
    bytes     bigint NOT NULL,
    PRIMARY KEY (device_id, reason)
) WITH (fillfactor = 50);

CREATE INDEX dead_letter_shares_letters ON dead_letter_shares (letters);
CREATE INDEX dead_letter_shares_bytes ON dead_letter_shares (bytes);

LOCK TABLE dead_letters IN SHARE ROW EXCLUSIVE MODE;

CREATE INDEX dead_letters_sender ON dead_letters ((coalesce(device_id, '')) COLLATE "C", reason COLLATE "C", id);

ALTER TABLE dead_letter_changes
    ADD COLUMN device_id text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN reason text COLLATE "C" NOT NULL DEFAULT '';

DELETE FROM dead_letter_changes;
INSERT INTO dead_letter_shares (device_id, reason, letters, bytes)
SELECT coalesce(device_id, ''), reason, count(*), sum(dead_letter_bytes(topic, payload)) FROM dead_letters GROUP BY 1, 2;
UPDATE dead_letter_totals
SET letters = s.letters, bytes = s.bytes
FROM (SELECT coalesce(sum(letters), 0) AS letters, coalesce(sum(bytes), 0) AS bytes FROM dead_letter_shares) AS s;

CREATE OR REPLACE FUNCTION count_dead_letters() RETURNS trigger
LANGUAGE plpgsql AS $$
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

-- A replay that failed may have given a letter another reason.
CREATE FUNCTION recount_dead_letters() RETURNS trigger
LANGUAGE plpgsql AS $$
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

CREATE TRIGGER count_updated AFTER UPDATE ON dead_letters
    REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION recount_dead_letters();

-- Adds up to `piece` changes to shares and totals; says how many it was.
CREATE FUNCTION fold_dead_letter_changes(piece integer) RETURNS bigint
LANGUAGE sql AS $$
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

-- How much each sender has to give up so that `excess` letters (or bytes) go: those who have most come down to one level, and
-- nobody below it gives up anything. Looks at as many senders as a piece has letters.
CREATE FUNCTION dead_letter_cuts(of_letters boolean, excess bigint, piece integer)
RETURNS TABLE (device_id text, reason text, turn bigint, cut bigint)
LANGUAGE sql STABLE AS $$
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

-- Removes up to `piece` dead letters, as long as there are more than so many or so many bytes: of the sender that has most, its
-- oldest. One gateway at a time; letters that a replay holds are passed over.
CREATE OR REPLACE FUNCTION evict_dead_letters(
    max_letters bigint, max_bytes bigint, piece integer, OUT letters bigint, OUT bytes bigint
)
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

-- Ids are sorted by their bytes, so that no upgrade of the C library reorders an index. That rebuilds the indexes, so a table
-- that is large already, or that views of others depend on, stays as it is: `gateway check` says so, and how to change it.
DO $$
DECLARE
    change record;
    size bigint;
BEGIN
    FOR change IN
        SELECT * FROM (
            VALUES
                ('devices', ARRAY['device_id']),
                ('measurements', ARRAY['device_id']),
                ('measurements_1m', ARRAY['device_id', 'metric']),
                ('measurements_1h', ARRAY['device_id', 'metric']),
                ('regions_1m', ARRAY['metric', 'region']),
                ('regions_1h', ARRAY['metric', 'region']),
                ('retired_statistics', ARRAY['device_id', 'region', 'metric'])
        ) AS c (name, columns)
    LOOP
        SELECT sum(pg_total_relation_size(t.relid)) INTO size FROM pg_partition_tree(change.name::regclass) AS t;
        IF coalesce(size, pg_total_relation_size(change.name::regclass)) < 256 * 1024 * 1024 THEN
            BEGIN
                EXECUTE format('ALTER TABLE %I ', change.name) || (
                    SELECT string_agg(format('ALTER COLUMN %I TYPE text COLLATE "C"', u.name), ', ')
                    FROM unnest(change.columns) AS u (name)
                );
            EXCEPTION WHEN feature_not_supported THEN NULL;
            END;
        END IF;
    END LOOP;
END
$$;
