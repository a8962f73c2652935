-- The write side's tables. PostgreSQL is the truth: everything else can be rebuilt from here.

-- One row per gateway instance. `head` is the last outbox position given out: incrementing it under the row lock, as the
-- last statement before COMMIT, makes sequence order equal commit order, without gaps. `owner` fences writers: only the
-- holder of the current token can append; `seen_at` is its heartbeat. `published` trails what the broker acknowledged and only saves work at a start.
CREATE TABLE streams (
    stream     integer     PRIMARY KEY CHECK (stream >= 0),
    epoch      uuid        NOT NULL DEFAULT gen_random_uuid(),
    head       bigint      NOT NULL DEFAULT 0,
    published  bigint      NOT NULL DEFAULT 0,
    owner      uuid,
    owner_name text,
    seen_at    timestamptz
) WITH (fillfactor = 50);

-- One row per committed batch; payload is the JSON array of its events (contract/events.py).
CREATE TABLE outbox (
    stream     integer     NOT NULL REFERENCES streams,
    n          bigint      NOT NULL,
    events     integer     NOT NULL,
    payload    bytea       NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (stream, n)
);

-- pglz would cost more CPU than the rest of the row; lz4 costs little and saves most of the WAL.
DO $$
BEGIN
    ALTER TABLE outbox ALTER COLUMN payload SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    ALTER TABLE outbox ALTER COLUMN payload SET STORAGE EXTERNAL;
END
$$;

-- How far each reader of the outbox has come; rows are trimmed behind the slowest.
CREATE TABLE projections (
    projection text        NOT NULL,
    stream     integer     NOT NULL REFERENCES streams,
    n          bigint      NOT NULL,
    epoch      uuid        NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (projection, stream)
) WITH (fillfactor = 50);

-- One day a partition, by device time; days without a partition of their own go to the default one.
CREATE TABLE measurements (
    device_id   text        NOT NULL,
    ts          timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    message_key text        NOT NULL,
    region      text,
    metrics     jsonb       NOT NULL
) PARTITION BY RANGE (ts);

CREATE INDEX measurements_device_id_ts ON measurements (device_id, ts);

CREATE TABLE measurements_default PARTITION OF measurements DEFAULT;

-- Makes the day partitions of [first, last]. A day that the default partition already holds rows of is left there.
CREATE FUNCTION create_measurement_partitions(first date, last date) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    day date;
    made integer := 0;
    name text;
BEGIN
    FOR day IN SELECT generate_series(first, last, interval '1 day')::date LOOP
        name := 'measurements_p' || to_char(day, 'YYYYMMDD');
        CONTINUE WHEN to_regclass(name) IS NOT NULL;
        BEGIN
            EXECUTE format(
                'CREATE TABLE %I PARTITION OF measurements FOR VALUES FROM (%L) TO (%L)',
                name, day::text || ' 00:00:00+00', (day + 1)::text || ' 00:00:00+00');
            made := made + 1;
        EXCEPTION
            WHEN check_violation OR duplicate_table THEN NULL;
        END;
    END LOOP;
    RETURN made;
END
$$;

-- The dedup window: two generations of key hashes, written to the current one and looked up in both. Their turn-over truncates
-- the older, so the cost is bounded and nothing bloats. `digest` tells a repeat from a conflict.
CREATE TABLE message_keys_0 (
    h1     bigint NOT NULL,
    h2     bigint NOT NULL,
    digest bigint NOT NULL,
    PRIMARY KEY (h1, h2)
);

CREATE TABLE message_keys_1 (LIKE message_keys_0 INCLUDING ALL);

CREATE TABLE dedup (
    only_row   boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    generation smallint    NOT NULL CHECK (generation IN (0, 1)),
    turned_at  timestamptz NOT NULL
);

INSERT INTO dedup (generation, turned_at) VALUES (0, now());

-- Begins a new generation when the current one has been filled for a whole window: the older one, in which every key is
-- at least that old, is emptied and becomes the current. A batch that claimed keys before the turn either commits before it,
-- because TRUNCATE waits for it, or is refused by the append, which compares generations.
CREATE FUNCTION turn_dedup(window_length interval) RETURNS boolean
LANGUAGE plpgsql
SET lock_timeout = '2s' AS $$
DECLARE
    due boolean;
    older text;
BEGIN
    SELECT turned_at <= now() - window_length, 'message_keys_' || (1 - generation) INTO due, older FROM dedup FOR UPDATE;
    IF due THEN
        EXECUTE format('TRUNCATE %I', older);
        UPDATE dedup SET generation = 1 - generation, turned_at = now();
    END IF;
    RETURN due;
END
$$;

CREATE TABLE devices (
    device_id  text        PRIMARY KEY,
    region     text,
    first_seen timestamptz NOT NULL,
    last_seen  timestamptz NOT NULL
) WITH (fillfactor = 80);

-- Bytes that could not be decoded or stored, as they came.
CREATE TABLE dead_letters (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    received_at timestamptz NOT NULL,
    topic       text        NOT NULL,
    device_id   text,
    reason      text        NOT NULL,
    error       text        NOT NULL,
    payload     bytea       NOT NULL,
    replayed_at timestamptz
);

-- What each client id subscribed to when it last ran, so that filters taken out of the configuration leave the broker's
-- session too.
CREATE TABLE subscriptions (
    client_id    text     NOT NULL,
    topic_filter text     NOT NULL,
    qos          smallint NOT NULL,
    PRIMARY KEY (client_id, topic_filter)
);
