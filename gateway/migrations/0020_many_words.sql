-- A call of many messages that say who is online took time by the cube of them, and beyond some thousands never ended: what belongs
-- together in a batch is brought together by grouping, because gateways have no joins planned but by an index (gateway/store.py).

CREATE OR REPLACE FUNCTION store_batch(
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
