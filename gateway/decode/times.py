"""Device time: what is unambiguous is read, and a route's `time_format` says the rest.

Numbers, and texts that are numbers, are seconds, milliseconds, microseconds or nanoseconds since 1970, told
apart by size. A time without an offset is in the route's time zone. At the end of summer time an hour comes
twice there: which of the two is meant is told by when the message arrived, and where it arrived late by what
the device had sent before: its own times do not go back.
A duration in seconds, `-PT5S` (ISO 8601), is counted from arrival, of a format that makes such times.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from contract.order import AHEAD
from contract.times import epoch_microseconds
from gateway.decode.known import Memo
from gateway.decode.written_times import Written, read_written
from runtime.errors import ConfigurationError, Reject

EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_UNIT_NAMES: Final = {"s": 10**6, "ms": 10**3, "us": 1, "ns": 1e-3}

_HALF: Final = timedelta(minutes=30)  # of the hour that comes twice
_DEVICES_BYTES: Final = 16_000_000
_AFTER_DATE: Final = frozenset(["", "T", "t", " ", "_"])
"""What follows a day; for the library anything may, the sign of an offset or a digit too."""
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,30}([.,][0-9]{1,30})?")
_RELATIVE: Final = re.compile(r"(-?)PT([0-9]{1,9}(?:\.[0-9]{1,6})?)S")
_SAMPLES: Final = (datetime(2011, 2, 13, 4, 5, 6, tzinfo=UTC), datetime(2033, 11, 28, 15, 46, 57, tzinfo=UTC))


class TimeReader:
    """Reads the device times of one route.

    Args:
        time_format: `auto`, `iso`, `s`, `ms`, `us`, `ns`, or a pattern of strptime.
        timezone: an IANA name.
        where: the route's place in the file, for errors.
        relative: whether durations are times; elsewhere they are a mistake of who sent them.

    Attributes:
        slow: how many were read that took their time.

    Raises:
        ConfigurationError: one of them means nothing.
    """

    def __init__(self, time_format: str, timezone: str, where: str, *, relative: bool = False) -> None:
        try:
            self._zone = UTC if timezone == "UTC" else ZoneInfo(timezone)
        except (KeyError, ValueError, OSError):
            raise ConfigurationError(
                f"{where}.timezone: {timezone!r} is no IANA time zone that this machine knows, "
                f'such as "Europe/Berlin"; is tzdata installed?'
            ) from None
        self.slow = 0
        self._format = time_format
        self._relative = relative
        self._unit = _UNIT_NAMES.get(time_format)
        if time_format not in {"auto", "iso", *_UNIT_NAMES}:
            _check_format(time_format, where)
        self._plain = time_format == "auto"
        self._iso = time_format in {"auto", "iso"}
        self._last: Memo[datetime] = Memo(_DEVICES_BYTES)

    def read(self, value: Any, arrived: datetime, device_id: str) -> datetime:  # noqa: ANN401  # a format's value is any value
        """Read a device time as an aware UTC datetime.

        Args:
            value: as the message has it.
            arrived: when it did.
            device_id: whose time it is.

        Raises:
            Reject: reason `invalid_time`.
        """
        kind = type(value)
        if kind is str:
            try:  # most are of this form
                iso = self._iso and value[4:5] == "-" and value[10:11] in _AFTER_DATE
                moment = datetime.fromisoformat(value) if iso else self._parse(value, arrived)
            except ValueError:
                moment = self._written(value)
        elif kind is int or kind is float:
            moment = self._epoch(value) if self._plain or self._unit else self._parse(str(value), arrived)
        else:
            raise Reject(
                "invalid_time",
                'time is neither a string nor a number; time on its route names another field, "" for none',
            )
        zone = moment.tzinfo
        if zone is UTC:
            return moment
        if zone is None:
            if self._zone is UTC:
                return moment.replace(tzinfo=UTC)
            return self._local(moment, arrived, device_id)
        try:
            return moment.astimezone(UTC)
        except OverflowError:
            raise Reject("invalid_time", f"{str(value)[:40]!r} is outside the calendar") from None

    def _parse(self, text: str, arrived: datetime) -> datetime:
        if self._relative and (relative := _RELATIVE.fullmatch(text)):
            return arrived + timedelta(seconds=float(relative[1] + relative[2]))
        if self._iso:
            return self._written(text)
        if self._unit:
            if not _NUMBER.fullmatch(text):
                raise Reject("invalid_time", f"{text[:40]!r} is no number, time_format is {self._format!r}")
            return self._epoch(float(text.replace(",", ".")) if not text.isdigit() else int(text))
        self.slow += 1
        try:
            return datetime.strptime(text, self._format)  # noqa: DTZ007  # the zone is the route's
        except ValueError:
            raise Reject(
                "invalid_time",
                f"{text[:40]!r} is not of the form {self._format!r}, the time_format of its route",
            ) from None

    def _written(self, text: str) -> datetime:
        self.slow += 1
        written = read_written(text)
        if isinstance(written, datetime):
            return written
        number = text.strip().replace(",", ".")
        if self._plain and _NUMBER.fullmatch(number):
            return _from_epoch(float(number) if "." in number else int(number))
        advice = {
            Written.AMBIGUOUS: "may have the day or the month first: say which on its route, as "
            'time_format = "%d/%m/%Y %H:%M:%S"',
            Written.IMPOSSIBLE: "is a time that does not exist",
            Written.UNKNOWN: "is no time that is known by its form: say it by time_format on its route",
        }
        raise Reject("invalid_time", f"{text[:40]!r} {advice[written]}")

    def _epoch(self, value: float) -> datetime:
        if self._unit is None:
            return _from_epoch(value)
        try:
            return _EPOCH + timedelta(microseconds=round(value * self._unit))
        except (OverflowError, ValueError):
            raise Reject("invalid_time", f"{value:g} {self._format} is outside the calendar") from None

    def _local(self, moment: datetime, arrived: datetime, device_id: str) -> datetime:
        try:
            first = moment.replace(tzinfo=self._zone).astimezone(UTC)
            second = moment.replace(tzinfo=self._zone, fold=1).astimezone(UTC)
        except OverflowError:
            raise Reject("invalid_time", f"{moment} is outside the calendar") from None
        if second <= first:  # by the hour that summer time leaves out, they come the other way round
            return first
        if arrived < second - AHEAD:
            found = first
        elif arrived < second + _HALF:
            found = second
        else:
            last = self._last.get(device_id) or self._last.recall(device_id)
            found = second if last is not None and first < last <= second + _HALF * 2 else first
        self._last.keep(device_id, found)
        return found


def check_time(moment: datetime, now: datetime, max_ahead: timedelta) -> None:
    """Refuse a time before 2000 or more than `max_ahead` after now.

    Raises:
        Reject: reason `time_out_of_range`, with the skew.
    """
    advice = '; clock = "prefer" on its route takes the time of arrival instead'
    if moment < EARLIEST:
        raise Reject(
            "time_out_of_range", f"device time {moment.isoformat()} is before 2000: is its clock set?{advice}"
        )
    if moment > now and moment - now > max_ahead:
        raise Reject(
            "time_out_of_range",
            f"device time {moment.isoformat()} is {moment - now} ahead of the gateway, "
            f"gateway.max_ahead allows {max_ahead}{advice}",
        )


def _from_epoch(value: float) -> datetime:
    try:
        return _EPOCH + timedelta(microseconds=epoch_microseconds(value))
    except ValueError as error:
        raise Reject("invalid_time", str(error)) from None


def _check_format(time_format: str, where: str) -> None:
    """Refuse a pattern by which a time of a day in a year does not come back."""
    try:
        good = all(
            datetime.strptime(sample.strftime(time_format), time_format).date() == sample.date()  # noqa: DTZ007  # a day
            for sample in _SAMPLES
        )
    except ValueError:
        good = False
    if not good:
        raise ConfigurationError(
            f'{where}.time_format: {time_format!r} is neither "auto", "iso", "s", "ms", "us" or "ns" nor '
            f'a pattern of strptime that tells year, month and day, such as "%d/%m/%Y %H:%M:%S"'
        )
