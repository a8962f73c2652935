-- Batches out of a spool go as one call too: what says how far the spool is drained is a function, which calls and statements share.

-- Notes how far runs are drained, in the transaction that stores what lies before these places; `lasts` are the times of arrival given
-- last, what is left at the site is for the live page. What was sent once more and is carried out late takes nothing back. Runs that
-- nobody has drained for a quarter of a year are forgotten on the way.
--
-- A batch that is not `whole`, as something of it is still to be stored, must not be stored at all: what was sent behind it says by its
-- own places that everything before them is.
CREATE FUNCTION note_spool_places(
    whole boolean, of_stream integer, runs text[], places bigint[], lasts text[], left_messages bigint, left_oldest text,
    left_drains_in_s double precision
) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF NOT whole THEN
        RAISE integrity_constraint_violation USING MESSAGE = 'a batch out of a spool is stored as a whole';
    END IF;
    DELETE FROM spools WHERE noted_at < now() - interval '90 days' AND run::text <> ALL (runs);
    INSERT INTO spools AS s (run, stream, place, last, messages_left, oldest_at, drains_in_s)
    SELECT p.run::uuid, of_stream, p.place, p.last::timestamptz, left_messages, left_oldest::timestamptz, left_drains_in_s
    FROM unnest(runs, places, lasts) AS p (run, place, last)
    ON CONFLICT (run) DO UPDATE SET
        stream = excluded.stream,
        place = excluded.place,
        last = greatest(s.last, excluded.last),
        messages_left = excluded.messages_left,
        oldest_at = excluded.oldest_at,
        drains_in_s = excluded.drains_in_s,
        noted_at = now()
    WHERE excluded.place >= s.place;
END
$$;
