-- What keeps the tables in bounds; partitions and retention have their own files.

-- name: take_chore
-- One gateway at a time does a chore of the whole site, for as long as its turn lasts; whoever finds it taken has nothing to do.
SELECT pg_try_advisory_lock(hashtext('mqtt-edge-gateway/chore'), hashtext($1));

-- name: settings_of_chores
-- Behind a pooler those that the session was asked for do not count, but the role's, which are for what is short.
SELECT set_config(s.name, s.setting, false) FROM unnest($1::text[], $2::text[]) AS s (name, setting);

-- name: let_chore_go
-- The turn is over.
SELECT pg_advisory_unlock(hashtext('mqtt-edge-gateway/chore'), hashtext($1));

-- name: turn_dedup
-- Forgets message keys that are older than the window, when it is time.
SELECT turn_dedup($1);

-- name: dedup_age
-- For how long the current generation of keys has been filled, in seconds.
SELECT extract(epoch FROM now() - turned_at)::float8 FROM dedup;

-- name: outbox_streams
-- Every stream that has rows, those of gateways that are gone for good too: one step into the index each.
WITH RECURSIVE found AS (
    (SELECT stream FROM outbox ORDER BY stream LIMIT 1)
    UNION ALL
    SELECT (SELECT o.stream FROM outbox AS o WHERE o.stream > found.stream ORDER BY o.stream LIMIT 1)
    FROM found WHERE found.stream IS NOT NULL
)
SELECT stream FROM found WHERE stream IS NOT NULL;

-- name: trim_outbox
-- Removes of the $4 rows after $3 those that every projection has applied and that are older than the retention margin, and never
-- a stream's newest; says how far it came, null when there was nothing to remove. Until both the views and history
-- have begun, nothing is trimmed, because they do not have them yet. A verification or a rebuild under way keeps what it will need, and renews
-- its row while it lives; one that died is forgotten after ten minutes.
WITH gone AS (
    DELETE FROM outbox
    WHERE stream = $1 AND created_at < now() - $2::interval
        AND n = ANY (ARRAY(SELECT o.n FROM outbox AS o WHERE o.stream = $1 AND o.n > $3 ORDER BY o.n LIMIT $4))
        AND n < (SELECT max(o.n) FROM outbox AS o WHERE o.stream = $1)
        AND n <= (
            SELECT min(p.n) FROM projections_on($1) AS p
            WHERE NOT (p.projection ~ '^(verify|rebuild)-' AND p.updated_at < now() - interval '10 minutes')
            HAVING count(*) FILTER (WHERE p.projection IN ('redis', 'history')) = 2
        )
    RETURNING n
)
SELECT max(n) FROM gone;

-- name: outbox_bytes
-- What the outbox takes on disk, so that one that nobody reads is noticed before the disk is full.
SELECT pg_total_relation_size('outbox');

-- name: database_bytes
-- What all of this database takes on disk.
SELECT pg_database_size(current_database());

-- name: abandoned_sessions
-- Client ids that once subscribed and under which no gateway writes any more: the broker may still keep a session for each.
SELECT DISTINCT client_id FROM subscriptions
WHERE client_id NOT IN (
    SELECT substring(owner_name FROM '^(.*) on [^ ]+, pid [0-9]+$') FROM stream_leases
    WHERE owner_name ~ '^.* on [^ ]+, pid [0-9]+$'
)
ORDER BY client_id;

-- name: fold_dead_letter_changes
-- Adds a piece of what was counted of dead letters to the totals; says how much it was.
SELECT fold_dead_letter_changes($1);

-- name: evict_dead_letters
-- Keeps `dead_letters` to $1 letters and $2 bytes by removing the oldest of who has most, a piece at a time; says what was removed.
SELECT letters, bytes FROM evict_dead_letters($1, $2, $3);

-- name: projected
-- How far the live views have come on a stream.
SELECT n FROM projection_at('redis', $1);

-- name: declare_settings
-- Puts this gateway's settings in force for the whole site; yields those that were others, with what they were and whose.
WITH wanted AS (
    SELECT * FROM unnest($1::text[], $2::text[]) AS w (name, value)
),
before AS (
    SELECT s.name, s.value, s.set_by, s.set_at FROM site_settings AS s
),
written AS (
    INSERT INTO site_settings AS s (name, value, set_by)
    SELECT w.name, w.value, $3 FROM wanted AS w ORDER BY w.name
    ON CONFLICT (name) DO UPDATE SET value = excluded.value, set_by = excluded.set_by, set_at = now()
    WHERE s.value <> excluded.value
    RETURNING s.name, s.value
)
SELECT w.name, b.value AS was, w.value AS now, b.set_by, b.set_at FROM written AS w JOIN before AS b USING (name);

-- name: read_settings
-- What every gateway of the site goes by.
SELECT name, value, set_by, set_at FROM site_settings;
