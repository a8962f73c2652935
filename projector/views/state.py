"""What a projector remembers of the views that it writes: enough to work out what they will hold.

Redis is only written to. What a run brings is added to the state (`change.py`), and from that come whole
values of fields, ready to be set. A view, or a metric of one, that is not remembered is read once. The state
is as Redis has it between two calls; whoever cannot say so any more forgets all of it (`apply.py`).

Last values follow the order of marks. A message's *mark* is its place in that order (`contract/order.py`):
order time in microseconds, and a `tie` that settles equal times when compared byte by byte: time of receipt,
key, and in a region the device. Marks are kept in two hashes of our own, an entry for each device or region:
MessagePack values one after the other,

    us, tie, shape [, home_us, home_tie [, others [, tags [, tags_us, tags_tie
        [, online, since_us, since_tie]]]]]

us and tie mark the newest message, and shape names the metrics that it carried, which share its mark; others
maps the remaining metrics to [us, tie]; home marks the message that named the device's region, and tags_us
and tags_tie the one that brought its tags, a JSON object, unless those are the newest; online is what the
device is, and what follows marks the message that changed it, by the time since when it is so. What is nil
or missing is so.
"""

from __future__ import annotations

from functools import lru_cache
from math import inf
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import msgspec

from contract.events import Scalar  # noqa: TC001  # msgspec reads it from the struct

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet

REMEMBERED: Final = 650_000  # metrics and marks of them, a view being as much as `VIEW`: some 120 MB
VIEW: Final = 4
MOST_METRICS: Final = 1000  # of a view, unless the configuration says otherwise
ROOM_AT_ONCE: Final = 4000  # metrics that leave a view in a run, unless it touches more
FEW_NAMES: Final = 100  # in a message: what is made of so many is remembered
NOWHERE: Final = (-1, "")

_MARK_SIZES: Final = (3, 5, 6, 7, 9, 12)
_WITHOUT_PRESENCE: Final = 9
_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(list[Any])

Mark = tuple[int, str]


class Metric(msgspec.Struct, gc=False):
    """Statistics of the numbers among a metric's values, and what a run changes.

    Attributes:
        last: the newest value, where a run has brought a newer one.
        bounds: whether a run has moved `low` or `high`.
        fresh: whether Redis has nothing of it.
        run: the last that touched it.
    """

    name: str
    count: int = 0
    total: float = 0.0
    low: float = inf
    high: float = -inf
    last: Scalar | None = None
    bounds: bool = False
    fresh: bool = False
    run: int = 0

    def merge(self, count: int, total: float, low: float, high: float) -> None:
        """Add what other numbers amount to."""
        self.count += count
        self.total += total
        if low < self.low or high > self.high:
            self.low, self.high, self.bounds = min(low, self.low), max(high, self.high), True


NOTHING: Final[list[Metric]] = []  # the same for all, which no run adds to
NO_OTHERS: Final = cast("dict[str, Mark]", MappingProxyType({}))  # likewise


class View(msgspec.Struct, gc=False):
    """What is remembered of one device or region, and what a run changes.

    Attributes:
        id: of the device, or the region's name.
        exists: whether Redis has its hash.
        count: its messages.
        mark: of its newest message.
        names: the metrics in that.
        home: devices only: mark of the message that named the region.
        others: metric → mark, of those that the newest message did not carry.
        tags: devices only: as a sorted JSON object.
        online: devices only: what messages said that it is; None when none did.
        online_mark: of the one that changed it.
        region: devices only: where it is.
        members: regions only: devices in it; None when that was never written.
        ahead: devices only: whether the newest message's clock was, for Redis.
        returned: devices only: when one was last seen that had left the views, and is not there again yet.
        metrics: those that are known.
        dropped: how many have made room for others.
        run: the last that touched it.
        at: order time of the newest message, where a run has brought it.
        ahead_ms: by how much that message's clock was ahead.
        changed: metrics that the run has touched.
        old_region: where the device was before the run, for Redis; `old_tags` and `old_online`, a mark,
            likewise.
        size: as much as it was counted for (`Shelf`).
    """

    id: str
    exists: bool = False
    count: int = 0
    mark: Mark = NOWHERE
    names: AbstractSet[str] = frozenset()
    home: Mark = NOWHERE
    others: dict[str, Mark] = NO_OTHERS
    tags: str | None = None
    tags_mark: Mark = NOWHERE
    online: bool | None = None
    online_mark: Mark = NOWHERE
    region: str | None = None
    members: int | None = None
    ahead: bool = False
    returned: str | None = None
    metrics: dict[str, Metric] = {}
    dropped: int = 0
    run: int = 0
    at: str = ""
    ahead_ms: int = 0
    changed: list[Metric] = NOTHING
    old_region: str | None = None
    old_tags: str | None = None
    old_online: Mark = NOWHERE
    size: int = 0

    def reshape(self, carried: Iterable[str]) -> None:
        """Note that the newest message, whose mark is not yet `mark`, carries these metrics."""
        names = names_of(tuple(carried))
        for name in self.names - names:
            self._add_other(name, self.mark)
        if self.others:
            for name in names:
                self.others.pop(name, None)
        self.names = names

    def is_stale(self, name: str, mark: Mark) -> bool:
        """Whether a value of a message that is not the newest is older than the one that is known.

        If it is not, its mark is kept.
        """
        if name in self.names:
            return True
        known = self.others.get(name)
        if known is not None and mark <= known:
            return True
        self._add_other(name, mark)
        return False

    def _add_other(self, name: str, mark: Mark) -> None:
        if self.others is NO_OTHERS:
            self.others = {}
        self.others[name] = mark

    def make_room(self, most: int) -> list[str]:
        """Drop metrics beyond so many, those that came last the longest ago first.

        Those of the newest message stay, and no more go than `ROOM_AT_ONCE`, or than the run has touched.

        Returns:
            Those of them that Redis has.
        """
        beyond = len(self.names) + len(self.others) - most
        beyond = min(beyond, max(ROOM_AT_ONCE, len(self.changed)))
        gone = sorted(sorted(self.others), key=self.others.__getitem__)[:beyond]
        stored = []
        for name in gone:
            del self.others[name]
            metric = self.metrics.pop(name, None)
            if metric is None or not metric.fresh:
                stored.append(name)
        self.changed = [metric for metric in self.changed if metric.name in self.metrics]
        self.dropped += len(gone)
        return stored


class Wanted(NamedTuple):
    """What is to be read of a view: all of it, or metrics alone of one that is remembered."""

    id: str
    names: list[str]


class Shelf:
    """Views of one kind by id, about as many as `most` allows; what was not used for longest goes.

    A fleet that fits stays as a whole, in whatever order it sends. Of a larger one at least half as much as
    fits is there.

    That is so of single metrics too: of a view in constant use only those that are used stay. But all of its
    marks do (`others`), which are written as one.

    Attributes:
        lately: those used lately; to be read only. Who is not there may be remembered still (`get`).
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.lately: dict[str, View] = {}
        self._old: dict[str, View] = {}
        self._size = self._old_size = 0
        self._since = self._last_turn = 0

    def __len__(self) -> int:
        return len(self.lately) + len(self._old)

    def __getitem__(self, id_: str) -> View:
        """A view that was asked for in this run, and was there or is now."""
        return self.lately[id_]

    def get(self, id_: str) -> View | None:
        """A view; None when it is not remembered."""
        view = self.lately.get(id_)
        if view is None and (view := self._old.pop(id_, None)) is not None:
            self._old_size -= view.size
            view.metrics = {name: metric for name, metric in view.metrics.items() if metric.run > self._since}
            view.size = 0
            self.lately[id_] = view
        if view is not None:
            self.count(view)
        return view

    def learn(self, view: View) -> None:
        """Remember a view that was read, or its metrics when it is remembered."""
        known = self.get(view.id)
        if known is None:
            self.lately[view.id] = known = view
        else:
            known.metrics |= view.metrics
        self.count(known)

    @property
    def is_full(self) -> bool:
        """Whether there is too much, until the next turn."""
        return self._size + self._old_size > self._most and self._size > self._most // 2

    def turn(self, run: int) -> None:
        """Before a run, put away what was not used lately when there is too much."""
        if self.is_full:
            self._old, self._old_size = self.lately, self._size
            self.lately, self._size = {}, 0
            self._since, self._last_turn = self._last_turn, run - 1

    def clear(self) -> None:
        """Forget everything."""
        self.lately, self._old = {}, {}
        self._size = self._old_size = 0

    def count(self, view: View) -> None:
        """Count a view as it is now, when a run begins to use it: what that adds the next one counts."""
        size = VIEW + len(view.metrics) + len(view.others)
        self._size += size - view.size
        view.size = size


def pack_marks(view: View) -> bytes:
    """A view's marks as they are kept."""
    mark = view.mark
    few = len(view.names) <= FEW_NAMES
    values: list[object] = [*mark, _shape_of(frozenset(view.names)) if few else _encoded(view.names)]
    away = view.region is not None and view.home != mark
    if view.tags is not None:
        values += [*(view.home if away else (None, None)), view.others or None, view.tags]
        if view.tags_mark != mark:
            values += view.tags_mark
    elif view.others:
        values += [*(view.home if away else mark), view.others]
    elif away:
        values += view.home
    if view.online is not None:
        values += [None] * (_WITHOUT_PRESENCE - len(values))
        values += (view.online, *view.online_mark)
    return _encoder.encode(values)[1:]


@lru_cache(maxsize=4096)
def _shape_of(names: frozenset[str]) -> str:
    return _encoded(names)


def _encoded(names: AbstractSet[str]) -> str:
    return msgspec.json.encode(sorted(names)).decode()


def unpack_marks(packed: bytes, view: View) -> None:
    """Set a view's marks to what is kept.

    Raises:
        ValueError: they are none.
    """
    try:
        us, tie, shape, home_us, home_tie, others, tags, tags_us, tags_tie, *said = values_of(packed)
        view.mark = (us + 0, tie + "")
        view.names = names_of(tuple(msgspec.json.decode(shape, type=list[str])))
        view.home = view.mark if home_us is None else (home_us + 0, home_tie + "")
        if others:
            view.others = {name: (at + 0, its + "") for name, (at, its) in others.items()}
        if tags is not None:
            tags_in(tags)
            view.tags = tags
            view.tags_mark = view.mark if tags_us is None else (tags_us + 0, tags_tie + "")
        online, since_us, since_tie = said
        if online is not None:
            view.online, view.online_mark = bool(online), (since_us + 0, since_tie + "")
    except (TypeError, AttributeError) as error:
        raise ValueError("no marks") from error


def values_of(packed: bytes) -> list[Any]:
    """The twelve values of which marks are made; None for what is missing.

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


@lru_cache(maxsize=4096)
def names_of(names: tuple[str, ...]) -> frozenset[str]:
    """One set for all views whose newest messages carry the same."""
    return frozenset(names)


@lru_cache(maxsize=1024)
def tags_in(tags: str) -> dict[str, str]:
    """The tags of a JSON object.

    Raises:
        ValueError: it is none.
    """
    return msgspec.json.decode(tags, type=dict[str, str])
