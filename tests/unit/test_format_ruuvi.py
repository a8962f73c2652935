"""What RuuviTags broadcast, as values."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decode.formats import format_of
from gateway.decode.formats.ruuvi import parse
from runtime.errors import Reject
from runtime.settings import Route
from runtime.settings.route import Bytes

FORMAT_5 = "0512FC5394C37C0004FFFC040CAC364200CDCBB8334C884F"
GOOD = {
    "dataFormat": 5, "temperature": 24.3, "humidity": 53.49, "pressure": 100_044,
    "accelX": 0.004, "accelY": -0.004, "accelZ": 1.036, "voltage": 2.977, "txPower": 4,
    "movementCounter": 66, "measurementSequenceNumber": 205, "id": "CB:B8:33:4C:88:4F",
}  # fmt: skip


@pytest.mark.parametrize(
    ("payload", "values"),
    [
        (FORMAT_5, GOOD),
        (
            "057FFFFFFEFFFE7FFF7FFF7FFFFFDEFEFFFECBB8334C884F",
            {
                "dataFormat": 5, "temperature": 163.835, "humidity": 163.835, "pressure": 115_534,
                "accelX": 32.767, "accelY": 32.767, "accelZ": 32.767, "voltage": 3.646, "txPower": 20,
                "movementCounter": 254, "measurementSequenceNumber": 65_534, "id": "CB:B8:33:4C:88:4F",
            },
        ),
        (
            "058001000000008001800180010000000000CBB8334C884F",
            {
                "dataFormat": 5, "temperature": -163.835, "humidity": 0, "pressure": 50_000,
                "accelX": -32.767, "accelY": -32.767, "accelZ": -32.767, "voltage": 1.6, "txPower": -40,
                "movementCounter": 0, "measurementSequenceNumber": 0, "id": "CB:B8:33:4C:88:4F",
            },
        ),
        ("058000FFFFFFFF800080008000FFFFFFFFFFFFFFFFFFFFFF", {"dataFormat": 5}),
        (
            "03291A1ECE1EFC18F94202CA0B53",
            {
                "dataFormat": 3, "temperature": 26.3, "humidity": 20.5, "pressure": 102_766,
                "accelX": -1.0, "accelY": -1.726, "accelZ": 0.714, "voltage": 2.899,
            },
        ),
        (
            "03FF7F63FFFF7FFF7FFF7FFFFFFF",
            {
                "dataFormat": 3, "temperature": 127.99, "humidity": 127.5, "pressure": 115_535,
                "accelX": 32.767, "accelY": 32.767, "accelZ": 32.767, "voltage": 65.535,
            },
        ),
        (
            "0300FF6300008001800180010000",
            {
                "dataFormat": 3, "temperature": -127.99, "humidity": 0, "pressure": 50_000,
                "accelX": -32.767, "accelY": -32.767, "accelZ": -32.767, "voltage": 0,
            },
        ),
    ],
)  # fmt: skip
def test_values_are_those_of_the_document(payload: str, values: dict[str, Any]) -> None:
    """The valid, largest, smallest and missing values of its tests come out, to the last digit."""
    assert parse(bytes.fromhex(f"9904{payload}")) == values


def test_an_advertisement_has_other_parts() -> None:
    """The manufacturer's part is found among the others."""
    assert parse(bytes.fromhex(f"0201061BFF9904{FORMAT_5}")) == GOOD
    assert parse(bytes.fromhex(f"1BFF9904{FORMAT_5}020106")) == GOOD


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "00",
        "1B",
        "0201061BFF4C00" + FORMAT_5,  # another manufacturer
        f"0201061BFF9904{FORMAT_5}"[:-2],  # cut
        f"020106FFFF9904{FORMAT_5}00",  # longer than it is
        "9904E1" + FORMAT_5[2:],  # another format
        "9904" + FORMAT_5 + "00",
    ],
)
def test_what_is_not_known_is_left(payload: str) -> None:
    """An advertisement of something else, of another format, or cut off, has no values here."""
    assert parse(bytes.fromhex(payload)) is None


@given(st.binary(max_size=64) | st.binary(max_size=40).map(lambda rest: b"\x99\x04\x05" + rest))
@settings(max_examples=150)
def test_any_bytes_are_values_or_none(payload: bytes) -> None:
    """Whatever comes, nothing is raised."""
    parse(payload)


def test_in_a_message_of_json_what_is_not_known_stays() -> None:
    """Values take the place of the text; another text, or none, is no fault of a message."""
    inside = Bytes(preset="ruuvi", encoding="hex", inside="data")
    form = format_of(Route(format="bytes", bytes=inside), "route[0]")
    assert form.parse(f'{{"data":"9904{FORMAT_5}","rssi":-60}}'.encode()) == {"data": GOOD, "rssi": -60}
    assert form.parse(b'{"data":"020106"}') == {"data": "020106"}
    assert form.parse(b'{"temperature":24.3}') == {"temperature": 24.3}
    with pytest.raises(Reject, match="hex"):
        form.parse(b'{"data":"0201zz"}')


def test_bytes_by_themselves_have_to_be_known() -> None:
    """Where a payload is an advertisement, one of something else is refused."""
    form = format_of(Route(format="bytes", bytes=Bytes(preset="ruuvi")), "route[0]")
    assert form.parse(bytes.fromhex(f"9904{FORMAT_5}")) == GOOD
    with pytest.raises(Reject) as refused:
        form.parse(b"\x02\x01\x06")
    assert refused.value.reason == "malformed_bytes"
