"""A batch in one round trip: `store_batch` does what `gateway/transaction.py` has statement by statement.

The function of the database (gateway/migrations/0018_one_call.sql) claims, stores, asks what readings change
of devices being online, keeps letters and appends, and its statement commits. Left to the statements is what
is seldom: conflicts, for whose letters it has no words, what edge nodes of Sparkplug change, and rows that
the table refuses, because nobody can tell from its error whose fault it is.

A call that stores no reading keeps no letters either. So the outbox row is all that tells whether a call
without an answer was carried out; and since that row has its number from here, a call that is carried out
late, when the batch was sent once more, is refused, or finds its readings stored (ADR 27).

A batch out of the spool has its places noted by the same statement. One that only notes places, as all of it
was stored before, leaves no row; sent once more it comes to the same, and a late one takes no place back.
With conflicts it is stored by no call at all but wholly by the statements: the places of what was sent behind
it say that everything before them is stored, and so its conflicts must be by then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import asyncpg

from contract.events import decode_events, encode_events, encode_lines, payload_of
from contract.order import said_time
from gateway.presence import Standing, changed_by
from gateway.transaction import (
    Appended,
    AppendRefused,
    DeadLetter,
    Outcome,
    RowsRefused,
    columns_of,
    contents_of,
    identities_of,
)
from runtime.postgres import is_data_error, load_queries

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from contract.events import Event, RawEvent
    from gateway.decode import Reading, Rejection
    from gateway.presence import Presence
    from gateway.transaction import Position
    from runtime.postgres import Connection

queries = load_queries("gateway")

_NO_LETTERS: Final = (None,) * 7
_NOTHING_SAID: Final = (None,) * 8
_NO_PLACES: Final = (None,) * 6
_LOOKED_AT: Final = 50  # rows of a stream, more than can be under way


class Called(NamedTuple):
    """What a call came to.

    Attributes:
        outcome: of what it stored and kept, and of repeats.
        known: readings that are stored, now or before.
        standings: what is known of devices now.
        left: readings that were not stored and differ from what was.
        letters_left: rejections that were not kept.
    """

    outcome: Outcome
    known: Sequence[Reading]
    standings: list[Standing]
    left: Sequence[Reading]
    letters_left: Sequence[Rejection]


class OneCall:
    """What one call stores.

    Args:
        readings: one at least.
        rejections: to keep as dead letters.
        presence: what is known of devices being online.
        noted: tells what is noted of places in the spool; None when it has none.

    Attributes:
        is_whole: whether all of it is stored, or nothing.
    """

    def __init__(
        self,
        readings: Sequence[Reading],
        rejections: Sequence[Rejection],
        presence: Presence,
        noted: Callable[[], Sequence[object]] | None = None,
    ) -> None:
        self.is_whole = noted is not None
        self._noted: Callable[[], Sequence[object]] = noted or (lambda: _NO_PLACES)
        self._readings = readings
        self._rejections = rejections
        self._presence = presence
        self._keys = identities_of(readings), contents_of(readings)
        self._lines = encode_lines([reading.event for reading in readings])
        self._letters = columns_of(rejections) if rejections else _NO_LETTERS
        self._asked: list[int] = []

    def ask(self) -> bool:
        """Note by what is known now which readings may change something; tells whether any may."""
        self._asked = self._presence.asked(self._readings)
        return bool(self._asked)

    async def send(self, connection: Connection, position: Position, *, follows: bool) -> Called:
        """Call.

        Args:
            connection: outside of a transaction.
            position: the next of the stream, or the next but those that are under way.
            follows: whether some are.

        Raises:
            AppendRefused: it is not the next. Nothing was stored.
            RowsRefused: something refuses a row, or a place. Nothing was stored.
        """
        where = position.stream, position.owner, position.n, follows
        what = *self._keys, self._lines.decode(), len(self._readings)
        beside = *self._letters, *self._said(), *self._noted()
        try:
            row = await connection.fetchrow(queries.store_batch, *where, *what, *beside)
        except asyncpg.PostgresError as error:
            if is_data_error(error):
                raise RowsRefused(str(error)) from error
            raise
        assert row is not None
        if row["refused"]:
            raise AppendRefused
        conflicts = {place - 1 for place in row["conflicts"] or ()}
        out = conflicts.union(place - 1 for place in row["repeats"] or ())
        changing = {place - 1 for place in row["changing"] or ()}
        ids: Sequence[int] = row["letters"] or ()
        row_left = (position.n, row["created_at"], None) if row["created_at"] is not None else None
        return self._came_to(row_left, ids, out=out, conflicts=conflicts, changing=changing)

    async def look(self, connection: Connection, stream: int, since: int) -> Called | None:
        """Look whether a call without an answer was carried out; None when nothing is to be seen of it.

        Args:
            connection: as for a call.
            stream: of the call.
            since: the lowest number that its row may have.
        """
        mine = {_name(reading.event): at for at, reading in reversed([*enumerate(self._readings)])}
        for row in await connection.fetch(queries.rows_from, stream, since, _LOOKED_AT):
            events = decode_events(row["payload"])
            stored = {mine[_name(event)] for event in events if _name(event) in mine}
            if stored:
                out = set(range(len(self._readings))) - stored
                changing = {mine[_name(event)] for event in events if event.online_since is not None}
                columns = self._letters[0], self._letters[1], self._letters[3]
                found = await connection.fetch(queries.find_letters, *columns) if self._rejections else ()
                ids = [letter["id"] for letter in found]
                row_left = row["n"], row["created_at"], row["payload"]
                return self._came_to(row_left, ids, out=out, conflicts=out, changing=changing)
        return None

    def _came_to(
        self,
        row: tuple[int, datetime, bytes | None] | None,
        letters: Sequence[int],
        *,
        out: set[int],
        conflicts: set[int],
        changing: set[int],
    ) -> Called:
        """What a call came to that left an outbox row, or none, and did not store some readings."""
        readings = self._readings
        asked = sorted(changing.union(self._asked) - out)  # an attempt before may have asked about others
        changed, standings = changed_by(readings, asked, changing) if asked else (readings, [])
        new = [reading for at, reading in enumerate(changed) if at not in out] if out else changed
        known, left = readings, []
        if conflicts:
            known = [reading for at, reading in enumerate(readings) if at not in conflicts]
            left = [reading for at, reading in enumerate(readings) if at in conflicts]
        appended = None
        if row is not None:
            n, created_at, payload = row
            if payload is None:
                whole = not out and not changing
                payload = payload_of(self._lines) if whole else encode_events([each.event for each in new])
            appended = Appended(n, len(new), payload, created_at)
        unkeyed = [reading.keyed for reading in new].count(False)
        kept = list(map(DeadLetter, letters, self._rejections))
        outcome = Outcome(appended, len(new), len(out) - len(left), unkeyed, kept)
        return Called(outcome, known, standings, left, () if appended else self._rejections)

    def _said(self) -> Sequence[object]:
        """The readings that may change something, and how their events end if they do."""
        if not self._asked:
            return _NOTHING_SAID
        readings = [self._readings[at] for at in self._asked]
        rows = [(r.event.device_id, r.event.ts, r.event.received_at, r.event.key) for r in readings]
        return (
            [at + 1 for at in self._asked],
            *map(list, zip(*rows, strict=True)),
            [reading.event.online for reading in readings],
            [reading.kept for reading in readings],
            [_ending(reading.event) for reading in readings],
        )


def _name(event: Event | RawEvent) -> tuple[str, str, str]:
    """What no two readings of a gateway share: arrival alone would do, as long as no clock was set back."""
    return event.received_at, event.device_id, event.key


def _ending(event: RawEvent) -> str:
    """What comes instead of the last brace of an event that changes what is known (`RawEvent`)."""
    says = "" if event.online is not None else ',"online":true'
    return f'{says},"online_since":"{said_time(event.ts, event.received_at)}"}}'
