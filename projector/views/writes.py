"""What is to be set in Redis after a run, worked out of the state, in pieces for a call each. Pure.

Sums and averages are written with 15 digits, so decimal readings add up without the dust of binary fractions.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Final

import msgspec

from projector.views.numbers import finite, number_text, total_text
from projector.views.state import (
    CELLS,
    LAST,
    MOST_METRICS,
    MOVED,
    NEWER,
    NO_NAMES,
    RUN,
    TIME,
    TOLD,
    TOTAL,
    pack_marks,
    place_of,
    tags_in,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from projector.views.change import Change
    from projector.views.position import Keys
    from projector.views.state import View

RESERVED: Final = frozenset({"seen", "seen_ms"})
"""Metrics whose last values would land in `last_seen` and `last_seen_ms`: they have none."""

_NOT_OF_METRICS: Final = frozenset(f"last_{name}" for name in RESERVED)


PIECE: Final = 12_000  # fields, values and ids that are set in a call: some six milliseconds of Redis
_VIEW: Final = 8  # what a view is beside them
MUCH_ROOM: Final = 2000  # metrics that make room, after which others have their turn

_encoder: Final = msgspec.msgpack.Encoder()


class Piece(msgspec.Struct):
    """What one call writes, as `set.lua` reads it: keys and fields, then members of the shared keys.

    Attributes:
        views: their keys, devices first.
        devices: how many of them are devices.
        fields: of each view in turn: how many messages, then names and values of other fields to set.
        existed: for each view whether it was there.
        gone: the number of a view, from 1, and fields to remove from it.
        dropped: how many metrics those were of.
        device_marks: ids and how many bytes their marks have, in turn; `region_marks` likewise.
        marks: those bytes, of devices and then of regions.
        seen: of devices: when they were last seen in epoch milliseconds, and id, in turn.
        ahead: how many milliseconds a clock is ahead, and the device's id, in turn.
        caught_up: ids of devices whose clocks are not ahead any more.
        back: ids of devices that had expired, each with what is kept of it from now on: nothing.
        size: of all that, as `PIECE` counts it.
    """

    views: list[str] = []
    devices: int = 0
    fields: list[list[str]] = []
    existed: list[bool] = []
    gone: list[tuple[int, list[str]]] = []
    dropped: int = 0
    device_marks: list[str | int] = []
    region_marks: list[str | int] = []
    marks: list[bytes] = []
    seen: list[str] = []
    ahead: list[str] = []
    caught_up: list[str] = []
    back: list[str] = []
    size: int = 0

    def add(self, key: str, fields: list[str], *, existed: bool, is_device: bool) -> list[str]:
        """Set fields of the next view; returns what is to be set of it by another piece, if anything."""
        cut = 1 + PIECE  # an even number of names and values after the count
        rest = [fields[0], *fields[cut:]] if len(fields) > cut else []
        self.views.append(key)
        self.fields.append(fields[:cut] if rest else fields)
        self.existed.append(existed)
        self.devices += is_device
        self.size += _VIEW + len(fields)
        return rest

    def remove(self, fields: list[str]) -> None:
        """Remove fields of the next view."""
        self.gone.append((len(self.fields) + 1, fields))
        self.size += len(fields)

    def mark(self, sizes: list[str | int], view: View, place: tuple[int, str]) -> None:
        """Keep a view's marks."""
        marks = pack_marks(view, place)
        self.marks.append(marks)
        sizes += (view.id, len(marks))

    def packed(self, updated_at: str, updated_ms: str) -> tuple[bytes, bytes]:
        """What the script takes: all of it, and the bytes of the marks."""
        values = (
            *(updated_at, updated_ms, self.views, self.devices, self.existed, self.fields, self.gone),
            *(self.device_marks, self.region_marks, self.seen, self.ahead, self.caught_up, self.back),
        )
        return _encoder.encode(values), b"".join(self.marks)


def pieces_of(change: Change, keys: Keys, most_metrics: int = MOST_METRICS) -> Iterator[Piece]:
    """What a run sets of the devices touched, the regions, and the regions left. To be asked for once.

    Args:
        change: the run's.
        keys: of the views.
        most_metrics: of a view.
    """
    views = chain(
        ((view, keys.device(view.id), _device) for view in change.devices),
        ((view, keys.region(view.id), _region) for view in change.regions),
        ((view, keys.region(view.id), _left_region) for view in change.left),
    )
    piece = Piece()
    for view, key, fields_of in views:
        is_device = fields_of is _device
        dropped = view.dropped
        is_wide = len(view.names) + len(view.others) > most_metrics
        gone = _make_room(view, most_metrics, piece) if is_wide else []
        while len(gone) > PIECE:
            piece.remove(gone[:PIECE])
            piece.add(key, [str(view.count)], existed=True, is_device=is_device)
            yield piece
            piece, gone = Piece(), gone[PIECE:]
        if gone:
            piece.remove(gone)
        fields = fields_of(view, piece, change)
        rest = piece.add(key, fields, existed=view.exists, is_device=is_device)
        view.exists, view.changed, view.bounds = True, NO_NAMES, NO_NAMES
        while rest:
            yield piece
            piece = Piece()
            rest = piece.add(key, rest, existed=True, is_device=is_device)
        if piece.size >= PIECE or view.dropped - dropped >= MUCH_ROOM:
            yield piece
            piece = Piece()
    yield piece


def _make_room(view: View, most_metrics: int, piece: Piece) -> list[str]:
    """The fields that are to be removed."""
    before = view.dropped
    fields = [field for name in view.make_room(most_metrics) for field in _field_names(name)]
    piece.dropped += view.dropped - before
    return [field for field in fields if field not in _NOT_OF_METRICS]


def _device(view: View, piece: Piece, change: Change) -> list[str]:
    place = place_of(view.mark)
    fields = _fields_of(view, "device_id", ms := str(place[0] // 1000))
    if view.returned is not None:
        piece.back += (view.id, "{}")
        if not view.news & NEWER:
            fields += ("last_seen", view.returned, "last_seen_ms", ms)
            piece.seen += (ms, view.id)
        view.returned = None
    if view.region is not None and (view.news & MOVED or not view.exists):
        fields += ("region", view.region)
    before = change.tags.get(view.id, view.tags if view.exists else None)
    if view.tags is not None and view.tags != before:
        _retag(view.tags, before, fields, piece)
    if view.online is not None and (view.news & TOLD or not view.exists):
        fields += ("online", "true" if view.online else "false", "online_since", view.online_mark[:TIME])
    if view.news & NEWER:
        piece.seen += (ms, view.id)
        if view.ahead_ms:
            fields += ("clock_ahead_ms", str(view.ahead_ms))
            piece.ahead += (str(view.ahead_ms), view.id)
        elif view.ahead:
            piece.remove(["clock_ahead_ms"])
            piece.caught_up.append(view.id)
        view.ahead = view.ahead_ms > 0
    piece.mark(piece.device_marks, view, place)
    return fields


def _region(view: View, piece: Piece, change: Change) -> list[str]:
    place = place_of(view.mark)
    fields = _fields_of(view, "region", str(place[0] // 1000))
    moved = change.moves[view.id]
    if moved or view.members is None:
        view.members = (view.members or 0) + moved
        fields += ("device_count", str(view.members))
    piece.mark(piece.region_marks, view, place)
    return fields


def _left_region(view: View, _piece: Piece, change: Change) -> list[str]:
    view.exists = True  # or it is lost: its devices were there
    view.members = (view.members or 0) + change.moves[view.id]
    return [str(view.count), "device_count", str(view.members)]


def _retag(now: str, before: str | None, fields: list[str], piece: Piece) -> None:
    tags = tags_in(now)
    for name, text in tags.items():
        fields += (f"tag_{name}", text)
    if before is not None and (gone := [f"tag_{name}" for name in tags_in(before) if name not in tags]):
        piece.remove(gone)


def _fields_of(view: View, id_field: str, ms: str) -> list[str]:
    """What devices and regions have in common."""
    fields = [str(view.count)]
    if not view.exists:
        fields += (id_field, view.id)
    if view.dropped:
        fields += ("metrics_dropped", str(view.dropped))
    if view.news & NEWER:
        fields += ("last_seen", view.mark[:TIME], "last_seen_ms", ms)
    cells, places, run, bounds = view.cells, view.places, view.run, view.bounds
    for name in view.changed:
        at = places[name]
        count, total, low, high, last, _ = cells[at : at + CELLS]
        low_field, high_field, sum_field, count_field, average_field, last_field = _field_names(name)
        if last is not None:
            if name not in RESERVED:
                fields += (last_field, last if last.__class__ is str else number_text(last))
            cells[at + LAST] = None
        cells[at + RUN] = run
        if not count:
            continue
        if name in bounds:
            fields += (low_field, number_text(low), high_field, number_text(high))
        text = total_text(finite(total))
        cells[at + TOTAL] = total = float(text)
        fields += (sum_field, text, count_field, str(count), average_field, f"{total / count:.15g}")
    return fields


@lru_cache(maxsize=8192)
def _field_names(metric: str) -> tuple[str, str, str, str, str, str]:
    return (
        *(f"min_{metric}", f"max_{metric}", f"sum_{metric}"),
        *(f"count_{metric}", f"avg_{metric}", f"last_{metric}"),
    )
