"""What the fields of messages of one shape hold: a column a field, with what it was each time. Pure."""

from __future__ import annotations

import contextlib
import re
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gateway.decode.times import TimeReader
from gateway.discover.looks import look_of, looks_like_id, word_set, words_of
from runtime.errors import Reject

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_MOST_FIELDS: Final = 400
_DEPTH: Final = 8
_NEAR: Final = timedelta(days=1)
_CLOSE: Final = timedelta(minutes=6)  # of a whole hour
_AGE: Final = timedelta(days=800)
_AHEAD: Final = timedelta(hours=24)
_MOST_HOURS: Final = 14
_PLACES: Final = {
    3.5: "Asia/Tehran", 4.5: "Asia/Kabul", 5.5: "Asia/Kolkata", 5.75: "Asia/Kathmandu", 6.5: "Asia/Yangon",
    9.5: "Australia/Darwin", -9.5: "Pacific/Marquesas",
}  # fmt: skip
"""Zones that are no whole hours from UTC, of those that keep no summer time."""

_MOST: Final = 0.9  # of the values of a field: some devices are broken
_MONTHS: Final = 12
_FEW: Final = 3  # messages, fewer of which are alike by chance
_MISSED: Final = 1000  # steps of a counter
_LONGEST_ADDRESS: Final = 23  # of an EUI with colons
_LONG_AGO_S: Final = 1_400_000_000  # counts since 1970 below this are something else
_TIME_WORDS: Final = word_set(
    "time timestamp ts date datetime at when received measured sampled tst dt created utc epoch clock t"
)
_DAY: Final = re.compile(r"[0-9]{1,4}([./-])[0-9]{1,2}\1[0-9]{1,4}")  # without a time
_PATTERNS: Final = (
    "%d/%m/%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S", "%d-%m-%Y %H:%M:%S", "%m-%d-%Y %H:%M:%S",
    "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M", "%d/%m/%y %H:%M:%S", "%m/%d/%y %H:%M:%S", "%d.%m.%y %H:%M:%S",
    "%y-%m-%d %H:%M:%S", "%y%m%d%H%M%S", "%d%m%Y%H%M%S", "%H:%M:%S %d/%m/%Y", "%H:%M:%S %d.%m.%Y",
    "%m/%d/%Y %I:%M:%S %p", "%d/%m/%Y, %H:%M:%S", "%m/%d/%Y, %I:%M:%S %p",
)  # fmt: skip
_TWO_WAYS: Final = ("%d/%m/", "%m/%d/", "%d-%m-", "%m-%d-")
"""In forms that may have the day or the month first; `%y-%m-%d` is not among them, its year is in front."""

_KEY_NAMES: Final = (
    "id",
    "message_id",
    "messageId",
    "msg_id",
    "msgId",
    "msgid",
    "mid",
    "uuid",
    "guid",
    "idempotency_key",
)
_KEY_WORDS: Final = word_set(
    "id key uid uuid guid seq sequence counter cnt count msg message packet frame fcnt nr no "
    "number num pkt record n"
)
_COUNTERS: Final = word_set("seq sequence counter cnt msg message packet frame fcnt nr pkt record mid")


_NUMBERING: Final = word_set("seq sequence msg message packet frame fcnt pkt mid id uid key")
"""Words for what numbers messages; a count may be of anything."""


class Cell(NamedTuple):
    """A value that a field had.

    Attributes:
        at: when the message came.
        message: which one it was in.
        fresh: whether the message was sent then, and not kept by the broker.
    """

    topic: str
    at: datetime
    message: int
    value: Any
    fresh: bool


class Row(NamedTuple):
    """A reading, before it is known what is what in it."""

    topic: str
    at: datetime
    message: int
    value: Any
    fresh: bool = True


Columns = dict[str, list[Cell]]


def columns_of(rows: Iterable[Row]) -> Columns:
    """The columns of readings; lists and objects in one are as many fields as they hold."""
    columns: Columns = defaultdict(list)
    for row in rows:
        for name, value in _scalars(row.value, "", _DEPTH):
            if name in columns or len(columns) < _MOST_FIELDS:
                columns[name].append(Cell(row.topic, row.at, row.message, value, row.fresh))
    return dict(columns)


def _scalars(value: Any, prefix: str, depth: int) -> Iterable[tuple[str, Any]]:  # noqa: ANN401  # a message is any value
    members: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        members = value.items()
    elif isinstance(value, list):
        members = enumerate(value)
    for name, member in members:
        if isinstance(member, dict | list):
            if depth:
                yield from _scalars(member, f"{prefix}{name}.", depth - 1)
        elif member is not None:
            yield f"{prefix}{name}", member


class Time(NamedTuple):
    """A column that holds times.

    Attributes:
        words: of a route: format, zone, what to do with impossible ones.
        unsure: what is guessed about it.
        score: how good it is; the higher the better.
    """

    name: str
    words: dict[str, str]
    unsure: list[str]
    score: int


def time_of(name: str, cells: Sequence[Cell]) -> Time | None:
    """What a column says as a time; None when it holds none."""
    sound = [cell for cell in cells if type(cell.value) in {int, float, str}]
    if len(sound) < _MOST * len(cells):
        return None
    cells, kinds = sound, {type(cell.value) for cell in sound}
    if kinds == {str} and all(_DAY.fullmatch(cell.value.strip()) for cell in cells):
        return None
    words = words_of(name.rpartition(".")[2])
    named = bool(_TIME_WORDS & set(words)) or name.lower().endswith(("time", "timestamp", "date"))
    if not named and kinds != {str}:
        numbers = [cell.value for cell in cells]
        if not all(isinstance(number, int) and number > _LONG_AGO_S for number in numbers):
            return None
    for form in ("auto", *_PATTERNS):
        reader = TimeReader(form, "UTC", "route")
        moments = []
        for cell in cells:
            with contextlib.suppress(Reject):
                moments.append((reader.read(cell.value, cell.at, ""), cell))
        if len(moments) >= _MOST * len(cells) and (found := _judged(name, form, moments, named=named)):
            return found
        if form == "auto" and kinds != {str}:
            break
    return None


def _judged(name: str, form: str, moments: Sequence[tuple[datetime, Cell]], *, named: bool) -> Time | None:
    words: dict[str, str] = {} if form == "auto" else {"time_format": form}
    unsure: list[str] = []
    if any(each in form for each in _TWO_WAYS) and all(moment.day <= _MONTHS for moment, _ in moments):
        first = "day" if form.find("%d") < form.find("%m") else "month"
        unsure.append(f"in {name} the {first} comes first, as that is nearer to now")
    fresh = [moment - cell.at for moment, cell in moments if cell.fresh]
    gaps = fresh or [moment - cell.at for moment, cell in moments]
    near = [gap for gap in gaps if abs(gap) < _NEAR]
    if len(near) * 2 > len(gaps):
        zoneless = all(isinstance(cell.value, str) and not _has_zone(cell.value) for _, cell in moments)
        hours = zone_of(fresh)
        if hours and zoneless:
            words["timezone"] = zone_named(hours)
            unsure.append(local_time(name, hours))
        elif hours > 0:
            words["clock"] = "prefer"
            unsure.append(
                f"{name} is {_spoken(hours)} ahead of now although it says in what zone it is: is the clock "
                f"right?"
            )
        return Time(name, words, unsure, 10 + 5 * named - name.count("."))
    if not named:
        return None
    if all(-_AGE < gap < _AHEAD for gap in gaps):
        unsure.append(f"{name} is far from now; it is taken for the time of measuring")
        return Time(name, words, unsure, 4)
    return None


def zone_of(gaps: Sequence[timedelta]) -> float:
    """By how many hours times are off, as zones are, all of those that are near; 0 when they are not."""
    near = [gap for gap in gaps if abs(gap) < _NEAR]
    return _hours(near) if len(near) * 2 > len(gaps) else 0


def zone_named(hours: float) -> str:
    """The name of the zone that is so many hours ahead of UTC, without summer time."""
    whole = f"Etc/GMT{'-' if hours > 0 else '+'}{abs(round(hours))}"
    return _PLACES.get(hours, whole)


def local_time(what: str, hours: float) -> str:
    """What to say of times that are so many hours ahead."""
    side = "ahead of" if hours > 0 else "behind"
    return (
        f"{what} is {_spoken(hours)} {side} UTC, so taken for the local time of {zone_named(hours)}: where "
        f'summer time is kept, name the place, such as timezone = "Europe/Berlin"'
    )


def _spoken(hours: float) -> str:
    whole, part = divmod(round(abs(hours) * 60), 60)
    return f"{whole} h {part} min" if part else f"{whole} h"


def _hours(gaps: Sequence[timedelta]) -> float:
    """By how many hours all of them are off, 0 when they are not."""
    whole = {round(gap / timedelta(hours=1)) for gap in gaps}
    for hours in (float(next(iter(whole))), *_PLACES) if gaps else ():
        if 0 < abs(hours) <= _MOST_HOURS and all(abs(gap - timedelta(hours=hours)) < _CLOSE for gap in gaps):
            return hours
    return 0


def _has_zone(text: str) -> bool:
    return bool(
        re.search(r"(z|utc|gmt|[+-][0-9]{2}(:?[0-9]{2})?)(\s*\(.*\))?$", text[10:], re.IGNORECASE)
    ) or bool(re.fullmatch(r"\s*[0-9]+([.,][0-9]+)?\s*", text))


class Key(NamedTuple):
    """A column that tells messages apart.

    Attributes:
        counts: whether it is a counter, which begins anew some day.
        again: whether it was seen to do so.
        score: how good it is.
    """

    name: str
    unsure: list[str]
    score: int
    counts: bool = False
    again: bool = False


def key_of(name: str, cells: Sequence[Cell]) -> Key | None:  # noqa: C901, PLR0911  # the kinds of keys, one after the other
    """What a column is as a key; None when it is none: a constant, or values that come again."""
    kind = Counter(type(cell.value) for cell in cells).most_common(1)[0][0]
    sound = [cell for cell in cells if type(cell.value) is kind]
    if kind not in {int, str} or len(sound) < _MOST * len(cells):
        return None
    cells, kinds = sound, {kind}
    last = name.rpartition(".")[2]
    words = set(words_of(last))
    unsure: list[str] = []
    by_topic: dict[str, list[Any]] = defaultdict(list)
    for cell in cells:
        by_topic[cell.topic].append(cell.value)
    several = [values for values in by_topic.values() if len(values) > 1]
    values = [cell.value for cell in cells]
    depth = name.count(".")
    exact = last in _KEY_NAMES
    if not several:
        if exact and len(set(values)) == len(values) >= _FEW and kinds == {str}:
            return None if _is_address(values) else Key(name, [_unseen(name)], 3 - depth)
        return None
    if sum(len(set(each)) for each in several) < _MOST * sum(map(len, several)):
        return None
    if kinds == {str} and all(str(each).isdigit() for each in values):
        several = [[int(each) for each in group] for group in several]
        kinds = {int}
    if kinds == {int}:
        if not _counts(several) or not (exact or words & _KEY_WORDS):
            return None
        if not exact and not words & _COUNTERS and max(map(len, several)) < _FEW:
            return None
        if not exact and not words & _NUMBERING:
            if not _by_one(several):
                return None
            unsure = [
                f"{name} goes up by one with each message, and is taken for the key: it is no metric then"
            ]
        again = any(b < a for group in several for a, b in pairwise(group))
        score = 8 + 3 * exact + 2 * bool(words & _COUNTERS) - depth
        return Key(name, unsure, score, counts=True, again=again)
    if exact or words & _KEY_WORDS or all(_is_uuid(each) for each in values):
        few = max(map(len, several)) < _FEW
        return Key(name, [_unseen(name)] if few else [], 9 + 3 * exact - depth)
    return None


def _unseen(name: str) -> str:
    return f"{name} is taken for the key of a message, from few of them"


def _counts(groups: Sequence[Sequence[int]]) -> bool:
    steps = [b - a for group in groups for a, b in pairwise(group)]
    up = [step for step in steps if 0 < step < _MISSED]
    return len(up) >= max(1, len(steps) - len(groups))


def _by_one(groups: Sequence[Sequence[int]]) -> bool:
    steps = [b - a for group in groups for a, b in pairwise(group)]
    return steps.count(1) >= _MOST * len(steps)


def _is_uuid(value: object) -> bool:
    return look_of(str(value)) == "{uuid}"


def _is_address(values: Sequence[Any]) -> bool:
    return all(
        looks_like_id(str(value)) and len(str(value)) <= _LONGEST_ADDRESS for value in values
    )  # of an EUI with colons
