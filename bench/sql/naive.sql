-- The tables and statements of the straightforward script (bench/naive.py).

-- name: naive_tables
-- A row a message, found again by device and time; an outbox with a row an event.
CREATE TABLE naive_measurements (
    device_id   text        NOT NULL,
    message_key text        NOT NULL,
    ts          timestamptz NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    region      text,
    metrics     jsonb       NOT NULL,
    PRIMARY KEY (device_id, message_key)
);
CREATE INDEX ON naive_measurements (device_id, ts);
CREATE TABLE naive_outbox (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    payload      jsonb  NOT NULL,
    published_at timestamptz
);
CREATE INDEX ON naive_outbox (id) WHERE published_at IS NULL;

-- name: naive_insert
-- One message: its row, and its event only when the row is new.
WITH new AS (
    INSERT INTO naive_measurements (device_id, message_key, ts, region, metrics) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (device_id, message_key) DO NOTHING
    RETURNING device_id
)
INSERT INTO naive_outbox (payload) SELECT $6 FROM new;

-- name: naive_unpublished
-- What the relay has to publish next.
SELECT id, payload FROM naive_outbox WHERE published_at IS NULL ORDER BY id LIMIT $1;

-- name: naive_published
-- What it has published.
UPDATE naive_outbox SET published_at = now() WHERE id = ANY ($1::bigint[]);
