-- The spool's own file, in SQLite. A transaction that appends is durable when it has committed (WAL, synchronous = FULL).

-- name: make_entries
-- One row for what became durable together. `through` counts messages of the whole file, so that how many there are takes two rows to
-- say. What counts is in the body, under its checksum; it comes last, so that what is in front is read without it.
CREATE TABLE IF NOT EXISTS entries (
    seq      INTEGER PRIMARY KEY,
    messages INTEGER NOT NULL,
    through  INTEGER NOT NULL,
    at       TEXT    NOT NULL,
    body     BLOB    NOT NULL
);

-- name: make_dropped
-- How many messages were dropped out of the middle, behind the first entry, and up to which.
CREATE TABLE IF NOT EXISTS dropped (up_to INTEGER NOT NULL, messages INTEGER NOT NULL);

-- name: make_facts
-- What a gateway must know that starts while PostgreSQL is away.
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- name: append
-- One entry, the last.
INSERT INTO entries (seq, messages, through, at, body) VALUES (?, ?, ?, ?, ?);

-- name: ends
-- The first entry and the last, from which the rest is known: numbers, messages, since when.
WITH ends (first, last) AS (SELECT (SELECT min(seq) FROM entries), (SELECT max(seq) FROM entries))
SELECT
    e.first, e.last, z.through - a.through + a.messages - coalesce((SELECT d.messages FROM dropped AS d WHERE d.up_to > e.first), 0),
    a.at
FROM ends AS e LEFT JOIN entries AS a ON a.seq = e.first LEFT JOIN entries AS z ON z.seq = e.last;

-- name: numbers
-- Where counting goes on.
SELECT max(seq), (SELECT through FROM entries ORDER BY seq DESC LIMIT 1) FROM entries;

-- name: read
-- The next entries.
SELECT seq, messages, at, body FROM entries WHERE seq > ? ORDER BY seq LIMIT ?;

-- name: forget
-- What is drained.
DELETE FROM entries WHERE seq <= ?;

-- name: oldest
-- The next entry to drop, behind those that somebody is at, and whether there are any before it.
SELECT seq, messages, seq > (SELECT min(seq) FROM entries) FROM entries WHERE seq > ? ORDER BY seq LIMIT 1;

-- name: drop_entry
-- Because there is no room, and that is what was asked for; or because it is damaged, and kept elsewhere.
DELETE FROM entries WHERE seq = ?;

-- name: forget_dropped
-- Nothing is left of what was before these.
DELETE FROM dropped WHERE up_to <= coalesce((SELECT min(seq) FROM entries), up_to);

-- name: begin_dropped
-- Where there is no count yet.
INSERT INTO dropped (up_to, messages) SELECT 0, 0 WHERE NOT EXISTS (SELECT 1 FROM dropped);

-- name: count_dropped
-- One entry more.
UPDATE dropped SET up_to = ?, messages = messages + ?;

-- name: note_fact
-- Replaces what was noted.
INSERT INTO facts (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- name: fact
-- One of them.
SELECT value FROM facts WHERE name = ?;

-- name: has_runs
-- Only files of version 1 have that table, until all of their entries are of today's form.
SELECT count(*) FROM main.sqlite_schema WHERE name = 'runs';

-- name: has_former_entries
-- Whether somebody has begun with that.
SELECT count(*) FROM main.sqlite_schema WHERE name = 'former_entries';

-- name: put_former_entries_by
-- Makes room for a table of today's form.
ALTER TABLE entries RENAME TO former_entries;

-- name: former_entry
-- The first that is left, as it is today. A run that has no name is one that nobody knows.
SELECT
    e.seq, e.messages, e.through, e.at,
    packed(coalesce((SELECT r.name FROM runs AS r WHERE r.id = e.run), '00000000-0000-0000-0000-000000000000'), e.place, e.body)
FROM former_entries AS e ORDER BY e.seq LIMIT 1;

-- name: forget_former_entry
-- In the transaction that appends it as it is today.
DELETE FROM former_entries WHERE seq = ?;

-- name: forget_former_entries
-- When none is left.
DROP TABLE former_entries;

-- name: forget_runs
-- The last of what was of version 1.
DROP TABLE runs;

-- name: show_former_entries
-- For a connection that only reads: `entries` as it is today, in front of the file's own.
CREATE TEMP VIEW entries AS
SELECT
    e.seq, e.messages, e.through, e.at,
    packed(coalesce((SELECT r.name FROM main.runs AS r WHERE r.id = e.run), '00000000-0000-0000-0000-000000000000'), e.place, e.body)
        AS body
FROM main.entries AS e;

-- name: show_nothing_dropped
-- Which version 1 did not count.
CREATE TEMP TABLE dropped (up_to INTEGER NOT NULL, messages INTEGER NOT NULL);
