-- What people have said of devices.

-- name: care_history
-- What is another one where the words may be others than those that were read: after a restart or a failover of the server, and once
-- the table was emptied or made anew; and the newest version.
SELECT
    pg_postmaster_start_time()::text || ' ' || pg_relation_filenode('device_care') AS history,
    coalesce((SELECT version FROM device_care ORDER BY version DESC LIMIT 1), 0) AS newest;

-- name: care_since
-- The $2 oldest words that are newer than a version. They are numbered under a lock, so none comes later with a lower number.
SELECT device_id, what, since, until, said_by, reason, version, told_by IS NOT NULL AS told FROM device_care
WHERE version > $1 ORDER BY version LIMIT $2;

-- name: lock_care
-- Whoever is about to say something numbers it after all that can be read; readers wait for nobody.
LOCK TABLE device_care IN SHARE ROW EXCLUSIVE MODE;

-- name: try_lock_care
-- The same, for who has something else to do.
LOCK TABLE device_care IN SHARE ROW EXCLUSIVE MODE NOWAIT;

-- name: unknown_devices
-- Those of these of which nothing is stored, nor was said. `devices` has one some seconds after its first message, so those that it
-- does not have are looked for among the measurements, each by itself: a join might read all of these.
WITH missing AS MATERIALIZED (
    SELECT w.device_id FROM unnest($1::text[]) AS w (device_id)
    WHERE NOT EXISTS (SELECT FROM devices AS d WHERE d.device_id = w.device_id)
        AND NOT EXISTS (SELECT FROM device_care AS c WHERE c.device_id = w.device_id)
)
SELECT device_id FROM missing
WHERE (SELECT m.device_id FROM measurements AS m WHERE m.device_id = missing.device_id LIMIT 1) IS NULL;

-- name: near_devices
-- Devices whose ids are about like one: the same in other letters, or with it in them, or the same at the beginning or at the end.
SELECT device_id FROM devices
WHERE strpos(lower(device_id), lower($1)) > 0
    OR lower(left(device_id, greatest(2, length($1) / 2))) = lower(left($1, greatest(2, length($1) / 2)))
    OR lower(right(device_id, greatest(2, length($1) / 2))) = lower(right($1, greatest(2, length($1) / 2)))
LIMIT 5000;

-- name: care_of
-- What holds for these devices.
SELECT device_id, what FROM device_care WHERE device_id = ANY($1::text[]);

-- name: say_care
-- Say $2 of devices, until $3 from now, by $4 for a reason; returns them.
INSERT INTO device_care (device_id, what, since, until, said_by, reason, version)
SELECT DISTINCT ON (w.device_id) w.device_id, $2, now(), now() + $3::interval, $4, $5, nextval('device_care_versions')
FROM unnest($1::text[]) AS w (device_id)
ON CONFLICT (device_id) DO UPDATE SET
    what = excluded.what, since = excluded.since, until = excluded.until, said_by = excluded.said_by, reason = excluded.reason,
    version = excluded.version, told_by = NULL
RETURNING device_id, what, since, until, said_by, reason, version, false AS told;

-- name: is_any_mute_over
-- Whether the time of a mute is over, by this clock.
SELECT EXISTS (SELECT FROM device_care WHERE what = 'muted' AND until <= now());

-- name: expire_mutes
-- End those whose time is over.
UPDATE device_care SET what = 'expired', since = until, version = nextval('device_care_versions'), told_by = NULL
WHERE what = 'muted' AND until <= now();

-- name: return_devices
-- Retired devices that were heard later than that are in service again.
UPDATE device_care AS c SET what = 'returned', since = w.at, version = nextval('device_care_versions'), told_by = NULL
FROM unnest($1::text[], $2::timestamptz[]) AS w (device_id, at)
WHERE c.device_id = w.device_id AND c.what = 'retired' AND c.since < w.at;

-- name: retired_heard
-- Those of these retired devices of which something came after that, and when it did. What they had measured an hour before is looked
-- at: by so much may their clocks be behind.
SELECT c.device_id, m.received_at
FROM device_care AS c JOIN devices AS d ON d.device_id = c.device_id CROSS JOIN LATERAL (
    SELECT n.received_at FROM measurements AS n
    WHERE n.device_id = c.device_id AND n.ts > c.since - interval '1 hour' AND n.received_at > c.since
    ORDER BY n.ts DESC
    LIMIT 1
) AS m
WHERE c.device_id = ANY($1::text[]) AND c.what = 'retired' AND d.last_seen > c.since - interval '1 hour';

-- name: try_to_tell
-- Not while somebody is about to say something, who may not end for a while.
LOCK TABLE device_care IN ROW EXCLUSIVE MODE NOWAIT;

-- name: tell_care
-- Claim words that are about to be told, in the name of a process: it gets those back that it has to tell, also when it asks again.
UPDATE device_care SET told_by = $2
WHERE version = ANY($1::bigint[]) AND (told_by IS NULL OR told_by = $2)
RETURNING version;

-- name: devices_listed
-- The $2 devices after $1 whose ids begin with $3, of these regions or of any, with what holds of each and what it is.
SELECT
    d.device_id, d.region, c.what, c.since, c.until, c.said_by, c.reason, d.last_seen IS NULL AS never_heard, d.name,
    nullif(d.labels::text, '{}') AS labels, extract(epoch FROM d.expected_every)::bigint AS expected_s, d.state = 'blocked' AS blocked,
    d.online, d.online_since
FROM devices AS d LEFT JOIN device_care AS c
    ON c.device_id = d.device_id AND (c.what = 'retired' OR (c.what = 'muted' AND c.until > now()))
WHERE d.device_id > $1 AND d.device_id >= $3 AND starts_with(d.device_id, $3) AND (d.region = ANY($4::text[]) OR $4 IS NULL)
ORDER BY d.device_id LIMIT $2;
