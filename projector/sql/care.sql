-- What people have said of devices.

-- name: care_since
-- The $2 oldest words that are newer than a version. They are numbered under a lock, so none comes later with a lower number.
SELECT device_id, what, since, until, said_by, reason, version, told FROM device_care
WHERE version > $1 ORDER BY version LIMIT $2;

-- name: lock_care
-- Whoever is about to say something numbers it after all that can be read; readers wait for nobody.
LOCK TABLE device_care IN SHARE ROW EXCLUSIVE MODE;

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
SELECT device_id, what, since, until, said_by, reason, version, told FROM device_care WHERE device_id = ANY($1::text[]);

-- name: say_care
-- Say $2 of devices, until $3 from now, by $4 for a reason; returns them.
INSERT INTO device_care (device_id, what, since, until, said_by, reason, version)
SELECT DISTINCT ON (w.device_id) w.device_id, $2, now(), now() + $3::interval, $4, $5, nextval('device_care_versions')
FROM unnest($1::text[]) AS w (device_id)
ON CONFLICT (device_id) DO UPDATE SET
    what = excluded.what, since = excluded.since, until = excluded.until, said_by = excluded.said_by, reason = excluded.reason,
    version = excluded.version, told = false
RETURNING device_id, what, since, until, said_by, reason, version, told;

-- name: expire_mutes
-- End those whose time is over.
UPDATE device_care SET what = 'expired', since = until, version = nextval('device_care_versions'), told = false
WHERE what = 'muted' AND until <= now();

-- name: return_devices
-- Retired devices that were heard later than that are in service again.
UPDATE device_care AS c SET what = 'returned', since = w.at, version = nextval('device_care_versions'), told = false
FROM unnest($1::text[], $2::timestamptz[]) AS w (device_id, at)
WHERE c.device_id = w.device_id AND c.what = 'retired' AND c.since < w.at;

-- name: tell_care
-- Claim words that are about to be told: whoever gets a version back has it to tell.
UPDATE device_care SET told = true WHERE version = ANY($1::bigint[]) AND NOT told RETURNING version;

-- name: devices_listed
-- The $2 devices after $1 whose ids begin with $3, of these regions or of any, with what holds of each.
SELECT d.device_id, d.region, c.what, c.since, c.until, c.said_by, c.reason
FROM devices AS d LEFT JOIN device_care AS c
    ON c.device_id = d.device_id AND (c.what = 'retired' OR (c.what = 'muted' AND c.until > now()))
WHERE d.device_id > $1 AND d.device_id >= $3 AND starts_with(d.device_id, $3) AND (d.region = ANY($4::text[]) OR $4 IS NULL)
ORDER BY d.device_id LIMIT $2;
