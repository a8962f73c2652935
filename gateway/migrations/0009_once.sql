-- History is written once, when it is over: minutes by the projector when a minute is, hours out of minutes.

-- A minute is updated only by what was under way at its end or came late, so pages need little room for that. Partitions that are
-- made from now on go by the default one; those that lie ahead are told.
DO $$
DECLARE
    part text;
BEGIN
    FOR part IN
        SELECT 'measurements_1m_default' UNION ALL SELECT p.name FROM partitions_of('measurements_1m') AS p WHERE p.until > now()
    LOOP
        EXECUTE format('ALTER TABLE %I SET (fillfactor = 90)', part);
    END LOOP;
END
$$;

-- Hours by device are not added to while they are open, which two are from `open_since` on: they are made out of their minutes now
-- and then, last at `made_at`, and for good when they are over. All others, those of clocks that are wrong among them, are added to
-- with their minutes. -infinity: none is open.
ALTER TABLE rollups
    ADD COLUMN open_since timestamptz NOT NULL DEFAULT '-infinity',
    ADD COLUMN made_at timestamptz NOT NULL DEFAULT '-infinity';

-- Which hours are open. Without their minutes, when these are not kept for so long, hours are added to.
CREATE VIEW open_hours AS
SELECT greatest(h.open_since, m.kept_since) AS since, h.open_since + interval '2 hours' AS until
FROM rollups AS h, rollups AS m
WHERE h.rollup = '1h' AND m.rollup = '1m';
