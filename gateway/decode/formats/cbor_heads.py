"""CBOR byte by byte (RFC 8949 §3): where items begin, what is beside what a library reads of them. Pure."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.decode.limits import MAX_DEPTH, MAX_VALUES, too_many_values
from runtime.errors import Reject

if TYPE_CHECKING:
    from collections.abc import Iterator

MALFORMED: Final = "malformed_cbor"

_FLOATS: Final = {0xF9: 2, 0xFA: 4, 0xFB: 8}
_FLOAT32: Final = 0xFA
_SHORT: Final = 24  # as many bytes have a text whose length is in another byte
_OTHERS: Final = re.compile(
    rb"(?:[\x00-\x17\x20-\x37\x40\x5f\x60\x7f\x80-\x97\x9f\xa0-\xb7\xbf\xc0-\xd7\xe0-\xf7\xff]"
    rb"|[\x18\x38\x98\xb8\xd8\xf8].|[\x19\x39\x99\xb9\xd9].{2}"
    rb"|[\x1a\x3a\x9a\xba\xda].{4}|[\x1b\x3b\x9b\xbb\xdb].{8}|"
    + b"|".join(b"[%c%c].{%d}" % (0x40 + size, 0x60 + size, size) for size in range(1, _SHORT))
    + b")*+",
    re.DOTALL,
)
"""Items, and heads of items, that are no float and no long text."""
_ARRAY, _MAP, _TAG = 4, 5, 6
_CONTAINERS: Final = frozenset({_ARRAY, _MAP})
_TEXTS: Final = frozenset({2, 3})
_OPEN_END, BREAK = 31, 0xFF
_LONG_HEADS: Final = {24: 1, 25: 2, 26: 4, 27: 8}


class Head(NamedTuple):
    """The first bytes of an item.

    Attributes:
        major: its major type.
        length: what it counts; -1 of what a break ends.
        end: where they end.
    """

    major: int
    length: int
    end: int


def widths(payload: bytes) -> Iterator[bool]:
    """Whether each float of well-formed items has 32 bits, in their order."""
    at, size = 0, len(payload)
    while (found := _OTHERS.match(payload, at)) and (at := found.end()) < size:
        first = payload[at]
        if width := _FLOATS.get(first):
            yield first == _FLOAT32
            at += 1 + width
        elif first >> 5 in _TEXTS:
            _, length, end = head_of(payload, at)
            at = end + length
        else:
            return


def too_deep() -> Reject:
    """Why a payload is refused that is nested deeper than is allowed."""
    return Reject("too_deep", f"nested deeper than {MAX_DEPTH}")


def head_of(payload: bytes, at: int) -> Head:
    """The head of the item that begins there."""
    first, at = payload[at], at + 1
    major, said = first >> 5, first & 31
    length = _LONG_HEADS.get(said, 0)
    count = int.from_bytes(payload[at : at + length], "big") if length else -1 if said == _OPEN_END else said
    return Head(major, count, at + length)


def after_tags(payload: bytes, at: int = 0) -> int:
    """Where the content of tags begins that begin there."""
    while payload[at] >> 5 == _TAG:
        at = head_of(payload, at).end
    return at


def unwrapped(raw: bytes) -> bytes:
    """An item out of an array of one."""
    at = after_tags(raw)
    return raw[:at] + raw[at + 1 :] if raw[at] == 0x81 else raw  # noqa: PLR2004  # an array of one


def check_keys(payload: bytes) -> None:  # noqa: C901  # a case a kind of item
    """Refuse keys that are containers; what is malformed beside is left to be found by who reads it."""
    at = 0
    open_: list[_Open] = []
    for _ in range(2 * MAX_VALUES):
        if at >= len(payload):
            return
        start = at
        major, count, at = head_of(payload, at)
        if payload[start] == BREAK:
            del open_[-1:]
            continue
        if major == _TAG:
            continue
        if open_:
            holder = open_[-1]
            if holder.is_key and major in _CONTAINERS:
                raise Reject(
                    MALFORMED,
                    f"the key at byte {start} is an array or a map: send texts or numbers as keys",
                )
            holder.left -= 1
            holder.is_key = holder.is_map and not holder.is_key
        if major in _CONTAINERS or (major in _TEXTS and count < 0):
            if len(open_) == 2 * MAX_DEPTH:
                raise too_deep()
            items = math.inf if count < 0 else count * 2 if major == _MAP else count
            open_.append(_Open(items, is_map=major == _MAP))
        elif major in _TEXTS:
            at += count
        while open_ and open_[-1].left <= 0:
            open_.pop()
    raise too_many_values(2 * MAX_VALUES, "items, of which not all keys are texts,")


class _Open:
    """A container that is being looked through.

    Attributes:
        left: items that are still to come, two of a member of a map.
        is_map: whether it is one.
        is_key: whether the next item is a key.
    """

    __slots__ = ("is_key", "is_map", "left")

    def __init__(self, left: float, *, is_map: bool) -> None:
        self.left = left
        self.is_map = self.is_key = is_map
