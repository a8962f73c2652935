-- Measurements that are too old, a piece at a time. The functions are in gateway/migrations/0002_bounds.sql,
-- 0006_chores.sql, 0012_settled.sql and 0019_rights.sql.

-- name: expired_partitions
-- The day partitions that lie wholly before $1 by their real bounds, the oldest first, and those that have begun to leave. The server's
-- clock has a say too: a gateway whose clock is wrong drops nothing that is young by the server's.
SELECT p.name
FROM partitions_of('measurements') AS p
WHERE p.name ~ '^measurements_p[0-9]{8}$' AND (
    p.until <= least($1, now() - $2::interval)
    OR EXISTS (SELECT FROM settled_days AS d WHERE d.partition = p.name AND d.state = 'leaving'))
ORDER BY p.until, p.name;

-- name: begin_leaving
-- Marks a settled day as one that leaves; how many measurements it has, or null when it is not settled. From then on its statistics
-- count for everybody, and its rows for nobody.
UPDATE settled_days AS d SET state = 'leaving', changed_at = now()
WHERE d.partition = $1 AND d.state IN ('settled', 'leaving') AND EXISTS (SELECT FROM days_added_up AS a WHERE a.partition = $1)
RETURNING d.measurements;

-- name: retire_statistics
-- Moves up to $2 statistics of a day that leaves to `retired_statistics`; says how many it was.
SELECT retire_statistics($1, $2);

-- name: drop_leaving_partition
-- Drops the partition of a day that leaves, and takes what came late until now along.
SELECT drop_leaving_partition($1);

-- name: partition_blocks
-- How far it is from one end of a partition to the other, in blocks; null when it has been dropped meanwhile.
SELECT pg_relation_size(to_regclass($1)) / current_setting('block_size')::integer;

-- name: retire_blocks
-- Adds what stands in the blocks [$2, $3) of a partition to `retired_statistics` and removes it there; says how many rows it was.
-- Null when the partition has been dropped meanwhile.
SELECT retire_blocks($1, $2, $3);

-- name: vacuum_partition
-- The statement that gives the room of an emptied partition back, so that finding it empty takes a moment. It cannot be part of a
-- transaction. Null where that is up to the server's own vacuum, because the partition belongs to another role.
SELECT format('VACUUM (SKIP_LOCKED) %I', c.relname) FROM pg_class AS c WHERE c.oid = to_regclass($1) AND pg_has_role(c.relowner, 'USAGE');

-- name: look_for_a_second
-- For the rest of the transaction: whoever writes to this very day waits no longer than that.
SET LOCAL statement_timeout = '1s';

-- name: drop_empty_partition
-- Drops a partition that has been emptied, unless a row came late.
SELECT drop_empty_partition($1);

-- name: retire_strays
-- Retires up to $4 rows of the default partition, which is never dropped, from $1 on and older than $2, the oldest first; how many
-- it was, and from where to go on, null when there are none.
SELECT retired, through FROM retire_strays($1, least($2::timestamptz, now() - $3::interval), $4);
