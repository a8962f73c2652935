"""From one state to what viewers get: everything, or what has changed since the one before. Pure.

A frame is a JSON object. `full` says whether it stands alone; a frame that does not leaves out what is as
it was, row by row in `rows` and `sparks`. Each frame has `at_ms` and `seq`, which goes up by one from frame
to frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from projector.live.state import State

_encoder: Final = msgspec.json.Encoder()
_BY_DEVICE: Final = ("rows", "sparks")


class Frame(NamedTuple):
    """The same moment twice.

    Attributes:
        full: for a viewer who has nothing, or not the frame before.
        delta: for one who has it.
    """

    seq: int
    full: bytes
    delta: bytes


class Frames:
    """Makes frames of one state after the other."""

    def __init__(self) -> None:
        self._seq = 0
        self._parts: dict[str, bytes] = {}
        self._devices: dict[str, dict[str, bytes]] = {name: {} for name in _BY_DEVICE}

    def next(self, state: State) -> Frame:
        """The frame of a state."""
        self._seq += 1
        parts = {
            name: _encoder.encode(getattr(state, name))
            for name in state.__struct_fields__
            if name not in _BY_DEVICE
        }
        devices = {
            name: {id_: _encoder.encode(value) for id_, value in getattr(state, name).items()}
            for name in _BY_DEVICE
        }
        full: dict[str, Any] = {"full": True, "seq": self._seq, **_raw(parts)}
        delta: dict[str, Any] = {"full": False, "seq": self._seq, **_raw(_changed(self._parts, parts))}
        for name in _BY_DEVICE:
            full[name] = _raw(devices[name])
            if changed := _changed(self._devices[name], devices[name]):
                delta[name] = _raw(changed)
        self._parts, self._devices = parts, devices
        return Frame(self._seq, _encoder.encode(full), _encoder.encode(delta))


def _changed(before: Mapping[str, bytes], now: Mapping[str, bytes]) -> dict[str, bytes]:
    return {name: value for name, value in now.items() if before.get(name) != value}


def _raw(parts: Mapping[str, bytes]) -> dict[str, msgspec.Raw]:
    return {name: msgspec.Raw(value) for name, value in parts.items()}
