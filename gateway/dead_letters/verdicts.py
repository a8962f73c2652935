"""What each letter of a page comes to when it goes through the decoder and the keys again. Pure.

- All it holds can be stored, or has been: it is replayed.
- Nothing of it can: it stays, with what stands in its way now.
- A part of an array can: it is replayed, and each element that cannot becomes a letter of its own, as it does
  when an array comes from the broker. Where the message cannot be cut, the letter stays: it is all of it.

A letter that stands for some devices of a message has only their readings: what else is in it was stored, or
has letters of its own. What is of a device that is still refused waits on: in this letter, or in another
where the rest of this one is stored.

A known conflict is not asked again as long as its route identifies messages by key: the key that it collided
with may have left the dedup window, and the letter would then be stored beside what it contradicts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from contract.events import format_time
from gateway.decode import Reading, Received, Rejection
from gateway.decode.routes import match
from gateway.door import explain, refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from gateway.decode import Decoder
    from gateway.decode.routes import CompiledRoute
    from gateway.door import Refusal, State
    from gateway.sparkplug.replayed import NamingDecoder
    from gateway.transaction import Claimed


class Kept(NamedTuple):
    """A letter as a replay takes it from the table.

    Attributes:
        replayed: whether it was replayed before.
        stands_for: the devices of the message that it stands for; None for all of it.
    """

    id: int
    received_at: datetime
    topic: str
    reason: str
    error: str
    payload: bytes
    replayed: bool
    stands_for: Sequence[str] | None = None


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
        parted: what goes on waiting of it once the rest is replayed.
    """

    letter: Kept
    readings: list[Reading]
    failures: list[Rejection]
    repeats: int = 0
    parted: list[Rejection] = field(default_factory=list)


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


def decode(letter: Kept, decoder: Decoder | NamingDecoder, routes: Sequence[CompiledRoute]) -> Attempt:
    """Decode a letter as at its receipt: what its device time is checked against is the time it came."""
    received = Received.of(letter.received_at)
    attempt = Attempt(letter, [], [])
    only = letter.stands_for
    for item in decoder.decode(_Again(letter.topic, letter.payload), received):
        if only is not None and (isinstance(item, Rejection) or item.event.device_id not in only):
            continue
        if isinstance(item, Rejection):
            attempt.failures.append(item)
        elif letter.reason == "conflict" and item.keyed and not match(routes, letter.topic).plan.timed:
            attempt.failures.append(_again(letter, "conflict", letter.error, item.event.device_id))
        elif letter.replayed and item.event.key.startswith("uuid:"):
            attempt.repeats += 1
        else:
            attempt.readings.append(item)
    if only is not None and not (attempt.readings or attempt.failures or attempt.repeats):
        attempt.failures.append(_again(letter, letter.reason, "no reading of its devices comes of it"))
    return attempt


def turn_away(attempts: Iterable[Attempt], states: Mapping[str, State], *, holds: bool) -> None:
    """Take out of the readings of some letters those of devices that are still refused.

    Args:
        attempts: of letters; they are changed.
        states: of the devices in the registry.
        holds: whether those are held that are not active.
    """
    for attempt in attempts:
        refused: dict[Refusal, dict[str, None]] = {}
        let_in: list[Reading] = []
        for reading in attempt.readings:
            device_id = reading.event.device_id
            reason = refusal(states.get(device_id), holds=holds)
            if reason is None:
                let_in.append(reading)
            else:
                refused.setdefault(reason, {})[device_id] = None
        letters = [_refused(attempt.letter, reason, tuple(ids)) for reason, ids in refused.items()]
        if let_in or attempt.repeats or len(letters) > 1:
            attempt.parted += letters
        else:
            attempt.failures[:0] = letters
        attempt.readings = let_in


def _refused(letter: Kept, reason: Refusal, ids: tuple[str, ...]) -> Rejection:
    device_id = ids[0] if len(ids) == 1 else None
    return _again(letter, reason, explain(reason, ids), device_id)._replace(stands_for=ids)


def _again(letter: Kept, reason: str, error: str, device_id: str | None = None) -> Rejection:
    return Rejection(format_time(letter.received_at), letter.topic, device_id, reason, error, letter.payload)


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
            verdicts.orphans.extend([*attempt.failures, *attempt.parted])
    return verdicts._replace(duplicates=duplicates)
