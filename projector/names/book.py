"""What is known of devices by name, in memory. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST: Final = 200_000

_decoder: Final = msgspec.json.Decoder(dict[str, Any])


class Known(NamedTuple):
    """What is said of a device.

    Attributes:
        labels: as JSON, "" for none: many devices have the same ones.
        expected_s: how often it should send, in seconds; None where nobody said.
        blocked: whether nothing that it sends is let in.
        never_heard: whether it may send and nothing of it was ever stored.
    """

    name: str | None = None
    labels: str = ""
    expected_s: int | None = None
    blocked: bool = False
    never_heard: bool = False

    @property
    def label(self) -> dict[str, str]:
        """Labels by name, as text also where somebody put something else there by hand."""
        if not self.labels:
            return {}
        found = _decoder.decode(self.labels)
        return {
            name: value if isinstance(value, str) else msgspec.json.encode(value).decode()
            for name, value in found.items()
        }


NOBODY: Final = Known()
"""A device of which nothing is said."""


class Names:
    """What is said of devices, of so many at the most.

    Attributes:
        called: device → its name, of those that have one.
        never_heard: devices that may send and never did; `unheard` is another number whenever these change.
        left_out: how many devices there was no room for.
    """

    def __init__(self, most: int = MOST) -> None:
        self.called: dict[str, str] = {}
        self.never_heard: dict[str, None] = {}
        self.unheard = 0
        self.left_out = 0
        self._most = most
        self._known: dict[str, Known] = {}

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def of(self, device_id: str) -> Known:
        """What is said of a device."""
        return self._known.get(device_id, NOBODY)

    def expected_s(self, device_id: str) -> int | None:
        """How often it should send."""
        return self.of(device_id).expected_s

    def take(self, device_id: str, known: Known) -> bool:
        """Note what is said of a device now; returns whether that is something else."""
        before = self._known.get(device_id, NOBODY)
        if known == before:
            return False
        if known == NOBODY:
            del self._known[device_id]
        elif before is NOBODY and len(self._known) >= self._most:
            self.left_out += 1
            return False
        else:
            self._known[device_id] = known
        if known.never_heard != before.never_heard:
            self.unheard += 1
            if known.never_heard:
                self.never_heard[device_id] = None
            else:
                del self.never_heard[device_id]
        if known.name is not None:
            self.called[device_id] = known.name
        else:
            self.called.pop(device_id, None)
        return True

    def labelled(self, name: str, value: str) -> set[str]:
        """The devices with a label."""
        said: dict[str, bool] = {}  # labels that many have in common are looked at once
        found = set()
        for id_, known in self._known.items():
            if known.labels:
                if known.labels not in said:
                    said[known.labels] = known.label.get(name) == value
                if said[known.labels]:
                    found.add(id_)
        return found
