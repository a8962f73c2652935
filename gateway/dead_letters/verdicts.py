"""What each letter of a page comes to when it goes through the decoder and the keys again. Pure.

- All it holds can be stored, or has been: it is replayed.
- Nothing of it can: it stays, with what stands in its way now.
- A part of an array can: it is replayed, and each element that cannot becomes a letter of its own, as it does
  when an array comes from the broker. Where the message cannot be cut, the letter stays: it is all of it.

A known conflict is not asked again as long as its route identifies messages by key: the key that it collided
with may have left the dedup window, and the letter would then be stored beside what it contradicts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from contract.events import format_time
from gateway.decode import Reading, Received, Rejection
from gateway.decode.routes import match

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from gateway.decode import Decoder
    from gateway.decode.routes import CompiledRoute
    from gateway.transaction import Claimed


class Kept(NamedTuple):
    """A letter as a replay takes it from the table.

    Attributes:
        replayed: whether it was replayed before.
    """

    id: int
    received_at: datetime
    topic: str
    reason: str
    error: str
    payload: bytes
    replayed: bool


@dataclass(frozen=True, slots=True)
class _Again:
    """The delivery that the letter was, as far as it was kept."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    duplicate: bool = False
    user_properties: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class Attempt:
    """A letter and what has become of it so far.

    Attributes:
        readings: to be claimed.
        failures: what cannot be stored of it.
        repeats: readings that are not asked for again, because they have no key to be known by.
    """

    letter: Kept
    readings: list[Reading]
    failures: list[Rejection]
    repeats: int = 0


class Verdicts(NamedTuple):
    """What a page comes to.

    Attributes:
        replayed: ids.
        failing: the letters that stay, each with what stands in its way.
        orphans: elements of replayed arrays, to be kept as letters of their own.
        duplicates: readings that were stored before.
    """

    replayed: list[int]
    failing: list[tuple[Kept, Rejection]]
    orphans: list[Rejection]
    duplicates: int


def decode(letter: Kept, decoder: Decoder, routes: Sequence[CompiledRoute]) -> Attempt:
    """Decode a letter as at its receipt: what its device time is checked against is the time it came."""
    received = Received.of(letter.received_at)
    came = format_time(letter.received_at)
    attempt = Attempt(letter, [], [])
    for item in decoder.decode(_Again(letter.topic, letter.payload), received):
        if isinstance(item, Rejection):
            attempt.failures.append(item)
        elif letter.reason == "conflict" and item.keyed and not match(routes, letter.topic).plan.timed:
            attempt.failures.append(
                Rejection(
                    came,
                    letter.topic,
                    item.event.device_id,
                    "conflict",
                    letter.error,
                    letter.payload,
                )
            )
        elif letter.replayed and item.event.key.startswith("uuid:"):
            attempt.repeats += 1
        else:
            attempt.readings.append(item)
    return attempt


def judge(attempts: Iterable[Attempt], claimed: Claimed) -> Verdicts:
    """Tell what became of each letter once the keys of their readings have been claimed."""
    verdicts = Verdicts([], [], [], 0)
    new = {id(reading) for reading in claimed.new}
    # A reading that is not new is a conflict by its identity and content, so by these; all readings of a
    # message that cannot be cut have the same bytes.
    conflicts = {
        (conflict.topic, conflict.device_id, conflict.key, conflict.payload): conflict
        for conflict in claimed.conflicts
    }
    duplicates = 0
    for attempt in attempts:
        stored = attempt.repeats
        duplicates += attempt.repeats
        for reading in attempt.readings:
            conflict = None
            if id(reading) not in new:
                event = reading.event
                conflict = conflicts.get((reading.topic, event.device_id, event.key, reading.raw))
                duplicates += conflict is None
            if conflict is None:
                stored += 1
            else:
                attempt.failures.append(conflict)
        whole = any(failure.payload == attempt.letter.payload for failure in attempt.failures)
        if attempt.failures and (whole or not stored):
            verdicts.failing.append((attempt.letter, attempt.failures[0]))
            continue
        verdicts.replayed.append(attempt.letter.id)
        if not attempt.letter.replayed:
            verdicts.orphans.extend(attempt.failures)
    return verdicts._replace(duplicates=duplicates)
