"""Payloads of Sparkplug B as most edge nodes send them, read at one glance; `sparkplug` reads all. Pure.

A time, then metrics that say some of this in the order of the standard: name, alias, time, datatype, and one
value that is a double, a short integer or a truth value; and then a number. A match is as long as its metric
says that it is, and they cover all that is between the time and the number: nothing is overlooked.

What does not change from message to message stands in pieces of its own, heads and tails of metrics: who has
seen them before knows by them what is what, and makes no object of a metric. Where the pieces stand in a
payload that is not long is remembered too, so that the next one is cut at once.
"""

from __future__ import annotations

import re
from math import isfinite
from operator import itemgetter
from struct import Struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gateway.decode.formats.singles import of_double
from gateway.decode.formats.sparkplug_values import as_integer
from gateway.decode.glance import Nth

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_MOMENT: Final = rb"[\x80-\xff]{5}[\x01-\x7f]"  # milliseconds since 1970, today
_ALIAS: Final = rb"[\x00-\x7f]|[\x80-\xff][\x00-\x7f]"
_SEQ: Final = rb"[\x00-\x7f]|[\x80-\xff]\x01"
_SHORT: Final = rb"[\x80-\xff]{0,3}[\x00-\x7f]"
_begins = re.compile(rb"\x08(" + _MOMENT + rb")\x12", re.DOTALL).match
_ends = re.compile(rb"\x18(" + _SEQ + rb")", re.DOTALL).fullmatch
_metrics = re.compile(
    rb"\x12([\x00-\x7f])("
    rb"((?:\x0a[\x00-\x7f][ -~]++(?=[\x10\x18]))?(?:\x10(?:" + _ALIAS + rb"))?)"
    rb"(?:\x18(" + _MOMENT + rb"))?"
    rb"((?:\x20[\x00-\x7f])?[\x69\x50\x58\x70])"
    rb"((?<=\x69).{8}|(?<=[\x50\x58])" + _SHORT + rb"|(?<=\x70)[\x00\x01]))",
    re.DOTALL,
).findall
_head = re.compile(rb"(?:\x0a(.)([ -~]+))?(?:\x10(" + _ALIAS + rb"))?", re.DOTALL).fullmatch
_is_moment = re.compile(_MOMENT, re.DOTALL).fullmatch
_is_seq = re.compile(_SEQ, re.DOTALL).fullmatch
_is_short = re.compile(_SHORT, re.DOTALL).fullmatch
_double = Struct("<d").unpack
_DOUBLE, _TRUTH = b"\x69", b"\x70"
_TRUTHS: Final = frozenset({b"\x00", b"\x01"})
_NAME: Final = b"\x0a"
_SAME: Final = frozenset({_DOUBLE, _TRUTH})  # what is the same in every datatype
_FIRST: Final = 7  # bytes of the time
_HINT: Final = 12  # up to this byte payloads of one layout are alike
_MOST: Final = 4096  # bytes: of a longer one what is read twice costs more than it saves
_MOST_HEADS: Final = 20_000  # some 6 MB
_MOST_LAYOUTS: Final = 2_000  # some 20 MB
_LAID_OUT: Final = 600  # bytes of a payload at most
_TYPED: Final = 3  # bytes of a tail that says a datatype
_NOBODY: Final = (None, None)

_heads: Final[dict[bytes, tuple[str | None, int | None]]] = {}
"""Heads that were found to be what they say, with the name and the alias."""

_layouts: Final[dict[tuple[int, bytes], _Layout | None]] = {}
"""By length and hint: None of what came once."""


class Usual(NamedTuple):
    """What stands in a payload; a `Glance`.

    Attributes:
        timestamp: of the payload, in milliseconds.
        seq: its number.
        heads: of each metric what stands before its time.
        timed: whether it has one.
        tails: of each the datatype and the kind of its value.
        times: of those that have one.
        values: the bytes of each, unless these are `numbers` already.
        numbers: they; empty when there are bytes.
        layout: by which it was read, if it was.
        told: what a birth says of each, where they have aliases alone: what it is called, and its datatype.
    """

    timestamp: int
    seq: int
    heads: tuple[bytes, ...]
    timed: tuple[bool, ...]
    tails: tuple[bytes, ...]
    times: Sequence[int]
    values: tuple[bytes, ...]
    numbers: tuple[float, ...] = ()
    layout: _Layout | None = None
    told: tuple[tuple[str, int], ...] = ()

    @property
    def key(self) -> tuple[object, ...]:
        """All that does not change."""
        if self.layout is not None:
            return self.layout, self.told
        return self.heads, self.timed, self.tails, self.told

    @property
    def value(self) -> dict[str, Any]:
        """What `sparkplug.read_slowly` makes of it, with the names that it was told."""
        return self._built(self.times, self._read())

    @property
    def leaves(self) -> list[Any]:
        """Its values: time and number, the times of metrics, and what they say."""
        return [self.timestamp, self.seq, *self.times, *(self.numbers or self._read())]

    @property
    def places(self) -> dict[str, Any]:
        """The same with something in the place of each of these that says which of them it is."""
        first = 2 + len(self.times)
        value = self._built(map(Nth, range(2, first)), map(Nth, range(first, first + len(self.tails))))
        return value | {"timestamp": Nth(0), "seq": Nth(1)}

    @property
    def aliases(self) -> list[int] | None:
        """Those of its metrics; None where one has a name, or neither."""
        found = [alias for name, alias in map(_named, self.heads) if name is None and alias is not None]
        return found if len(found) == len(self.heads) else None

    @property
    def says_all(self) -> bool:
        """Whether no birth could say more: all have names, and no integer is without a datatype."""
        named = all(head[:1] == _NAME for head in self.heads)
        return named and all(len(tail) == _TYPED or tail in _SAME for tail in self.tails)

    def _read(self) -> Sequence[Any]:
        if self.numbers:
            return self.numbers
        types = [datatype for _, datatype in self.told] or [0] * len(self.values)
        return [
            _value(raw, tail, datatype)
            for raw, tail, datatype in zip(self.values, self.tails, types, strict=True)
        ]

    def _built(self, times: Iterable[Any], values: Iterable[Any]) -> dict[str, Any]:
        moments, called = iter(times), iter(self.told)
        metrics: list[dict[str, Any]] = []
        for head, timed, tail, value in zip(self.heads, self.timed, self.tails, values, strict=True):
            name, alias = _named(head)
            metric: dict[str, Any] = {}
            if self.told:
                name, _ = next(called)
            if name:
                metric["name"] = name
            if alias is not None:
                metric["alias"] = alias
            if timed:
                metric["timestamp"] = next(moments)
            if len(tail) == _TYPED:
                metric["datatype"] = tail[1]
            metric["value"] = value
            metrics.append(metric)
        return {"timestamp": self.timestamp, "metrics": metrics, "seq": self.seq}


class _Layout:
    """Where the pieces of payloads stand that have the same heads and tails, and values as long as these.

    Args:
        like: what stands in one of them.
        payload: it.
    """

    def __init__(self, like: Usual, payload: bytes) -> None:
        self._heads, self._timed, self._tails = like.heads, like.timed, like.tails
        self._is_double = {tail[-1:] for tail in like.tails} == {_DOUBLE}
        form, constants, moments, values = ["1s6s"], [0], [], []
        place = 2
        for head, timed, tail, raw in zip(like.heads, like.timed, like.tails, like.values, strict=True):
            constants.append(place)
            if timed:
                form.append(f"{2 + len(head) + 1}s6s{len(tail)}s")
                moments.append(place + 1)
                constants.append(place + 2)
                place += 3
            else:
                form.append(f"{2 + len(head) + len(tail)}s")
                place += 1
            form.append("d" if self._is_double else f"{len(raw)}s")
            values.append(place)
            place += 1
        constants.append(place)
        size = Struct(f"<{''.join(form)}").size
        self._unpack = Struct(f"<{''.join(form)}1s{len(payload) - size - 1}s").unpack
        self._constant = itemgetter(*constants)
        self._expected = self._constant(self._unpack(payload))
        self._moments = moments
        self._numbers = itemgetter(*values, values[0])  # one more, so that it is a tuple of one too

    def read(self, payload: bytes) -> Usual | None:
        """What stands in a payload of this length; None where it is another one."""
        pieces = self._unpack(payload)
        if self._constant(pieces) != self._expected:
            return None
        sent, ended = pieces[1], pieces[-1]
        moments = [pieces[at] for at in self._moments]
        values = self._numbers(pieces)[:-1]
        if not _is_moment(sent) or not _is_seq(ended):
            return None
        if moments.count(sent) < len(moments) and not all(map(_is_moment, moments)):
            return None
        if not (isfinite(sum(values)) if self._is_double else all(map(_fits, values, self._tails))):
            return None
        timestamp, seq = _moment(sent), ended[0] if len(ended) == 1 else _varint(ended)
        times = [timestamp if raw == sent else _moment(raw) for raw in moments]
        raws, numbers = ((), values) if self._is_double else (values, ())
        return Usual(timestamp, seq, self._heads, self._timed, self._tails, times, raws, numbers, self)


def look(payload: bytes) -> Usual | None:
    """What stands in a payload; None where it is another one."""
    if len(payload) > _LAID_OUT:
        return _search(payload)
    key = len(payload), payload[_FIRST:_HINT]
    layout = _layouts.get(key)
    if layout is not None and (known := layout.read(payload)) is not None:
        return known
    found = _search(payload)
    if found is not None and layout is None:
        if len(_layouts) >= _MOST_LAYOUTS:
            _layouts.clear()
        _layouts[key] = _Layout(found, payload) if key in _layouts else None
    return found


def _search(payload: bytes) -> Usual | None:
    """The same of one of which it is not known where its pieces stand."""
    begun = _begins(payload)
    if begun is None or len(payload) > _MOST:
        return None
    end = len(payload) - (2 if payload[-2] == 0x18 else 3)  # noqa: PLR2004  # the tag of the number
    ended = _ends(payload, end)
    if ended is None:
        return None
    found = _metrics(payload, _FIRST, end)
    if not found:
        return None
    sizes, contents, heads, moments, tails, values = zip(*found, strict=True)
    size = b"".join(sizes)
    if sum(size) + 2 * len(found) != end - _FIRST or [*map(len, contents)] != [*size]:
        return None
    if None in map(_heads.get, heads) and not all(map(_read_head, heads)):
        return None
    sent, timestamp = begun[1], _moment(begun[1])
    times = [timestamp if raw == sent else _moment(raw) for raw in moments if raw]
    timed = tuple(map(bool, moments))
    return Usual(timestamp, _varint(ended[1]), heads, timed, tails, times, values)


def _fits(raw: bytes, tail: bytes) -> bool:
    """Whether bytes are a value of the kind that a tail says."""
    kind = tail[-1:]
    return kind == _DOUBLE or (raw in _TRUTHS if kind == _TRUTH else _is_short(raw) is not None)


def _read_head(head: bytes) -> tuple[str | None, int | None] | None:
    """The name and the alias that stand in it; None where its name is not as long as it says."""
    found = _head(head)
    if found is None:
        return None
    size, name, alias = found.groups()
    if name is not None and size[0] != len(name):
        return None
    if len(_heads) >= _MOST_HEADS:
        _heads.clear()
    read = (name.decode("ascii") if name else None, None if alias is None else _varint(alias))
    _heads[head] = read
    return read


def _named(head: bytes) -> tuple[str | None, int | None]:
    """The name and the alias of one that was read before."""
    return _heads.get(head) or _read_head(head) or _NOBODY


def _value(raw: bytes, tail: bytes, datatype: int) -> Any:  # noqa: ANN401  # of any datatype
    kind = tail[-1:]
    if kind == _DOUBLE:
        value = _double(raw)[0]
        return value if isfinite(value) else of_double(value)
    if kind == _TRUTH:
        return raw == b"\x01"
    return as_integer(_varint(raw), tail[1] if len(tail) == _TYPED else datatype)


def _moment(raw: bytes) -> int:
    """The same of six bytes, of which every one has its bits elsewhere."""
    six = int.from_bytes(raw, "little")
    low = six & 0x7F | six >> 1 & 0x3F80 | six >> 2 & 0x1FC000
    return low | six >> 3 & 0xFE00000 | six >> 4 & 0x7F0000000 | six >> 5 & 0x3F800000000


def _varint(raw: bytes) -> int:
    """An integer of seven bits a byte, the lowest first."""
    if len(raw) == 1:
        return raw[0]
    value = shift = 0
    for byte in raw:
        value |= (byte & 0x7F) << shift
        shift += 7
    return value
