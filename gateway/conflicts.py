"""What is said of conflicts: a key that is held by other content, and a key that cannot be one.

`id` is the address of a sensor in the messages of many bridges and receivers, and the same in each. Then the
first reading is stored and all that follow are conflicts. So a device is watched from its first conflict on:
when one key comes with a third content, and no other key in between that brings something new, its keys never
change. A bridge has a few of them, one for each sensor; the keys of a counter that starts again are many.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gateway.decode import Reading, Rejection

_WATCHED: Final = 1000
_SAID: Final = 1000
_CONTENTS: Final = 2  # that conflict; the one that is stored is the third
_KEYS: Final = 32  # the latest of a device


def conflict_error(reading: Reading, *, same_time: bool) -> str:
    """What a person should know of a conflict.

    Args:
        reading: what is refused.
        same_time: whether what is stored under the key has the same device time.
    """
    event = reading.event
    said = f"key {event.key!r} is stored with other content"
    unkeyed = 'key = "" on its route if the field is no message key, or names the sensor'
    if same_time:
        return f"{said} of the same time: the device gives two messages one key; {unkeyed}"
    if event.ts == event.received_at:
        return f"{said}, and the message states no time: {unkeyed}"
    return f'{said} and time: identity = "key+time" on its route if the counter started again; {unkeyed}'


class Constant(NamedTuple):
    """A key that never changes."""

    device_id: str
    key: str
    topic: str


class KeyWatch:
    """Notices devices whose key never changes while their content does.

    Attributes:
        devices: how many were noticed.
    """

    def __init__(self) -> None:
        self.devices = 0
        self._keys: OrderedDict[str, dict[str, set[int]]] = OrderedDict()
        self._said: OrderedDict[str, None] = OrderedDict()

    def look(self, readings: Iterable[Reading], conflicts: Sequence[Rejection]) -> list[Constant]:
        """Look at a batch; returns each device that is noticed for the first time.

        Args:
            readings: all of them.
            conflicts: those refused as conflicts.
        """
        found: list[Constant] = []
        for conflict in conflicts:
            device_id = conflict.device_id or ""
            contents = _of(self._keys.setdefault(device_id, {}), conflict.key)
            if len(contents) < _CONTENTS:
                contents.add(hash(conflict.payload))
            self._keys.move_to_end(device_id)
            if len(self._keys) > _WATCHED:
                self._keys.popitem(last=False)
        if not self._keys:
            return found
        for reading in readings:
            keys = self._keys.get(reading.event.device_id)
            if keys is not None:
                _of(keys, reading.event.key)
        for conflict in conflicts:
            device_id = conflict.device_id or ""
            refused = self._keys.get(device_id, {}).values()
            if device_id in self._said or not all(refused) or max(map(len, refused), default=0) < _CONTENTS:
                continue
            self._said[device_id] = None
            if len(self._said) > _SAID:
                self._said.popitem(last=False)
            self.devices += 1
            found.append(Constant(device_id, conflict.key, conflict.topic))
        return found


def _of(keys: dict[str, set[int]], key: str) -> set[int]:
    """The contents that were refused under a key, which makes room for itself."""
    contents = keys.get(key)
    if contents is None:
        contents = keys[key] = set()
        if len(keys) > _KEYS:
            del keys[next(iter(keys))]
    return contents
