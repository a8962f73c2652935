"""What a run makes of views that nobody has written yet."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from projector.views.change import Change, Lacking
from projector.views.position import Keys
from projector.views.state import Shelf, View, metric, pack_marks, place_of, values_of
from projector.views.writes import pieces_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from contract.events import Event
    from projector.views.retired import Retired


class Changed(NamedTuple):
    """A view after a run: what is remembered of it, the fields that are set, and the marks that are kept."""

    view: View
    fields: dict[str, str]
    marks: list[object]


class Memory:
    """Views of devices and regions as a projector remembers them, of which Redis had none at first.

    Attributes:
        pieces: how many the last run made.
    """

    def __init__(self, most_metrics: int = 1_000_000) -> None:
        self._most_metrics = most_metrics
        self.pieces = 0
        self.devices = Shelf(1_000_000)
        self.regions = Shelf(1_000_000)
        self._runs = 0

    def run(self, events: Iterable[Event] = (), rows: Iterable[Retired] = ()) -> dict[str, Changed]:
        """Device or region → what a run made of it; no device has the name of a region."""
        events, rows = list(events), list(rows)
        self._runs += 1
        change = Change(self.devices, self.regions, self._runs)
        shelves = (self.devices, self.regions)
        lacking = Lacking(*shelves)
        lacking.add(events)
        lacking.merge(rows)
        for shelf, wanted in zip(shelves, lacking.wanted(), strict=True):
            for each in wanted:
                view = View(each.id)
                view.know({name: metric(fresh=True) for name in each.names})
                shelf.learn(view)
        change.add(events)
        change.merge(rows)
        for each in change.left_unknown():
            self.regions.learn(View(each.id))
        views = [*change.devices, *change.regions, *change.left]
        fields: defaultdict[str, dict[str, str]] = defaultdict(dict)
        self.pieces = 0
        for piece in pieces_of(change, Keys(), self._most_metrics):
            self.pieces += 1
            for key, its in zip(piece.views, piece.fields, strict=True):
                fields[key] |= _named("sample_count", *its)
        return {
            view.id: Changed(view, named, values_of(pack_marks(view, place_of(view.mark))))
            for view, named in zip(views, fields.values(), strict=True)
        }


def _named(*flat: str) -> dict[str, str]:
    """Names and values in turn."""
    return dict(zip(flat[::2], flat[1::2], strict=True))
