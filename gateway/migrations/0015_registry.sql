-- Devices known by name: what people say of them, which of them may send, and how often each should.

-- One that is known by name and was never heard has neither time. `state`: active may send, blocked may not, and unknown may unless
-- `gateway.unknown_devices` holds up who is not known. `changed` is the transaction that last changed what readers keep in memory: those
-- that had not ended in the snapshot of its last look a reader looks for in the next, so it misses nothing and waits for nobody.
ALTER TABLE devices
    ALTER COLUMN first_seen DROP NOT NULL,
    ALTER COLUMN last_seen DROP NOT NULL,
    ADD COLUMN name text CHECK (length(name) BETWEEN 1 AND 100),
    ADD COLUMN labels jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(labels) = 'object' AND octet_length(labels::text) <= 4000),
    ADD COLUMN expected_every interval CHECK (extract(epoch FROM expected_every) BETWEEN 1 AND 315360000),
    ADD COLUMN state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'blocked', 'unknown')),
    ADD COLUMN changed xid8 NOT NULL DEFAULT pg_current_xact_id();

CREATE INDEX devices_changed ON devices (changed, device_id);

CREATE FUNCTION note_device_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    NEW.changed := pg_current_xact_id();
    RETURN NEW;
END
$$;

-- A sighting changes only of who was never heard before anything that readers keep.
CREATE TRIGGER note_device_change BEFORE UPDATE ON devices FOR EACH ROW
    WHEN (
        (OLD.name, OLD.labels, OLD.expected_every, OLD.state, OLD.last_seen IS NULL)
        IS DISTINCT FROM (NEW.name, NEW.labels, NEW.expected_every, NEW.state, NEW.last_seen IS NULL))
    EXECUTE FUNCTION note_device_change();

-- Of a message of several devices of which only some may not send, those that its letter stands for; null: it stands for all of it.
ALTER TABLE dead_letters ADD COLUMN stands_for text[];

-- What waits for its device to become known, however much else lies beside it.
CREATE INDEX dead_letters_held ON dead_letters (id) WHERE reason = 'unknown_device' AND replayed_at IS NULL;

-- As before, and those that stand for any of these devices among others. `devices` null: whoever is active in the registry.
CREATE OR REPLACE FUNCTION select_dead_letters(
    reasons text[], devices text[], topics text, since timestamptz, until timestamptz, replayed boolean
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
$$;
