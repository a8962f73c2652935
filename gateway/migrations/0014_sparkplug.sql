-- What edge nodes of Sparkplug B, and their devices, have said of themselves at birth, and messages that wait for such a birth.

-- A row for an edge node, its device '' then, and for each device of it: whether it is online; of a node the number of its session and
-- when its birth was sent, by its own clock; when its last session ended; and its last births that differ, the oldest first: when each
-- came, from when and until when it holds for certain, and the name, alias and datatype of each metric. `json`, for a name may have
-- anything in it.
CREATE TABLE sparkplug_births (
    node       text        COLLATE "C" NOT NULL,
    device     text        COLLATE "C" NOT NULL,
    topic      text        NOT NULL,
    online     boolean,
    bd_seq     bigint,
    born       bigint,
    ended_at   text        NOT NULL,
    births     json        NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (node, device)
);

-- Messages that a gateway has taken, and that wait for others or for a birth, the gateway's own by its stream; and since when they are.
CREATE TABLE sparkplug_held (
    id          text        PRIMARY KEY,
    stream      integer     NOT NULL,
    received_at timestamptz NOT NULL,
    topic       text        NOT NULL,
    payload     bytea       NOT NULL,
    taken_at    timestamptz NOT NULL DEFAULT now()
);

-- Whoever has rights on dead letters, as a gateway and a replay have, has the same on both.
DO $$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT a.privilege_type AS what, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END AS role
        FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS a
        WHERE c.oid = 'dead_letters'::regclass AND a.grantee <> c.relowner
            AND a.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
    LOOP
        EXECUTE format('GRANT %s ON sparkplug_births, sparkplug_held TO %s', granted.what, granted.role);
    END LOOP;
END
$$;
