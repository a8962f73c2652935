-- A batch in one call: what eight statements did, each a way to the server and back, one function does.

-- Claims the keys that nobody has in the generation that is `current`. Sorted, so that overlapping writers queue instead of
-- deadlocking; `ord` last, so that the first of equal keys in a batch wins. Null when all `readings` of them were claimed, else the
-- hashes of those that were. Identities and contents come as one text each (gateway/transaction.py).
CREATE FUNCTION claim_keys(
    current integer, identities text, contents text, readings integer, OUT claimed_1 bigint[], OUT claimed_2 bigint[])
LANGUAGE plpgsql AS $$
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

-- Asked only when fewer keys were claimed than came: which rows of the batch (1-based) are not new, and of those, which differ in
-- content from what holds their key. A row is new when its key is among those just claimed and it is the first of the batch with
-- it. What is found may be what a standby does not have yet: so something is written, and the answer waits for the standbys as a
-- COMMIT does (`is_outbox_row_there` in gateway/sql/store.sql).
CREATE FUNCTION find_repeats(identities text, contents text, claimed_1 bigint[], claimed_2 bigint[])
RETURNS TABLE (place integer, differs boolean)
LANGUAGE plpgsql AS $$
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

-- Stores a batch, as the transaction does that gateway/transaction.py has step by step, and commits with the statement that calls it.
--
-- `refused`: the stream has another owner, or `next_n` would not be the next of it. Nothing was written then. A batch that `follows`
-- another was sent before that was answered, and may be here before it: it waits for it, a moment only, because that may have
-- failed or stored nothing. Whoever is being written holds the row of the stream, so what follows waits for that as well.
--
-- Events come as lines of JSON, and are what is stored. Of those with places in `said_places` (1-based) it is asked what they change
-- of their devices being online; one that does ends with its `said_ending`. Null arrays: there is nothing of the kind.
--
-- `created_at` is of the outbox row; null when no reading was new, and then letters were not kept either: what a call without an
-- answer has left is told by that row alone. `repeats` and `conflicts` are places of readings that were not stored; conflicts are left
-- to whoever has the words for them.
CREATE FUNCTION store_batch(
    of_stream integer, by_owner uuid, next_n bigint, follows boolean,
    identities text, contents text, events text, readings integer,
    letter_arrivals text[], letter_topics text[], letter_device_ids text[], letter_reasons text[], letter_errors text[],
    letter_payloads bytea[], letter_stand_for text[],
    said_places integer[], said_device_ids text[], said_tss text[], said_arrivals text[], said_keys text[], said_onlines boolean[],
    said_copies boolean[], said_endings text[],
    OUT refused boolean, OUT created_at timestamptz, OUT repeats integer[], OUT conflicts integer[], OUT letters bigint[],
    OUT changing integer[])
LANGUAGE plpgsql AS $$
DECLARE
    began timestamptz := clock_timestamp();
    last_n bigint;
    current integer;
    claimed_1 bigint[];
    claimed_2 bigint[];
    stored integer := readings;
    payload text;
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
        WITH said AS MATERIALIZED (
            SELECT s.*, row_number() OVER (ORDER BY s.place) AS nth
            FROM unnest(said_places, said_device_ids, said_tss, said_arrivals, said_keys, said_onlines, said_copies)
                AS s (place, device_id, ts, received_at, key, online, copy)
            WHERE (s.place = ANY (repeats || conflicts)) IS NOT TRUE
        ),
        noted AS (
            SELECT note_presence(
                array_agg(s.device_id ORDER BY s.nth), array_agg(s.ts::timestamptz ORDER BY s.nth),
                array_agg(s.received_at::timestamptz ORDER BY s.nth), array_agg(s.key ORDER BY s.nth),
                array_agg(s.online ORDER BY s.nth), array_agg(s.copy ORDER BY s.nth)) AS nth
            FROM said AS s
        )
        SELECT array_agg(s.place) INTO changing FROM noted AS n JOIN said AS s ON s.nth = n.nth;
    END IF;
    IF repeats IS NOT NULL OR conflicts IS NOT NULL OR changing IS NOT NULL THEN
        SELECT
            string_agg(CASE WHEN s.ending IS NULL THEN e.event ELSE left(e.event, -1) || s.ending END, E'\n' ORDER BY e.ord),
            count(*)
        INTO events, stored
        FROM unnest(string_to_array(events, E'\n')) WITH ORDINALITY AS e (event, ord)
        LEFT JOIN unnest(said_places, said_endings) AS s (place, ending) ON s.place = e.ord AND s.place = ANY (changing)
        WHERE (e.ord = ANY (repeats || conflicts)) IS NOT TRUE;
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
