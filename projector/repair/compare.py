"""Whether two views hold the same, and in what they differ. Pure.

Everything is compared exactly, but for two things. Sums depend in their last digits on the order in which
runs came, so sums and averages may differ by 1e-9 of what was added up. And `updated_at` with its twin says
when a view was written, which is no part of what it says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
from msgspec.structs import replace

from projector.views.state import values_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Kind = Literal["differs", "missing", "extra"]

_TOLERANCE: Final = 1e-9
_UNCOMPARED: Final = frozenset({"updated_at", "updated_ms"})
_OF_METRICS: Final = ("min_", "max_", "sum_", "count_", "avg_", "last_", "metrics_dropped")
_KEPT: Final = frozenset(
    {"device_id", "region", "last_seen", "last_seen_ms", "online", "online_since"}
)  # when it comes back


class Difference(msgspec.Struct, frozen=True):
    """One thing that is not as it should be.

    Attributes:
        kind: a key, or a member of one of the projector's own keys, that is `missing` or `extra`, or one that
            `differs`.
        field: of a hash, or the member; None when the difference is the key itself.
        expected: by PostgreSQL's measurements; None when there should be nothing.
        found: in Redis, or of a settled day in PostgreSQL; None when there is nothing.
    """

    kind: Kind
    key: str
    field: str | None
    expected: str | None
    found: str | None


class Findings(msgspec.Struct):
    """What a comparison found.

    Attributes:
        cursors: stream → the row at which what was compared last stood.
        differing: how many differences are of this kind; `missing` and `extra` likewise.
        differences: the first of them.
    """

    equal: bool = True
    cursors: dict[int, int] = {}
    differing: int = 0
    missing: int = 0
    extra: int = 0
    differences: list[Difference] = []
    seconds: float = 0.0

    def add(self, found: Difference, limit: int) -> None:
        """Count a difference, and keep it while there are not so many yet."""
        self.equal = False
        self.differing += found.kind == "differs"
        self.missing += found.kind == "missing"
        self.extra += found.kind == "extra"
        if len(self.differences) < limit:
            self.differences.append(found)


class View(msgspec.Struct, frozen=True):
    """All that Redis holds of one device or region.

    Attributes:
        fields: of its hash; None without one; the error's text when the key is something else.
        score: in `devices:last_seen`; None for a region.
        marks: as they are packed (`projector/views/state.py`).
        ahead: in `devices:clock_ahead`; None for a region, and for a clock that is not ahead.
        expired: whether a device has left the views once; what it has had since is not all that it ever sent.
    """

    fields: dict[str, str] | str | None
    score: float | None
    marks: bytes | None
    ahead: float | None = None
    expired: bool = False


def compare(key: str, expected: View, found: View) -> Iterator[Difference]:
    """Yield what differs in a view's hash under `key`."""
    right, wrong = expected.fields, found.fields
    if isinstance(wrong, str) or isinstance(right, str):
        yield Difference("differs", key, None, "a hash", str(wrong))
    elif right is None or wrong is None:
        if right is not wrong:
            yield Difference("extra" if right is None else "missing", key, None, _size(right), _size(wrong))
    else:
        yield from _compare_fields(key, right, wrong)


def of_expired(expected: View, found: View) -> tuple[View, View]:
    """What can be compared of a device that has expired: nothing but its marks before it comes back."""
    if found.fields is None:
        return View(None, None, None), found
    if isinstance(found.fields, str) or not isinstance(expected.fields, dict):
        return expected, found
    return (
        View(_kept(expected.fields), expected.score, None),
        View(_kept(found.fields), found.score, None),
    )


def of_dropped(expected: View, found: View) -> tuple[View, View]:
    """What can be compared of a region when regions have made room.

    All of one with as many messages as it should have, which never went. Of another how many devices it has,
    for it may be back; one that has none may be gone.
    """
    right, wrong = expected.fields, found.fields
    if isinstance(right, str) or isinstance(wrong, str) or right is None:
        return expected, found
    if wrong is not None and wrong.get("sample_count") == right.get("sample_count"):
        return expected, found
    if wrong is None and right.get("device_count") == "0":
        return View(None, None, None), View(None, None, None)
    return View(_of_region(right), None, None), View(wrong and _of_region(wrong), None, None)


def _of_region(fields: Mapping[str, str]) -> dict[str, str]:
    return {name: fields[name] for name in ("region", "device_count") if name in fields}


def with_dropped(expected: View, found: View) -> bool:
    """Whether metrics of either have made room for others: what they hold depends on when that was."""
    return any(
        "metrics_dropped" in view.fields for view in (expected, found) if isinstance(view.fields, dict)
    )


def without_metrics(view: View) -> View:
    """All of a view but what is of its metrics."""
    if not isinstance(view.fields, dict):
        return view
    fields = {name: text for name, text in view.fields.items() if not name.startswith(_OF_METRICS)}
    fields |= {name: text for name, text in view.fields.items() if name in _KEPT}
    return replace(view, fields=fields)


def _kept(fields: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in fields.items() if name in _KEPT or name.startswith("tag_")}


def compare_member(key: str, member: str, expected: str | None, found: str | None) -> Iterator[Difference]:
    """Yield how a member of one of the projector's own keys differs."""
    if expected != found:
        kind: Kind = "missing" if found is None else "extra" if expected is None else "differs"
        yield Difference(kind, key, member, expected, found)


def compare_marks(
    key: str, id_: str, expected: View, found: View, *, metrics: bool = True
) -> Iterator[Difference]:
    """Yield how a view's marks under `key` differ in what they mean, however they came to be packed so."""
    homed = isinstance(expected.fields, dict) and {"device_id", "region"} <= expected.fields.keys()
    right, wrong = (_readable(view.marks, homed=homed, metrics=metrics) for view in (expected, found))
    yield from compare_member(key, id_, right, wrong)


def _readable(packed: bytes | None, *, homed: bool, metrics: bool) -> str | None:
    """Marks as text that is equal for equal marks; the mark of a device's region only where there is one."""
    if packed is None:
        return None
    try:
        us, tie, shape, home_us, home_tie, others, tags, tags_us, tags_tie, *said = values_of(packed)
        newest = [us, tie]
        meaning: dict[str, Any] = {
            "newest": newest,
            "home": (newest if home_us is None else [home_us, home_tie]) if homed else None,
        }
        if metrics:
            meaning["metrics"] = dict.fromkeys(msgspec.json.decode(shape), newest) | (others or {})
        if tags is not None:
            mark = newest if tags_us is None else [tags_us, tags_tie]
            meaning["tags"] = [mark, msgspec.json.decode(tags)]
        if said[0] is not None:
            meaning["online"] = said
        return msgspec.json.encode(meaning, order="sorted").decode()
    except (msgspec.DecodeError, TypeError, ValueError):
        return "unreadable"


def _compare_fields(key: str, expected: Mapping[str, str], found: Mapping[str, str]) -> Iterator[Difference]:
    for field in sorted(expected.keys() | found.keys()):
        right, wrong = expected.get(field), found.get(field)
        same = right == wrong
        if not same and right is not None and wrong is not None:
            same = field in _UNCOMPARED or _close(field, right, wrong, expected)
        if not same:
            yield Difference("differs", key, field, right, wrong)


def _close(field: str, right: str, wrong: str, view: Mapping[str, str]) -> bool:
    """Whether a sum or an average is near enough, measured by what may have been added up on the way."""
    statistic, _, metric = field.partition("_")
    if statistic not in {"sum", "avg"}:
        return False
    try:
        largest = max(abs(float(view[f"{extreme}_{metric}"])) for extreme in ("min", "max"))
        values = float(view[f"count_{metric}"]) if statistic == "sum" else 1.0
        return abs(float(right) - float(wrong)) <= _TOLERANCE * values * largest
    except (KeyError, ValueError):
        return False


def _size(fields: Mapping[str, str] | None) -> str | None:
    return None if fields is None else f"a hash of {len(fields)} fields"
