-- What people have said of devices: muted for a while, or retired. The newest word on each.

-- `what` is muted, unmuted or expired; retired, unretired or returned. Of the last of each three, which nobody said, `said_by` and
-- `reason` are those of the word that came to its end. `version` is given under a lock, so whoever has read up to one has read all
-- before it; `told_by` is the process that has told of it, or is about to; null when none.
CREATE TABLE device_care (
    device_id text COLLATE "C" PRIMARY KEY,
    what text NOT NULL CHECK (what IN ('muted', 'unmuted', 'expired', 'retired', 'unretired', 'returned')),
    since timestamptz NOT NULL,
    until timestamptz CHECK (until IS NOT NULL OR what NOT IN ('muted', 'expired')),
    said_by text NOT NULL CHECK (length(said_by) <= 500),
    reason text NOT NULL CHECK (length(reason) <= 500),
    version bigint NOT NULL,
    told_by text
);

CREATE UNIQUE INDEX device_care_version ON device_care (version);

CREATE SEQUENCE device_care_versions;
