"""What a projector remembers of the views that it writes: enough to work out what they will hold.

Redis is only written to. What a run of events adds (`fold.py`) is merged into the state, and from that come
whole values of fields, ready to be set. A view, or a metric of one, that is not remembered is read once. The
state is as Redis has it between two calls; whoever cannot say so any more forgets all of it (`apply.py`).

Last values follow the order of marks (`fold.py`). They are kept in two hashes of our own, an entry for each
device or region: MessagePack values one after the other,

    us, tie, shape [, home_us, home_tie [, others [, tags [, tags_us, tags_tie]]]]

us and tie mark the newest message, and shape names the metrics that it carried, which share its mark; others
maps the remaining metrics to [us, tie]; home marks the message that named the device's region, and tags_us
and tags_tie the one that brought its tags, a JSON object, unless those are the newest. What is nil or missing
is so.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

REMEMBERED: Final = 400_000  # views and metrics
NOWHERE: Final = (-1, "")

_MARK_SIZES: Final = (3, 5, 6, 7, 9)
_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(list[Any])

Mark = tuple[int, str]


class Metric(msgspec.Struct, gc=False):
    """Statistics of the numbers among a metric's values."""

    count: int
    total: float
    low: float
    high: float


class View(msgspec.Struct, gc=False):
    """What is remembered of one device or region.

    Attributes:
        id: of the device, or the region's name.
        exists: whether Redis has its hash.
        count: its messages.
        mark: of its newest message.
        shape: the metrics in that, as a sorted JSON array.
        home: devices only: mark of the message that named the region.
        others: metric → mark, of those that the newest message did not carry.
        tags: devices only: as a sorted JSON object.
        region: devices only: where it is.
        members: regions only: devices in it; None when that was never written.
        ahead: devices only: whether the newest message's clock was.
        returns: devices only: it had left the views, and what its return needs is to be written.
        last_seen: devices only: what a device that returns was last seen at.
        metrics: those that are known; None for one that has no statistics yet.
    """

    id: str
    exists: bool = False
    count: int = 0
    mark: Mark = NOWHERE
    shape: str = "[]"
    home: Mark = NOWHERE
    others: dict[str, Mark] = {}
    tags: str | None = None
    tags_mark: Mark = NOWHERE
    region: str | None = None
    members: int | None = None
    ahead: bool = False
    returns: bool = False
    last_seen: str = ""
    metrics: dict[str, Metric | None] = {}


class Wanted(NamedTuple):
    """What is to be read of a view: all of it, or metrics alone of one that is remembered."""

    key: str
    id: str
    names: list[str]


class State:
    """Views by key, at most about `most` of them and their metrics; what was not used for longest goes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._young: dict[str, View] = {}
        self._old: dict[str, View] = {}
        self._size = 0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def __contains__(self, key: str) -> bool:
        return key in self._young or key in self._old

    def __getitem__(self, key: str) -> View:
        """A view that is remembered."""
        view = self.get(key)
        assert view is not None
        return view

    def get(self, key: str) -> View | None:
        """The view under a key; None when it is not remembered."""
        view = self._young.get(key)
        if view is None and (view := self._old.pop(key, None)) is not None:
            self._put(key, view)
        return view

    def learn(self, views: Mapping[str, View]) -> None:
        """Remember views that were read, or metrics of views that are remembered."""
        for key, view in views.items():
            known = self.get(key)
            if known is None:
                self._put(key, view)
            else:
                known.metrics |= view.metrics
                self._size += len(view.metrics)

    def turn(self) -> None:
        """Between two runs, put away what was not used lately when there is too much."""
        if self._size > self._most // 2:
            self._old, self._young, self._size = self._young, {}, 0

    def clear(self) -> None:
        """Forget everything."""
        self._young, self._old, self._size = {}, {}, 0

    def _put(self, key: str, view: View) -> None:
        self._young[key] = view
        self._size += 1 + len(view.metrics)


def pack_marks(view: View) -> bytes:
    """A view's marks as they are kept."""
    mark = view.mark
    values: list[object] = [*mark, view.shape]
    away = view.home != mark
    if view.tags is not None:
        values += [*(view.home if away else (None, None)), view.others or None, view.tags]
        if view.tags_mark != mark:
            values += view.tags_mark
    elif view.others:
        values += [*view.home, view.others]
    elif away:
        values += view.home
    return _encoder.encode(values)[1:]


def unpack_marks(packed: bytes, view: View) -> None:
    """Set a view's marks to what is kept.

    Raises:
        ValueError: they are none.
    """
    try:
        us, tie, shape, home_us, home_tie, others, tags, tags_us, tags_tie = values_of(packed)
        view.mark = (us + 0, tie + "")
        view.shape = shape + ""
        names_of(view.shape)
        view.home = view.mark if home_us is None else (home_us + 0, home_tie + "")
        view.others = {name: (at + 0, its + "") for name, (at, its) in (others or {}).items()}
        view.tags = tags
        view.tags_mark = NOWHERE if tags is None else view.mark if tags_us is None else (tags_us, tags_tie)
    except (TypeError, AttributeError) as error:
        raise ValueError("no marks") from error


def values_of(packed: bytes) -> list[Any]:
    """The nine values of which marks are made; None for what is missing.

    Raises:
        ValueError: they are none.
    """
    for size in _MARK_SIZES:
        try:  # values one after the other become an array when the head of one is put before them
            values = _decoder.decode(bytes([0x90 | size]) + packed)
        except msgspec.DecodeError:
            continue
        return values + [None] * (_MARK_SIZES[-1] - size)
    raise ValueError("no marks")


@lru_cache(maxsize=1024)
def names_of(shape: str) -> frozenset[str]:
    """The metrics that a shape names.

    Raises:
        ValueError: it is none.
    """
    return frozenset(msgspec.json.decode(shape, type=list[str]))
