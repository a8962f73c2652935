"""Whether devices are online, as far as messages say so: decided with the message that says it (ADR 21).

PostgreSQL is authoritative, in `device_presence`: with the statements of a batch, and under a lock of each
device, its function `note_presence` tells which of them change something. The newest statement counts, by its
own time but never later than its arrival, then by arrival; so repeats and late ones change nothing. What
changed goes out with the message's event, `online_since`, and views take it as it is: nobody decides it
again.

A copy that a broker had kept, and sends to a new subscription, is of nobody knows when. As a reading it is no
sign of life. As a statement it counts, as what was said while nobody listened, unless it says what is known,
or that a device is offline which came back with a reading: then nobody said on that topic that it is online.

A device that said it is offline and sends a reading is online again, unless the reading is older than what it
said. So the readings of such devices are asked about as well, and of no others. Which devices these are is
remembered here: what this gateway stored itself, and what it is told of devices that it hears when their
sightings are written. One that forgets it, or hears of it late, tells of a return with a later reading.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec.structs import replace

from contract.order import said_time
from runtime.postgres import load_queries

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from gateway.decode import Reading
    from runtime.postgres import Connection

queries = load_queries("gateway")

MOST: Final = 100_000  # devices that are known to be offline: some 20 MB


class Standing(NamedTuple):
    """What is known of a device once a batch is stored.

    Attributes:
        offline_since: in the contract's form; None of one that is not offline.
    """

    device_id: str
    offline_since: str | None


class Presence:
    """What one gateway knows of it.

    Args:
        told: whether any message may say something of it. Else only what is offline is looked for, if any.
    """

    def __init__(self, *, told: bool = True) -> None:
        self.told = told
        self._offline: dict[str, str] = {}  # and when that was said, the oldest entry first

    def learn(self, offline: Iterable[tuple[str, str]]) -> None:
        """Note devices that are offline, and when they said so."""
        for device_id, said_at in offline:
            self._offline.pop(device_id, None)
            self._offline[device_id] = said_at
        while len(self._offline) > MOST:
            del self._offline[next(iter(self._offline))]

    async def note(
        self, connection: Connection, readings: Sequence[Reading]
    ) -> tuple[Sequence[Reading], list[Standing]]:
        """Decide what readings change, within their transaction.

        The locks that this takes are held until that ends: it is to be its turn to append.

        Returns:
            The readings, with their events as they go out; and what is known if the transaction commits.
        """
        asked = self.asked(readings)
        if not asked:
            return readings, []
        events = [readings[at].event for at in asked]
        rows = await connection.fetch(
            queries.note_presence,
            [event.device_id for event in events],
            [event.ts for event in events],
            [event.received_at for event in events],
            [event.key for event in events],
            [event.online for event in events],
            [readings[at].kept for at in asked],
        )
        return changed_by(readings, asked, {asked[place - 1] for (place,) in rows})

    def settle(self, known: Iterable[Standing]) -> None:
        """Note what has been committed."""
        for device_id, offline_since in known:
            if offline_since is None:
                self._offline.pop(device_id, None)
            else:
                self.learn([(device_id, offline_since)])

    def asked(self, readings: Sequence[Reading]) -> list[int]:
        """Places of the readings that say something, and of those by which an offline device may be back.

        What is known must be of all that came before.
        """
        if not self.told and not self._offline:
            return []
        asked: list[int] = []
        offline = self._offline
        here: dict[str, str | None] = {}  # as the readings so far leave it
        for at, reading in enumerate(readings):
            event = reading.event
            online, device_id = event.online, event.device_id
            if reading.kept:
                if online is None:
                    continue
                here[device_id] = offline.get(device_id, "")  # it may be offline by that, or not
            elif online is not None:
                here[device_id] = None if online else said_time(event.ts, event.received_at)
            elif device_id in offline or device_id in here:
                said_at = here[device_id] if device_id in here else offline[device_id]
                if said_at is None or said_time(event.ts, event.received_at) < said_at:
                    continue
                here[device_id] = None
            else:
                continue
            asked.append(at)
        return asked


def changed_by(
    readings: Sequence[Reading], asked: Sequence[int], changing: Container[int]
) -> tuple[list[Reading], list[Standing]]:
    """The readings, those that change something with events that say so; and what is known when they commit.

    Args:
        readings: of a batch.
        asked: places of those that were asked about.
        changing: places of those that change something.
    """
    changed, known = list(readings), []
    for at in asked:
        event = readings[at].event
        if at in changing:
            since = said_time(event.ts, event.received_at)
            online = event.online is not False  # a sign of life says so too
            decided = replace(event, online=online, online_since=since)
            changed[at] = replace(readings[at], event=decided)
            known.append(Standing(event.device_id, None if online else since))
        elif event.online is None:
            known.append(Standing(event.device_id, None))  # whoever is not, is told of by its sighting
    return changed, known
