"""Device times: what can be read in one way only is read; the rest says what to put on the route."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from gateway.decode.fields import NoNumber
from gateway.decode.times import TimeReader
from runtime.errors import ConfigurationError, Reject

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
LATE = datetime(2026, 12, 24, tzinfo=UTC)


def read(
    value: object, time_format: str = "auto", timezone: str = "UTC", arrived: datetime = LATE
) -> datetime:
    return TimeReader(time_format, timezone, "route[0]").read(value, arrived, "d")


@pytest.mark.parametrize("text", ["-PT5S", "PT0.5S"])
@pytest.mark.parametrize("time_format", ["auto", "iso", "s"])
def test_durations_are_no_times_unless_they_are_expected(text: str, time_format: str) -> None:
    """What is counted from arrival is read only where the format of the route makes such times."""
    with pytest.raises(Reject) as caught:
        read(text, time_format)
    assert caught.value.reason == "invalid_time"


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-26T12:00:00Z",
        "2026-11-26t12:00:00z",
        "2026-11-26 12:00",
        "2026-11-26T13:00:00+0100",
        "2026-11-26T13:00:00+01",
        "2026-11-26T12:00:00,000Z",
        "2026-11-26T12:00:00 UTC",
        "2026-11-26T11:59:60Z",
        "2026/11/26 12:00:00",
        "2026.11.26 12:00:00",
        "2026/11/26, 12:00:00 PM",
        "26.11.2026 12:00",
        "26.11.2026, 12:00:00.000",
        "Thu, 26 Nov 2026 12:00:00 +0000",
        "Thu, 26 Nov 2026 12:00:00 GMT",
        "26 Nov 2026 12:00:00",
        "26-Nov-2026 12:00:00",
        "Nov 26, 2026 12:00:00 PM",
        "Thu Nov 26 12:00:00 2026",
        "Thu Nov 26 12:00:00 UTC 2026",
        "20261126T120000Z",
        "20261126120000",
        "261126130000W",
        "261126140000S",
        "1795694400",
        "1795694400.0",
        "1795694400,000",
        "1795694400000",
        "1795694400000000000",
        " 2026-11-26T12:00:00Z ",
        " 1795694400\n",
        "Thu Nov 26 2026 13:00:00 GMT+0100 (Central European Standard Time)",
    ],
)
def test_unambiguous_forms(text: str) -> None:
    """Each of these is noon of one day, whoever reads it."""
    assert read(text) == NOON


def test_the_end_of_a_day() -> None:
    """24:00 is the next day's midnight (ISO 8601), and a day alone is its own."""
    assert (
        read("2026-11-25T24:00:00Z")
        == read("2026-11-26")
        == read("20261126")
        == datetime(2026, 11, 26, tzinfo=UTC)
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("11/26/2026 12:00", "time_format"),
        ("10/11/2026 12:00", "day or the month first"),
        ("26-11-2026 12:00", "day or the month first"),
        ("26.11.26 12:00", "time_format"),
        ("2026-02-30T00:00:00Z", "does not exist"),
        ("2026-11-26T12:00:00 CET", "time_format"),
        ("2026-11-26T12:00:00 (CET)", "time_format"),
        ("2026-11-26+01:00", "time_format"),
        ("2026-11-26-05:00", "time_format"),
        ("yesterday", "time_format"),
        ("12:00", "time_format"),
        ("", "time_format"),
        ("9" * 5000, "time_format"),
    ],
)
def test_what_is_ambiguous_is_refused(text: str, said: str) -> None:
    """The error says what to put on the route, or that there is no such time."""
    with pytest.raises(Reject) as refused:
        read(text)
    assert refused.value.reason == "invalid_time"
    assert said in refused.value.detail


@pytest.mark.parametrize("value", [True, [1], {"at": 1}, NoNumber("malformed_json", "nan")])
def test_what_is_no_time_at_all(value: object) -> None:
    """The error says that a route may name another field."""
    with pytest.raises(Reject, match=r"neither a string nor a number; .* on its route"):
        read(value)


@pytest.mark.parametrize(
    ("value", "time_format"),
    [
        ("26/11/2026 12:00", "%d/%m/%Y %H:%M"),
        ("11/26/26 12:00", "%m/%d/%y %H:%M"),
        (1795694400, "s"),
        ("1795694400", "s"),
        (1795694400000, "ms"),
        (1795694400000000, "us"),
        (1795694400000000000, "ns"),
        ("2026-11-26T12:00:00Z", "iso"),
        (20261126120000, "%Y%m%d%H%M%S"),
    ],
)
def test_time_format(value: object, time_format: str) -> None:
    """A route says what its devices' times look like."""
    assert read(value, time_format) == NOON


@pytest.mark.parametrize("time_format", ["%H:%M", "seconds", "%Q", ""])
def test_a_format_that_means_no_day_is_refused(time_format: str) -> None:
    """At start, with the key's path."""
    with pytest.raises(ConfigurationError, match=r"route\[0\].time_format: "):
        TimeReader(time_format, "UTC", "route[0]")


@pytest.mark.parametrize("timezone", ["Mars/Base", "", "../etc/passwd"])
def test_a_zone_that_nobody_knows_is_refused(timezone: str) -> None:
    """At start, with the key's path."""
    with pytest.raises(ConfigurationError, match=r"route\[0\].timezone: "):
        TimeReader("auto", timezone, "route[0]")


@pytest.mark.parametrize(("minute", "hour"), [(35, 0), (59, 0), (95, 1), (118, 1)])
def test_the_repeated_hour_as_it_arrives(minute: int, hour: int) -> None:
    """A message that is not late is of the hour in which it came, whatever the device sent before."""
    reader = TimeReader("auto", "Europe/Berlin", "route[0]")
    said = f"2026-10-25 02:{minute % 60:02d}:00"
    arrived = datetime(2026, 10, 25, hour, minute % 60, 1, tzinfo=UTC)
    assert reader.read(said, arrived, "d") == datetime(2026, 10, 25, hour, minute % 60, tzinfo=UTC)
    assert reader.read(said, arrived, "d") == datetime(2026, 10, 25, hour, minute % 60, tzinfo=UTC)


@pytest.mark.parametrize(("arrived", "found"), [(45, 5), (59, 5), (61, 65)])
def test_a_message_of_the_repeated_hour_is_not_of_the_future(arrived: int, found: int) -> None:
    """Half an hour late is likelier than half an hour ahead: 02:05 that comes at 02:45 was 40 minutes ago."""
    begun = datetime(2026, 10, 25, tzinfo=UTC)
    at = read("2026-10-25 02:05:00", timezone="Europe/Berlin", arrived=begun + timedelta(minutes=arrived))
    assert at == begun + timedelta(minutes=found)


def test_an_hour_that_does_not_exist() -> None:
    """What stands in the hour that summer time leaves out is read by winter time."""
    assert read("2026-03-29 02:30:00", timezone="Europe/Berlin") == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
