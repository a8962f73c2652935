"""What is stored of a simulation of dialects, compared with what their examples expect.

`Dialects` moves what it says: times to now, numbers with a fraction by a hundredth, keys on. So a row is as
expected when all of it is, names and tags and values, but for these: by that much, and no more.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.simulate.dialects import Speaker

_SECOND_DIGITS: Final = 10
_SHARE: Final = 0.01
_SENT: Final = timedelta(seconds=90)  # how far a clock without seconds is behind its message
_AROUND: Final = timedelta(minutes=15)  # how far times in an example are apart
_MADE: Final = ("auto:", "uuid:", "birth:", "death:")
_WRITTEN: Final = datetime(2026, 11, 23, 9, tzinfo=UTC)  # when examples are said, more or less


class Row(NamedTuple):
    """A row of `measurements`."""

    device_id: str
    region: str | None
    tags: dict[str, str]
    metrics: dict[str, Any]
    ts: datetime
    received_at: datetime
    key: str

    def __str__(self) -> str:
        """What a failing test shows of it."""
        return f"{self.device_id} {self.region} {self.tags} {self.metrics} {self.ts} {self.key}"


def unlike(speakers: Sequence[Speaker], rows: Sequence[Row], began: datetime) -> tuple[list[str], list[Row]]:
    """Readings that examples expect and no row has, and rows that no example expects.

    Args:
        speakers: that have spoken.
        rows: all that is stored.
        began: when they began to.
    """
    by_device: dict[str, list[Row]] = {}
    for row in rows:
        by_device.setdefault(row.device_id, []).append(row)
    missing, expected = [], set()
    for speaker in speakers:
        for reading in speaker.expect:
            same = [
                id(row)
                for row in by_device.get(str(reading["device_id"]), [])
                if _is(reading, speaker.expect[0], row, began - _WRITTEN)
            ]
            expected.update(same)
            if not same:
                missing.append(f"{speaker.dialect} by {speaker.topic}: {reading}")
    return missing, [row for row in rows if id(row) not in expected]


def _is(reading: Any, first: Any, row: Row, shift: timedelta) -> bool:  # noqa: ANN401  # as an example has it
    if (reading.get("region") or None) != row.region or not _is_key(reading.get("key"), row.key):
        return False
    if not _alike(reading["metrics"], row.metrics, shift) or not _alike(
        reading.get("tags") or {}, row.tags, shift
    ):
        return False
    if "ts" not in reading:
        return row.ts == row.received_at
    stated, began = _moment(reading["ts"]), _moment(first.get("ts"))
    assert stated is not None
    assert began is not None
    return row.ts == stated or abs(row.ts - row.received_at - (stated - began)) < _SENT


def _is_key(expected: str | None, got: str) -> bool:
    """Keys are counted on at their ends; who has none gets one that is made."""
    if expected is None:
        return got.startswith(_MADE)
    if expected.isdigit():
        return got.isdigit()
    return len(got) == len(expected) and got[: len(got) // 2] == expected[: len(got) // 2]


def _alike(expected: dict[str, Any], got: dict[str, Any], shift: timedelta) -> bool:
    return expected.keys() == got.keys() and all(_moved(expected[name], got[name], shift) for name in got)


def _moved(expected: Any, got: Any, shift: timedelta) -> bool:  # noqa: ANN401  # any scalar
    if type(expected) is type(got) and expected == got:
        return True
    if bool in {type(expected), type(got)}:
        return False
    if isinstance(expected, float) and isinstance(got, int | float):
        return abs(expected - got) <= _SHARE * abs(expected) + 10.0 ** -len(str(expected).partition(".")[2])
    stated, found = _moment(expected), _moment(got)
    return stated is not None and found is not None and abs(found - stated - shift) < _AROUND


def _moment(value: Any) -> datetime | None:  # noqa: ANN401  # likewise
    """A time as a text, or as a count since 1970."""
    digits = str(value)
    if digits.isdigit():
        unit = len(digits) - _SECOND_DIGITS
        return datetime.fromtimestamp(int(digits) / 10**unit, UTC) if unit in {0, 3, 6, 9} else None
    try:
        moment = datetime.fromisoformat(digits)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
