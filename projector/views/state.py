"""What a projector remembers of the views that it writes: enough to work out what they will hold.

Redis is only written to. What a run brings is added to the state (`change.py`), and from that come whole
values of fields, ready to be set. A view, or a metric of one, that is not remembered is read once. The state
is as Redis has it between two calls; whoever cannot say so any more forgets all of it (`apply.py`).

Last values follow the order of marks. A message's *mark* is its place in that order (`contract/order.py`), as
a text: order time, and a `tie` that settles equal times, which is time of receipt, key, and in a region the
device. Marks are kept in two hashes of our own, an entry for each device or region: MessagePack values one
after the other, order times in microseconds,

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
from itertools import chain
from math import inf
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import msgspec

from contract.order import format_microseconds, microseconds

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping
    from collections.abc import Set as AbstractSet

REMEMBERED: Final = 650_000  # metrics and marks of them, a view being as much as `VIEW`: some 80 MB
VIEW: Final = 4
MOST_METRICS: Final = 1000  # of a view, unless the configuration says otherwise
ROOM_AT_ONCE: Final = 4000  # metrics that leave a view in a run, unless it touches more
FEW_NAMES: Final = 100  # of metrics: what is made of so many is remembered

CELLS: Final = 6
COUNT, TOTAL, LOW, HIGH, LAST, RUN = range(CELLS)
"""What is remembered of a metric: how many numbers, their sum, the least and the greatest; the newest value,
where a run has brought a newer one; and the run that wrote it last, `NEVER` when Redis has nothing of it."""

NEVER: Final = -1
NEWER, MOVED, TOLD = 1, 2, 4
"""What a run has brought to a view: its newest message, another region, its being online or not."""

TIME: Final = len("2026-11-23T09:00:00.250000Z")
_MARK_SIZES: Final = (3, 5, 6, 7, 9, 12)
_WITHOUT_PRESENCE: Final = 9
_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(list[Any])

NO_NAMES: Final[AbstractSet[str]] = frozenset()
NO_OTHERS: Final = cast("dict[str, str]", MappingProxyType({}))  # the same for all, which nobody adds to


class View(msgspec.Struct, gc=False):
    """What is remembered of one device or region, and what a run changes.

    There may be a hundred thousand: an object for each metric, and a number beside the text of each time,
    would take more memory, and fetching that takes longer than working with it.

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
        places: metric → where its numbers begin in `cells`, of those that are known.
        cells: `CELLS` of each metric.
        dropped: how many have made room for others.
        run: the last that touched it.
        news: what that brought, some of `NEWER` to `TOLD`.
        ahead_ms: by how much the newest message's clock was ahead.
        changed: metrics that the run has touched.
        bounds: those of them whose least or greatest it has moved.
        size: as much as it was counted for (`Shelf`).
    """

    id: str
    exists: bool = False
    count: int = 0
    mark: str = ""
    names: AbstractSet[str] = NO_NAMES
    home: str = ""
    others: dict[str, str] = NO_OTHERS
    tags: str | None = None
    tags_mark: str = ""
    online: bool | None = None
    online_mark: str = ""
    region: str | None = None
    members: int | None = None
    ahead: bool = False
    returned: str | None = None
    places: dict[str, int] = {}
    cells: list[Any] = []
    dropped: int = 0
    run: int = 0
    news: int = 0
    ahead_ms: int = 0
    changed: AbstractSet[str] = NO_NAMES
    bounds: AbstractSet[str] = NO_NAMES
    size: int = 0

    def know(self, found: Mapping[str, Iterable[Any]]) -> None:
        """Remember metrics that are not known, with their `CELLS`."""
        if len(self.places) <= FEW_NAMES:
            self.places = places_of((*self.places, *found))
        else:  # they are its own
            self.places.update((name, len(self.cells) + at * CELLS) for at, name in enumerate(found))
        self.cells += chain.from_iterable(found.values())

    def forget(self, gone: Container[str]) -> None:
        """Forget metrics."""
        names = [name for name in self.places if name not in gone]
        if len(names) < len(self.places):
            cells, places = self.cells, self.places
            self.cells = [cell for name in names for cell in cells[places[name] : places[name] + CELLS]]
            self.places = places_of(tuple(names))

    def move(self, name: str) -> None:
        """Note that the least or the greatest of a metric is another."""
        if not isinstance(self.bounds, set):
            self.bounds = set()
        self.bounds.add(name)

    def reshape(self, carried: Iterable[str]) -> None:
        """Note that the newest message, whose mark is not yet `mark`, carries these metrics."""
        names = names_of(tuple(carried))
        for name in self.names - names:
            self._add_other(name, self.mark)
        if self.others:
            for name in names:
                self.others.pop(name, None)
        self.names = names

    def is_stale(self, name: str, mark: str) -> bool:
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

    def _add_other(self, name: str, mark: str) -> None:
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
        gone = dict.fromkeys(sorted(sorted(self.others), key=self.others.__getitem__)[:beyond])
        places, cells = self.places, self.cells
        stored = [name for name in gone if name not in places or cells[places[name] + RUN] != NEVER]
        for name in gone:
            del self.others[name]
        self.changed = self.changed - gone.keys()
        self.forget(gone)
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
            cells = view.cells
            view.forget({name for name, at in view.places.items() if cells[at + RUN] <= self._since})
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
            known.know({name: view.cells[at : at + CELLS] for name, at in view.places.items()})
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
        size = VIEW + len(view.places) + len(view.others)
        self._size += size - view.size
        view.size = size


def metric(
    count: int = 0, total: float = 0.0, low: float = inf, high: float = -inf, *, fresh: bool
) -> list[Any]:
    """The `CELLS` of a metric as Redis has it, or that it has nothing of."""
    return [count, total, low, high, None, NEVER if fresh else 0]


def place_of(mark: str) -> tuple[int, str]:
    """Order time in microseconds, and the tie.

    Raises:
        ValueError: it is no mark.
    """
    return microseconds(mark[:TIME]), mark[TIME:]


def pack_marks(view: View, place: tuple[int, str]) -> bytes:
    """A view's marks as they are kept; `place` is what `place_of` says of its newest."""
    mark = view.mark
    few = len(view.names) <= FEW_NAMES
    shape = _shape_of(frozenset(view.names)) if few else _encoded(view.names)
    values: list[object] = [*place, shape]
    away = view.region is not None and view.home != mark
    others = {name: place_of(its) for name, its in view.others.items()} if view.others else None
    if view.tags is not None:
        values += [*(place_of(view.home) if away else (None, None)), others, view.tags]
        if view.tags_mark != mark:
            values += place_of(view.tags_mark)
    elif others:
        values += [*place_of(view.home if away else mark), others]
    elif away:
        values += place_of(view.home)
    if view.online is not None:
        values += [None] * (_WITHOUT_PRESENCE - len(values))
        values += (view.online, *place_of(view.online_mark))
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
        view.mark = _mark(us, tie)
        view.names = names_of(tuple(msgspec.json.decode(shape, type=list[str])))
        view.home = view.mark if home_us is None else _mark(home_us, home_tie)
        if others:
            view.others = {name: _mark(*its) for name, its in others.items()}
        if tags is not None:
            tags_in(tags)
            view.tags = tags
            view.tags_mark = view.mark if tags_us is None else _mark(tags_us, tags_tie)
        online, since_us, since_tie = said
        if online is not None:
            view.online, view.online_mark = bool(online), _mark(since_us, since_tie)
    except (TypeError, AttributeError, OverflowError) as error:
        raise ValueError("no marks") from error


def _mark(us: int, tie: str) -> str:
    return format_microseconds(us) + tie


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


def names_of(names: tuple[str, ...]) -> frozenset[str]:
    """Names as a set; of few names one for all views whose newest messages carry the same."""
    return _names_of_few(names) if len(names) <= FEW_NAMES else frozenset(names)


_names_of_few: Final = lru_cache(maxsize=4096)(frozenset[str])


def places_of(names: tuple[str, ...]) -> dict[str, int]:
    """Where the numbers of each of these metrics begin; of few names one for all views that know the same."""
    return _places_of_few(names) if len(names) <= FEW_NAMES else _places_of(names)


def _places_of(names: tuple[str, ...]) -> dict[str, int]:
    return {name: at * CELLS for at, name in enumerate(names)}


_places_of_few: Final = lru_cache(maxsize=1024)(_places_of)


@lru_cache(maxsize=1024)
def tags_in(tags: str) -> dict[str, str]:
    """The tags of a JSON object.

    Raises:
        ValueError: it is none.
    """
    return msgspec.json.decode(tags, type=dict[str, str])
