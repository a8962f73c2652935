"""What is to be set in Redis after a run, worked out of the state. Pure.

Sums and averages are written with 15 digits, so decimal readings add up without the dust of binary fractions.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

import msgspec

from projector.views.numbers import finite, number_text
from projector.views.state import MOST_METRICS, NOTHING, pack_marks, tags_in

if TYPE_CHECKING:
    from projector.views.change import Change
    from projector.views.state import View

RESERVED: Final = frozenset({"seen", "seen_ms"})
"""Metrics whose last values would land in `last_seen` and `last_seen_ms`: they have none."""

_NOT_OF_METRICS: Final = frozenset(f"last_{name}" for name in RESERVED)


class Writes(msgspec.Struct):
    """What one call writes, as `write.lua` reads it: keys and fields, then members of the shared keys.

    Attributes:
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
    """

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

    def add(self, view: View, fields: list[str]) -> None:
        """Set fields of the next view."""
        self.fields.append(fields)
        self.existed.append(view.exists)
        view.exists = True
        view.changed = NOTHING

    def remove(self, fields: list[str]) -> None:
        """Remove fields of the next view."""
        self.gone.append((len(self.fields) + 1, fields))

    def add_left(self, view: View, moved: int) -> None:
        """The same of a region that a run adds nothing to, but for devices that left it."""
        view.members = (view.members or 0) + moved
        self.fields.append([str(view.count), "device_count", str(view.members)])
        self.existed.append(True)

    def mark(self, sizes: list[str | int], view: View) -> None:
        """Keep a view's marks."""
        marks = pack_marks(view)
        self.marks.append(marks)
        sizes += (view.id, len(marks))


def writes_of(change: Change, most_metrics: int = MOST_METRICS) -> Writes:
    """What a run sets of the devices touched and then of the regions. To be asked for once.

    Args:
        change: the run's.
        most_metrics: of a view.
    """
    writes = Writes()
    for view in change.devices:
        _make_room(view, most_metrics, writes)
        _add_device(view, writes)
    for view in change.regions:
        _make_room(view, most_metrics, writes)
        fields = _fields_of(view, "region")
        moved = change.moves.pop(view.id, 0)
        if moved or view.members is None:
            view.members = (view.members or 0) + moved
            fields += ("device_count", str(view.members))
        writes.add(view, fields)
        writes.mark(writes.region_marks, view)
    return writes


def _make_room(view: View, most_metrics: int, writes: Writes) -> None:
    if len(view.names) + len(view.others) > most_metrics:
        before = view.dropped
        fields = [field for name in view.make_room(most_metrics) for field in _field_names(name)]
        writes.remove([field for field in fields if field not in _NOT_OF_METRICS])
        writes.dropped += view.dropped - before


def _add_device(view: View, writes: Writes) -> None:
    fields = _fields_of(view, "device_id")
    if view.returned is not None:
        writes.back += (view.id, "{}")
        if not view.at:
            last_seen_ms = str(view.mark[0] // 1000)
            fields += ("last_seen", view.returned, "last_seen_ms", last_seen_ms)
            writes.seen += (last_seen_ms, view.id)
        view.returned = None
    if view.region is not None and view.region != view.old_region:
        fields += ("region", view.region)
    if view.tags is not None and view.tags != view.old_tags:
        _retag(view.tags, view.old_tags, fields, writes)
    if view.at:
        writes.seen += (str(view.mark[0] // 1000), view.id)
        if view.ahead_ms:
            fields += ("clock_ahead_ms", str(view.ahead_ms))
            writes.ahead += (str(view.ahead_ms), view.id)
        elif view.ahead:
            writes.remove(["clock_ahead_ms"])
            writes.caught_up.append(view.id)
        view.ahead = view.ahead_ms > 0
    writes.add(view, fields)
    writes.mark(writes.device_marks, view)


def _retag(now: str, before: str | None, fields: list[str], writes: Writes) -> None:
    tags = tags_in(now)
    for name, text in tags.items():
        fields += (f"tag_{name}", text)
    if before is not None and (gone := [f"tag_{name}" for name in tags_in(before) if name not in tags]):
        writes.remove(gone)


def _fields_of(view: View, id_field: str) -> list[str]:
    """What devices and regions have in common."""
    fields = [str(view.count)]
    if not view.exists:
        fields += (id_field, view.id)
    if view.dropped:
        fields += ("metrics_dropped", str(view.dropped))
    if view.at:
        fields += ("last_seen", view.at, "last_seen_ms", str(view.mark[0] // 1000))
    for metric in view.changed:
        low_field, high_field, sum_field, count_field, average_field, last_field = _field_names(metric.name)
        metric.fresh = False
        last, count = metric.last, metric.count
        if last is not None:
            if metric.name not in RESERVED:
                fields += (last_field, last if isinstance(last, str) else number_text(last))
            metric.last = None
        if not count:
            continue
        if metric.bounds:
            fields += (low_field, number_text(metric.low), high_field, number_text(metric.high))
            metric.bounds = False
        total = finite(metric.total)
        text = f"{total:.15g}"
        metric.total = float(text)
        fields += (sum_field, text, count_field, str(count), average_field, f"{total / count:.15g}")
    return fields


@lru_cache(maxsize=8192)
def _field_names(metric: str) -> tuple[str, str, str, str, str, str]:
    return (
        *(f"min_{metric}", f"max_{metric}", f"sum_{metric}"),
        *(f"count_{metric}", f"avg_{metric}", f"last_{metric}"),
    )
