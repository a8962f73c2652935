-- Dead letters as `gateway dead-letters` reads and replays them. The selection is always $1 to $7, see
-- gateway/dead_letters/selection.py.

-- name: list_dead_letters
-- The newest $8 that are selected, without their bytes.
SELECT id, received_at, reason, device_id, topic, octet_length(payload) AS size, error, replayed_at, stands_for, gateway
FROM dead_letters
WHERE id IN (SELECT s.id FROM select_dead_letters($1, $2, $3, $4, $5, $6, $7) AS s (id))
ORDER BY id DESC
LIMIT $8;

-- name: show_dead_letter
-- One with everything.
SELECT id, received_at, reason, device_id, topic, octet_length(payload) AS size, error, replayed_at, stands_for, gateway, payload
FROM dead_letters
WHERE id = $1;

-- name: count_dead_letters
-- How many are selected and the last of them: a replay takes none that comes while it runs. And how many more other gateways have.
SELECT
    count(*) AS letters, coalesce(max(s.id), 0) AS last_id,
    (SELECT count(*) FROM select_dead_letters($1, $2, $3, $4, $5, $6, '{}')) - count(*) AS others
FROM select_dead_letters($1, $2, $3, $4, $5, $6, $7) AS s (id);

-- name: lock_dead_letters
-- The next to replay, in order of receipt, from behind $8 to $9: one, and as many more as keep within $10 letters and $11
-- bytes. Locked, so that no other replay has them at the same time and none is evicted meanwhile.
SELECT d.id, d.received_at, d.topic, d.reason, d.error, d.payload, d.replayed_at IS NOT NULL AS replayed, d.stands_for
FROM dead_letters AS d
WHERE d.id IN (
    SELECT counted.id
    FROM (
        SELECT page.id, row_number() OVER w AS turn, sum(octet_length(l.payload)) OVER w AS through
        FROM (
            SELECT s.id FROM select_dead_letters($1, $2, $3, $4, $5, $6, $7) AS s (id)
            WHERE s.id > $8 AND s.id <= $9
            ORDER BY s.id
            LIMIT $10
        ) AS page
        JOIN dead_letters AS l USING (id)
        WINDOW w AS (ORDER BY page.id)
    ) AS counted
    WHERE counted.turn = 1 OR counted.through <= $11
) AND ($6::boolean OR d.replayed_at IS NULL)
ORDER BY d.id
FOR UPDATE OF d;

-- name: mark_replayed
-- In the transaction that stores what the letters hold, and known by the moment it began.
UPDATE dead_letters SET replayed_at = now() WHERE id = ANY ($1::bigint[])
RETURNING replayed_at, pg_current_xact_id()::text AS transaction_id, pg_postmaster_start_time() AS server_since;

-- name: mark_still_failing
-- What stands in the way now may be something else than what did, and who sent it may be known now. The bytes stay as they came.
UPDATE dead_letters AS d SET
    reason = f.reason, error = f.error, device_id = coalesce(d.device_id, f.device_id),
    stands_for = coalesce(d.stands_for, string_to_array(f.stands_for, E'\x1d'))
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[]) AS f (id, reason, error, device_id, stands_for)
WHERE d.id = f.id AND (d.reason, d.error) IS DISTINCT FROM (f.reason, f.error);
