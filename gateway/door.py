"""The door: whose messages are let in, by what the registry says of devices (`gateway/registry/`).

A blocked device's messages become dead letters. With `gateway.unknown_devices = "hold"` so do those of a
device that is not active in the registry, until it is (`dead_letters/release.py`). What is refused of one
message is one letter for each reason, with the message as it came: a letter that stands for some of its
devices only names them, and a replay takes no others out of it.

It is looked at in memory. Where that has no room for all of the registry, or does not know it yet, a message
is rather stored than held. While nobody can be refused it costs a message nothing. Pure.
"""

from __future__ import annotations

import shlex
from itertools import islice
from typing import TYPE_CHECKING, Final, Literal

from gateway.decode import Reading, Rejection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gateway.decode import Received
    from runtime.mqtt.port import Delivery

    Decode = Callable[[Delivery, Received], list[Reading | Rejection]]

State = Literal["active", "blocked", "unknown"]
Refusal = Literal["unknown_device", "device_blocked"]

REFUSALS: Final[tuple[Refusal, ...]] = ("unknown_device", "device_blocked")

MOST: Final = 1_000_000  # a hundred megabytes
_TOLD: Final = 10_000
_NAMED: Final = 3


def refusal(state: State | None, *, holds: bool) -> Refusal | None:
    """Why the messages of a device are refused.

    Args:
        state: of the device; None when it is not in the registry.
        holds: whether those are held that are not active.
    """
    reason: Refusal
    if state == "blocked":
        reason = "device_blocked"
    elif holds and state != "active":
        reason = "unknown_device"
    else:
        return None
    return reason


def explain(reason: Refusal, device_ids: Iterable[str]) -> str:
    """What a letter says of it, and how to mend it."""
    ids = list(device_ids)
    more = f" and {len(ids) - _NAMED:,} more" if len(ids) > _NAMED else ""
    named = f"device{'s' if len(ids) > 1 else ''} {', '.join(map(repr, ids[:_NAMED]))}{more}"
    command = mend(reason, ids[:_NAMED])
    if reason == "device_blocked":
        return f"{named} blocked: `{command}` lets what comes next in"
    return f"{named} not in the registry: `{command}` adds, and stores what was held"


def mend(reason: Refusal, device_ids: Iterable[str]) -> str:
    """The command that lets devices in; whatever they are called, it is about them and does nothing else."""
    ids = list(device_ids)
    words = ["--"] if any(id_.startswith("-") for id_ in ids) else []
    does = "unblock" if reason == "device_blocked" else "set"
    return " ".join(["gateway devices", does, *words, *map(shlex.quote, ids)])


class Door:
    """Lets readings in, or makes dead letters of them.

    Args:
        holds: whether those are held that are not active.
        most: how many devices to keep in mind.
    """

    def __init__(self, *, holds: bool = False, most: int = MOST) -> None:
        self.holds = holds
        self._most = most
        self._active: set[str] = set()
        self._blocked: set[str] = set()
        self._knows_all = False
        self._told: dict[str, None] = {}
        self._news: dict[str, tuple[Refusal, str]] = {}

    def __len__(self) -> int:
        return len(self._active) + len(self._blocked)

    @property
    def is_full(self) -> bool:
        """Whether there is no room for all that it should keep in mind."""
        return len(self) >= self._most

    @property
    def refuses(self) -> bool:
        """Whether anybody may be refused."""
        return bool(self._blocked) or (self.holds and self._knows_all)

    def begin(self) -> Door:
        """An empty one like it, to be filled and put in its place."""
        return Door(holds=self.holds, most=self._most)

    def replace(self, other: Door) -> None:
        """Let in whom another one does, which knows of all devices."""
        self._active, self._blocked = other._active, other._blocked
        self._knows_all = not self.is_full

    def take(self, device_id: str, state: State) -> None:
        """Note what a device is now."""
        (self._blocked.add if state == "blocked" and not self.is_full else self._blocked.discard)(device_id)
        if refusal(state, holds=self.holds) is None:
            self._told.pop(device_id, None)
        if not self.holds:
            return
        if state != "active":
            self._active.discard(device_id)
        elif not self.is_full:
            self._active.add(device_id)
        if self.is_full:
            self._knows_all = False

    def guarding(self, decode: Decode) -> Decode:
        """The same decoding, with those refused who are."""
        if not self.refuses:
            return decode
        return lambda delivery, received: self.sift(delivery, decode(delivery, received))

    def sift(self, delivery: Delivery, items: list[Reading | Rejection]) -> list[Reading | Rejection]:
        """What is let in of the items of a delivery, and a letter for each reason of refusing others."""
        for item in items:
            if isinstance(item, Reading) and self._why(item.event.device_id) is not None:
                return self._sifted(delivery, items)
        return items

    def _sifted(self, delivery: Delivery, items: list[Reading | Rejection]) -> list[Reading | Rejection]:
        refused: dict[Refusal, dict[str, str]] = {}  # device → when its first reading came
        kept: list[Reading | Rejection] = []
        for item in items:
            reason = self._why(item.event.device_id) if isinstance(item, Reading) else None
            if reason is None:
                kept.append(item)
            else:
                assert isinstance(item, Reading)
                refused.setdefault(reason, {}).setdefault(item.event.device_id, item.event.received_at)
        is_whole = not kept and len(refused) == 1
        for reason, came in refused.items():
            ids = tuple(came)
            kept.append(
                Rejection(
                    min(came.values()),
                    delivery.topic,
                    ids[0] if len(ids) == 1 else None,
                    reason,
                    explain(reason, ids),
                    delivery.payload,
                    stands_for=() if is_whole and len(ids) == 1 else ids,
                )
            )
            self._note(ids, reason, delivery.topic)
        return kept

    def take_news(self, most: int) -> list[tuple[str, Refusal, str]]:
        """Devices that were refused and of which that was not told yet, each with a topic of it."""
        return [(id_, *self._news.pop(id_)) for id_ in list(islice(self._news, most))]

    def _why(self, device_id: str) -> Refusal | None:
        if device_id in self._blocked:
            return "device_blocked"
        if self.holds and self._knows_all and device_id not in self._active:
            return "unknown_device"
        return None

    def _note(self, ids: Iterable[str], reason: Refusal, topic: str) -> None:
        for id_ in ids:
            if id_ not in self._told:
                self._told[id_] = None
                self._news[id_] = reason, topic
                if len(self._told) > _TOLD:
                    first = next(iter(self._told))
                    del self._told[first]
                    self._news.pop(first, None)
