-- The spool's own file, in SQLite. A transaction that appends is durable when it has committed (WAL, synchronous = FULL).

-- name: make_runs
-- Processes that have written here; PostgreSQL knows by these names how far each was drained.
CREATE TABLE IF NOT EXISTS runs (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);

-- name: make_entries
-- One row for what became durable together. `place` counts the records of a run, the last of the entry's; `through` counts messages
-- of the whole file, so that how many there are takes two rows to say. The body comes last: what is in front is read without it.
CREATE TABLE IF NOT EXISTS entries (
    seq      INTEGER PRIMARY KEY,
    run      INTEGER NOT NULL,
    place    INTEGER NOT NULL,
    messages INTEGER NOT NULL,
    through  INTEGER NOT NULL,
    at       TEXT    NOT NULL,
    body     BLOB    NOT NULL
);

-- name: make_facts
-- What a gateway must know that starts while PostgreSQL is away.
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- name: begin_run
-- A new name for each process: positions are never those of a copy of the file that was put back.
INSERT INTO runs (name) VALUES (?) ON CONFLICT DO NOTHING;

-- name: run_of
-- The short form of a name.
SELECT id FROM runs WHERE name = ?;

-- name: forget_runs
-- Those that have no entry left, but for the process's own.
DELETE FROM runs WHERE name <> ? AND NOT EXISTS (SELECT 1 FROM entries WHERE entries.run = runs.id);

-- name: append
-- One entry, the last.
INSERT INTO entries (seq, run, place, messages, through, at, body) VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: ends
-- The first entry and the last, from which the rest is known.
SELECT
    (SELECT seq FROM entries ORDER BY seq LIMIT 1),
    (SELECT seq FROM entries ORDER BY seq DESC LIMIT 1),
    (SELECT through FROM entries ORDER BY seq DESC LIMIT 1)
        - (SELECT through - messages FROM entries ORDER BY seq LIMIT 1),
    (SELECT at FROM entries ORDER BY seq LIMIT 1),
    (SELECT through FROM entries ORDER BY seq DESC LIMIT 1);

-- name: read
-- The next entries.
SELECT e.seq, r.name, e.place, e.messages, e.at, e.body
FROM entries AS e LEFT JOIN runs AS r ON r.id = e.run WHERE e.seq > ? ORDER BY e.seq LIMIT ?;

-- name: forget
-- What is drained.
DELETE FROM entries WHERE seq <= ?;

-- name: oldest
-- The next entry to drop, behind those that somebody is at.
SELECT seq, messages FROM entries WHERE seq > ? ORDER BY seq LIMIT 1;

-- name: drop_entry
-- Because there is no room, and that is what was asked for.
DELETE FROM entries WHERE seq = ?;

-- name: names_of_runs
-- Whose entries there are.
SELECT DISTINCT r.name FROM entries AS e JOIN runs AS r ON r.id = e.run;

-- name: note_fact
-- Replaces what was noted.
INSERT INTO facts (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- name: fact
-- One of them.
SELECT value FROM facts WHERE name = ?;
