"""Times as people and firmwares write them, beside ISO 8601: those that can be read in one way only.

The year has four digits. First comes the year, or a day with dots after it, or the month is a word; a number
that may be day or month is refused, and so is a zone that is a word other than UTC or GMT. Meters of the DSMR
write `231123090000W`: two digits of the year, and S or W for summer or winter time in the Netherlands and
Belgium (DSMR P1 companion standard 5.0.2, §5.4, TST).
"""

from __future__ import annotations

import enum
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAY: Final = r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*\.?,?\s+)?"
_MONTH: Final = rf"(?P<word>{'|'.join(_MONTHS)})[a-z]*\.?"
_TIME: Final = (
    r"(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:[.,](?P<fraction>[0-9]{1,12}))?)?"
    r"\s*(?P<half>[ap]\.?m\.?)?"
)
_COMMENT: Final = r"(?:\s*\([^()]*\))?"  # RFC 5322 §3.2.2
_ZONE: Final = rf"(?:\s*(?P<zone>z|utc|gmt|(?:utc|gmt)?[+-][0-9]{{2}}(?::?[0-9]{{2}})?){_COMMENT})?"
_YEAR: Final = r"(?P<year>[0-9]{4})"
_COMPACT: Final = (
    r"(?P<year>20[0-9]{2})(?P<month>[0-9]{2})(?P<day>[0-9]{2})"
    r"(?:[t_]?(?P<hour>[0-9]{2})(?P<minute>[0-9]{2})(?P<second>[0-9]{2})?(?:[.,](?P<fraction>[0-9]{1,12}))?"
)
_OF_METERS: Final = (
    r"(?P<short>[0-9]{2})(?P<month>[0-9]{2})(?P<day>[0-9]{2})"
    r"(?P<hour>[0-9]{2})(?P<minute>[0-9]{2})(?P<second>[0-9]{2})(?P<season>[SW])"
)

_FORMS: Final = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        rf"{_YEAR}(?P<sep>[-/.])(?P<month>[0-9]{{1,2}})(?P=sep)(?P<day>[0-9]{{1,2}})(?:(?:[t_]|,?\s+){_TIME}{_ZONE})?",
        rf"(?P<day>[0-9]{{1,2}})\.(?P<month>[0-9]{{1,2}})\.{_YEAR}(?:(?:[t_]|,?\s+){_TIME}{_ZONE})?",
        rf"{_WEEKDAY}(?P<day>[0-9]{{1,2}})[\s-]{_MONTH},?[\s-]{_YEAR}(?:(?:[t_]|,?\s+){_TIME}{_ZONE})?",
        rf"{_WEEKDAY}{_MONTH}\s+(?P<day>[0-9]{{1,2}}),?\s+{_YEAR}(?:,?\s+{_TIME}{_ZONE})?",
        rf"{_WEEKDAY}{_MONTH}\s+(?P<day>[0-9]{{1,2}})\s+{_TIME}{_ZONE}\s+{_YEAR}",
        rf"{_COMPACT}{_ZONE})?",
        _OF_METERS,
    )
)
_TWO_WAYS: Final = re.compile(r"[0-9]{1,2}[/.-][0-9]{1,2}[/.-][0-9]{2,4}\b.*", re.DOTALL)
_LONGEST: Final = 80
_SEASONS: Final = {"S": timezone(timedelta(hours=2)), "W": timezone(timedelta(hours=1))}


class Written(enum.Enum):
    """Why a text could not be read."""

    AMBIGUOUS = enum.auto()
    IMPOSSIBLE = enum.auto()
    UNKNOWN = enum.auto()


def read_written(text: str) -> datetime | Written:
    """Read a time; without an offset it has no zone."""
    text = text.strip()
    if len(text) > _LONGEST:
        return Written.UNKNOWN
    for form in _FORMS:
        found = form.fullmatch(text)
        if found:
            try:
                return _moment(found.groupdict())
            except (ValueError, OverflowError):
                return Written.IMPOSSIBLE
    if _TWO_WAYS.fullmatch(text):
        return Written.AMBIGUOUS
    try:
        return datetime.fromisoformat(text) if "W" in text else Written.UNKNOWN
    except ValueError:
        return Written.UNKNOWN


def _moment(parts: dict[str, str | None]) -> datetime:
    word = parts.get("word")
    month = _MONTHS.index(word.lower()) + 1 if word else int(parts["month"] or 0)
    hour, minute, second = (int(parts.get(name) or 0) for name in ("hour", "minute", "second"))
    half = (parts.get("half") or "").lower()
    if half:
        if not 1 <= hour <= 12:  # noqa: PLR2004  # hours of a clock's face
            raise ValueError(hour)
        hour = hour % 12 + (12 if half[0] == "p" else 0)
    after = timedelta(microseconds=int((parts.get("fraction") or "").ljust(6, "0")[:6]))
    if second == 60:  # noqa: PLR2004  # a leap second is the moment at which the next minute begins
        second, after = 59, timedelta(seconds=1)
    if (hour, minute, second) == (24, 0, 0):  # ISO 8601: the end of the day
        hour, after = 0, timedelta(days=1)
    moment = datetime(
        int(parts.get("year") or f"20{parts['short']}"),
        month,
        int(parts["day"] or 0),
        hour,
        minute,
        second,
        tzinfo=_SEASONS.get((parts.get("season") or "").upper()) or _zone(parts.get("zone")),
    )
    return moment + after


def _zone(text: str | None) -> timezone | None:
    if not text:
        return None
    sign = re.search("[+-]", text)
    if sign is None:
        return UTC
    digits = text[sign.end() :].replace(":", "")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:] or 0))
    return timezone(-offset if sign.group() == "-" else offset)
