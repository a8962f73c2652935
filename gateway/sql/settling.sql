-- What days that are over amount to. The functions are in gateway/migrations/0012_settled.sql.

-- name: forgotten_days
-- Partitions that somebody dropped, of which something is kept.
SELECT d.partition AS name
FROM (SELECT partition FROM settled_days UNION SELECT partition FROM late_measurements) AS d
WHERE NOT EXISTS (SELECT FROM partitions_of('measurements') AS p WHERE p.name = d.partition);

-- name: forget_day
-- Removes up to $2 statistics of such a partition, and with the last of them the rest; says how many it was.
SELECT forget_day($1, $2);

-- name: days_with_late_rows
-- Settled days some rows of which came late. Those that leave take theirs along.
SELECT DISTINCT l.partition AS name FROM late_measurements AS l JOIN days_added_up AS d USING (partition) WHERE d.state = 'settled';

-- name: fold_late_measurements
-- Adds up to $2 of them to a day's statistics; says how many it was.
SELECT fold_late_measurements($1, $2);

-- name: day_to_settle
-- Of the days that are over for $2 by their real bounds, at $1 and by the server's clock, and that retention, $3, leaves alone, the
-- newest but for these ($4). One that holds nothing can wait. Of those that are begun whatever changes is noted, and of those that
-- leave it has to be.
SELECT p.name, coalesce(d.state = 'begun', false) AND t.tgname IS NOT NULL AS begun
FROM partitions_of('measurements') AS p
LEFT JOIN settled_days AS d ON d.partition = p.name
LEFT JOIN pg_trigger AS t ON t.tgrelid = to_regclass(p.name) AND t.tgname = 'note_change' AND t.tgenabled <> 'D'
WHERE p.name ~ '^measurements_p[0-9]{8}$'
    AND p.until <= least($1::timestamptz, now()) - $2::interval
    AND ($3::interval IS NULL OR p.until > least($1, now()) - $3 OR d.state = 'leaving')
    AND (d.state IS NULL OR d.state = 'begun' OR (d.state <> 'left' AND t.tgname IS NULL))
    AND (d.state IN ('begun', 'leaving') OR pg_relation_size(to_regclass(p.name)) > 0)
    AND p.name <> ALL ($4::text[])
ORDER BY p.until DESC, p.name
LIMIT 1;

-- name: begin_day
-- Has whatever changes in a day's partition noted from here on, or leaves it as it is; what has become of it then.
SELECT begin_day($1);

-- name: settle_blocks
-- Adds up the next $2 blocks of a day; what has become of it then, null when somebody else was faster.
SELECT settle_blocks($1, $2);
