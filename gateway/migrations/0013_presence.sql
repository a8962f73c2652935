-- Which devices are online, as far as messages say so: by wills, births and the like.

-- null: no message ever said. Written with the message that changes it; should somebody hold the row just then, with the device's
-- next sighting, from `device_presence`.
ALTER TABLE devices ADD COLUMN online boolean, ADD COLUMN online_since timestamptz;

-- What decides it. `ts`, `received_at` and `message_key` are of the message that last changed it, `said_at`, `said_received_at` and
-- `said_key` of the newest that said the same or the contrary: its own time but never later than its arrival, then its arrival, then
-- its key. `by_reading` of a device that is online as it sent a reading: the last that it said is that it is offline, and a broker may
-- keep that. A table of its own, so that a row of `devices` that somebody holds does not hold up a batch.
CREATE TABLE device_presence (
    device_id text COLLATE "C" PRIMARY KEY,
    online boolean NOT NULL,
    ts timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    message_key text NOT NULL,
    said_at timestamptz NOT NULL,
    said_received_at timestamptz NOT NULL,
    said_key text NOT NULL,
    by_reading boolean NOT NULL DEFAULT false
);

CREATE INDEX device_presence_offline ON device_presence (device_id) WHERE NOT online;

-- Notes what messages say, an element of each array a message, in order of arrival; `online` is null of one that says nothing but is a
-- sign of life of a device that may have said it is offline. Returns the places (1-based) of those that changed something.
-- Only a message that is newer than all that said something before counts. Copies that a broker had kept count for nothing where they
-- say what is known, or what a reading has refuted. Devices are taken in one order, so that two gateways queue.
CREATE FUNCTION note_presence(
    device_ids text[], tss timestamptz[], arrivals timestamptz[], keys text[], onlines boolean[], copies boolean[])
RETURNS SETOF integer
LANGUAGE plpgsql AS $$
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

-- Whoever could read or write devices can do so with that of them.
DO $$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT a.privilege_type AS what, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END AS role
        FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS a
        WHERE c.oid = 'devices'::regclass AND a.grantee <> c.relowner AND a.privilege_type IN ('SELECT', 'INSERT', 'UPDATE')
    LOOP
        EXECUTE format('GRANT %s ON device_presence TO %s', granted.what, granted.role);
    END LOOP;
END
$$;
