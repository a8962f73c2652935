"""What views will hold with what a run adds to them: fields to set, and the state moved on. Pure.

Sums and averages are kept to 15 digits, so decimal readings add up without the dust of binary fractions.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import msgspec

from projector.views.fold import LARGEST
from projector.views.state import Metric, View, names_of, pack_marks

if TYPE_CHECKING:
    from projector.views.fold import Delta
    from projector.views.state import Mark

_NONE: Final[frozenset[str]] = frozenset()


class Writes(msgspec.Struct):
    """What one call writes, as `write.lua` reads it: keys and fields, then members of the shared keys.

    Attributes:
        stamp: fields and values that every view gets: when it was changed.
        keys: of the views.
        fields: of each view in turn: names and values to set.
        existed: for each view whether it was there.
        gone: key, then a field to remove from it, and so on.
        device_marks: ids and how many bytes their marks have, in turn; `region_marks` likewise.
        marks: those bytes, of devices and then of regions.
        seen: of devices: when they were last seen in epoch milliseconds, and id, in turn.
        ahead: how many milliseconds a clock is ahead, and the device's id, in turn.
        caught_up: ids of devices whose clocks are not ahead any more.
    """

    stamp: list[str]
    keys: list[str] = []
    fields: list[list[str]] = []
    existed: list[bool] = []
    gone: list[tuple[str, str]] = []
    device_marks: list[str | int] = []
    region_marks: list[str | int] = []
    marks: list[bytes] = []
    seen: list[str] = []
    ahead: list[str] = []
    caught_up: list[str] = []
    moves: Counter[str] = msgspec.field(default_factory=Counter)

    def device(self, key: str, view: View, delta: Delta) -> None:
        """Merge what a run adds to a device; a device that moves is counted in `moves`."""
        tags = view.tags if view.exists else None
        newer, fields = self._merge(key, view, delta, "device_id")
        if view.returns:
            self._come_back(view, fields, newer=newer)
        self._settle(view, delta, fields)
        if delta.tags is not None:
            mark = (delta.tags_us, delta.tags_tie) if delta.tags_us else (delta.us, delta.tie)
            if view.tags is None or mark > view.tags_mark:
                view.tags, view.tags_mark = delta.tags, mark
        if view.tags is not None and view.tags != tags:
            self._tag(key, view.tags, tags, fields)
        if newer:
            self._see(key, view, delta, fields)
        self._mark(self.device_marks, view)

    def region(self, key: str, view: View, delta: Delta) -> None:
        """Merge what a run adds to a region, and the devices that came or went."""
        _, fields = self._merge(key, view, delta, "region")
        moved = self.moves.pop(view.id, 0)
        if moved or view.members is None:
            view.members = (view.members or 0) + moved
            fields += ("device_count", str(view.members))
        view.home = view.mark
        self._mark(self.region_marks, view)

    def left(self, key: str, view: View, moved: int) -> None:
        """Count the devices that left a region to which the run adds nothing."""
        view.members = (view.members or 0) + moved
        self._add(key, [*self.stamp, "device_count", str(view.members)], existed=view.exists)

    def _merge(self, key: str, view: View, delta: Delta, id_field: str) -> tuple[bool, list[str]]:
        """Whether the delta has the newest message, and the fields of the view, to be added to."""
        newer, stale = _advance(view, delta)
        view.count += delta.count
        fields = [*self.stamp, "sample_count", str(view.count)]
        if not view.exists:
            fields += (id_field, view.id)
        if newer:
            fields += ("last_seen", delta.last_seen, "last_seen_ms", str(delta.us // 1000))
        self._add(key, fields, existed=view.exists)
        view.exists = True
        metrics = view.metrics
        for each in delta.metrics:
            name, values = each.name, each.count
            low_field, high_field, sum_field, count_field, average_field, last_field = _fields(name)
            if each.last is not None and name not in stale:
                fields += (last_field, each.last)
            if not values:
                continue
            total = each.total
            known = metrics.get(name)
            if known is None:
                metrics[name] = known = Metric(values, total, each.low, each.high)
                fields += (low_field, _exact(each.low), high_field, _exact(each.high))
            else:
                if each.low < known.low:
                    known.low = each.low
                    fields += (low_field, _exact(each.low))
                if each.high > known.high:
                    known.high = each.high
                    fields += (high_field, _exact(each.high))
                known.count = values = known.count + values
                total = max(-LARGEST, min(LARGEST, known.total + total))
            text = f"{total:.15g}"
            known.total = float(text)
            fields += (sum_field, text, count_field, str(values), average_field, f"{total / values:.15g}")
        return newer, fields

    def _add(self, key: str, fields: list[str], *, existed: bool) -> None:
        self.keys.append(key)
        self.fields.append(fields)
        self.existed.append(existed)

    def _mark(self, sizes: list[str | int], view: View) -> None:
        marks = pack_marks(view)
        self.marks.append(marks)
        sizes += (view.id, len(marks))

    def _come_back(self, view: View, fields: list[str], *, newer: bool) -> None:
        """Put a device that had left the views where it was."""
        if view.region is not None:
            fields += ("region", view.region)
        if not newer:
            last_seen_ms = str(view.mark[0] // 1000)
            fields += ("last_seen", view.last_seen, "last_seen_ms", last_seen_ms)
            self.seen += (last_seen_ms, view.id)
        view.returns = False

    def _settle(self, view: View, delta: Delta, fields: list[str]) -> None:
        """A device is where the newest message says that names a region."""
        if delta.region is None:
            if view.region is None:
                view.home = view.mark
            return
        mark = (delta.region_us, delta.region_tie) if delta.region_us else (delta.us, delta.tie)
        if view.region is not None and mark <= view.home:
            return
        view.home = mark
        if delta.region != view.region:
            fields += ("region", delta.region)
            self.moves[delta.region] += 1
            if view.region is not None:
                self.moves[view.region] -= 1
            view.region = delta.region

    def _see(self, key: str, view: View, delta: Delta, fields: list[str]) -> None:
        self.seen += (str(delta.us // 1000), view.id)
        if delta.ahead_ms > 0:
            fields += ("clock_ahead_ms", str(delta.ahead_ms))
            self.ahead += (str(delta.ahead_ms), view.id)
        elif view.ahead:
            self.gone.append((key, "clock_ahead_ms"))
            self.caught_up.append(view.id)
        view.ahead = delta.ahead_ms > 0

    def _tag(self, key: str, tags: str, known: str | None, fields: list[str]) -> None:
        """Set what the tags name; what they do not name is gone."""
        now = _tags(tags)
        for name, text in now.items():
            fields += (f"tag_{name}", text)
        if known is not None:
            self.gone += [(key, f"tag_{name}") for name in _tags(known) if name not in now]


def _advance(view: View, delta: Delta) -> tuple[bool, frozenset[str] | set[str]]:
    """Move the marks on: whether the delta has the newest message, and metrics whose last value is stale."""
    mark = (delta.us, delta.tie)
    newer = mark > view.mark
    carried = _NONE
    if newer:
        if delta.shape != view.shape:
            others, now = view.others, names_of(delta.shape)
            for name in names_of(view.shape) - now:
                others[name] = view.mark
            if others:
                for name in now:
                    others.pop(name, None)
            view.shape = delta.shape
        view.mark = mark
    else:
        carried = names_of(view.shape)
    stale: set[str] = set()
    for each in delta.metrics:
        if each.us or not newer:
            its: Mark = (each.us, each.tie) if each.us else mark
            known = view.others.get(each.name)
            if each.name in carried or (known is not None and its <= known):
                stale.add(each.name)
            else:
                view.others[each.name] = its
    return newer, stale or _NONE


@lru_cache(maxsize=8192)
def _fields(metric: str) -> tuple[str, str, str, str, str, str]:
    """The fields of a metric."""
    return (
        *(f"min_{metric}", f"max_{metric}", f"sum_{metric}"),
        *(f"count_{metric}", f"avg_{metric}", f"last_{metric}"),
    )


@lru_cache(maxsize=1024)
def _tags(tags: str) -> dict[str, str]:
    return msgspec.json.decode(tags, type=dict[str, str])


def _exact(value: float) -> str:
    """The shortest text that reads back as the same double."""
    for digits in (15, 16):
        text = f"{value:.{digits}g}"
        if float(text) == value:
            return text
    return f"{value:.17g}"
