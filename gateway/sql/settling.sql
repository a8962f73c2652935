-- What days that are over amount to. The functions are in gateway/migrations/0012_settled.sql.

-- name: forget_days
-- Removes what is kept of partitions that somebody dropped, and late rows of days that are not added up.
WITH gone AS (
    DELETE FROM settled_days AS d
    WHERE NOT EXISTS (
        SELECT FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'measurements'::regclass AND c.relname = d.partition
    )
    RETURNING partition
),
statistics AS (
    DELETE FROM settled_statistics WHERE partition IN (SELECT partition FROM gone)
)
DELETE FROM late_measurements AS l
WHERE l.partition IN (SELECT partition FROM gone)
    OR NOT EXISTS (SELECT FROM settled_days AS d WHERE d.partition = l.partition AND d.state <> 'left');

-- name: days_with_late_rows
-- Days that are added up, but for some rows that came late.
SELECT DISTINCT l.partition AS name FROM late_measurements AS l JOIN days_added_up AS d USING (partition);

-- name: fold_late_measurements
-- Adds up to $2 of them to a day's statistics; says how many it was.
SELECT fold_late_measurements($1, $2);

-- name: days_to_settle
-- The days that are over for $2 by their real bounds, at $1 and by the server's clock, and that retention, $3, leaves alone; the
-- newest first. One that holds nothing can wait. Of those that are begun whatever changes is noted.
SELECT p.name, coalesce(d.state = 'begun', false) AND t.tgname IS NOT NULL AS begun
FROM partitions_of('measurements') AS p
LEFT JOIN settled_days AS d ON d.partition = p.name
LEFT JOIN pg_trigger AS t ON t.tgrelid = to_regclass(p.name) AND t.tgname = 'note_change' AND t.tgenabled <> 'D'
WHERE p.name ~ '^measurements_p[0-9]{8}$'
    AND p.until <= least($1::timestamptz, now()) - $2::interval
    AND ($3::interval IS NULL OR p.until > least($1, now()) - $3)
    AND (d.state IS NULL OR d.state = 'begun' OR t.tgname IS NULL)
    AND (d.state = 'begun' OR pg_relation_size(to_regclass(p.name)) > 0)
ORDER BY p.until DESC, p.name;

-- name: begin_day
-- Has whatever changes in a day's partition noted from here on.
SELECT begin_day($1);

-- name: settle_blocks
-- Adds up the next $2 blocks of a day; what has become of it then, null when somebody else was faster.
SELECT settle_blocks($1, $2);
