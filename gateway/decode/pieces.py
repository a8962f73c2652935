"""The bytes of the readings of one message: each a payload of its format, decoded to that reading alone.

They are what a dead letter keeps. A message of a great many readings with a great deal around them is
refused: of pieces it would make too many bytes. Where it cannot be cut each reading has all of it, and so
would the letters of readings in conflict.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from runtime.errors import Reject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.decode.formats import Format
    from gateway.decode.known import Room
    from gateway.decode.mapping import Part, Shaper

_MOST_BYTES: Final = 16_000_000  # of all pieces of one message
_SCALAR_BYTES: Final = 8
_CUT: Final = 4  # microseconds, of each piece
_KEYED: Final = 6
_WRITTEN: Final = 128  # bytes, in another
_MOST_SHARED: Final = 256_000_000  # of readings without a key, which share one payload: none is in conflict


class Pieces:
    """Those of a message of several.

    Args:
        parts: its readings.
        value: what it was parsed to.
        payload: its bytes as they came, and uncompressed.
        form: its format.
        shaper: cuts values.
        room: bounds what that costs.

    Attributes:
        raws: the bytes of each part; None when the message cannot be cut.

    Raises:
        Reject: there is too much of it.
    """

    def __init__(  # noqa: PLR0917  # of one place
        self,
        parts: Sequence[Part],
        value: Any,  # noqa: ANN401  # a format's value is any value
        payload: tuple[bytes, bytes],
        form: Format,
        shaper: Shaper,
        room: Room,
    ) -> None:
        came, self._unpacked = payload
        self._parts, self._value = parts, value
        self._form, self._shaper, self._room = form, shaper, room
        self._elements: Sequence[bytes | memoryview] = ()
        if not shaper.each.path:
            self._elements = form.elements(self._unpacked)
            self.raws: list[bytes] | None = [self._joined(part) for part in parts]
        else:
            self.raws = self._cut()
            if self.raws is None:
                keyed = any(part.mapped is not None and part.mapped[1] is not None for part in parts)
                most = _MOST_BYTES if keyed else _MOST_SHARED
                if len(parts) * len(came) > most and (keyed or sum(map(_said, parts)) > _MOST_BYTES):
                    raise self._too_many(most)

    def join(self, numbers: Sequence[int]) -> bytes:
        """A payload of some of them; of all of them, where it would not be the same otherwise."""
        parts = [self._parts[at] for at in numbers]
        if self._elements:
            places = sorted(int(at) for part in parts for (at, *_) in part.places)
            return self._form.join([self._elements[at] for at in places])
        together = self._shaper.together(self._value, parts)
        if together is None or self._form.write is None:
            return self._unpacked
        return self._form.write(together)

    def _joined(self, part: Part) -> bytes:
        elements = [self._elements[int(at)] for (at, *_) in part.places]
        return bytes(elements[0]) if len(elements) == 1 else self._form.join(elements)

    def _cut(self) -> list[bytes] | None:
        write = self._form.write
        if write is None:
            return None
        seen = [0] * (1 + max(part.message for part in self._parts))
        for part in self._parts:
            seen[part.message] += 1
        raws, total = [], 0
        for part in self._parts:
            cut = self._shaper.cut(self._value, part, several=seen[part.message] > 1)
            if cut is None:
                return None
            raws.append(write(cut))
            total += len(raws[-1])
            self._room.spend(_CUT + _KEYED * part.around.keyed + len(raws[-1]) // _WRITTEN)
            if total > _MOST_BYTES:
                raise self._too_many(_MOST_BYTES)
        return raws

    def _too_many(self, most: int) -> Reject:
        return Reject(
            "too_many_readings",
            f"{len(self._parts)} readings, each with what is around it, are more than {most} bytes; "
            f"send fewer in one message",
        )


def _said(part: Part) -> int:
    """About how many bytes a reading has, whatever it shares with others."""
    if part.mapped is None:
        return 0
    *named, metrics, _ = part.mapped
    texts = [*named, *metrics, *metrics.values(), *part.tags, *part.tags.values()]
    return sum(len(text) if type(text) is str else _SCALAR_BYTES for text in texts)
