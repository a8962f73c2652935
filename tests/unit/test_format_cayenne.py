"""Cayenne LPP: every type, named as The Things Network names them, and nothing guessed."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decode.formats import format_of
from gateway.decode.formats.cayenne import parse
from runtime.errors import Reject
from runtime.settings import Route
from runtime.settings.route import Bytes

# The last five are of the document of myDevices.
EXAMPLES: dict[str, dict[str, Any]] = {
    "01 00 ff": {"digital_in_1": 255},
    "02 01 64": {"digital_out_2": 100},
    "03 02 15 4a": {"analog_in_3": 54.5},
    "04 03 ea b6": {"analog_out_4": -54.5},
    "05 64 ff ff ff ff": {"generic_5": 4294967295},
    "05 65 01 f4": {"luminosity_5": 500},
    "06 66 01": {"presence_6": 1},
    "07 67 ff 64": {"temperature_7": -15.6},
    "08 68 a1": {"relative_humidity_8": 80.5},
    "09 71 fe 58 00 0f 06 82": {"accelerometer_9": {"x": -0.424, "y": 0.015, "z": 1.666}},
    "0a 73 29 ef": {"barometric_pressure_10": 1073.5},
    "0a 74 01 4a": {"voltage_10": 3.3},
    "0a 75 00 d7": {"current_10": 0.215},
    "0a 76 33 9f b1 c0": {"frequency_10": 866103744},
    "0a 78 64": {"percentage_10": 100},
    "0a 79 ff fe": {"altitude_10": -2},
    "0a 7d 03 20": {"concentration_10": 800},
    "0a 80 08 fc": {"power_10": 2300},
    "0a 82 00 00 04 d2": {"distance_10": 1.234},
    "0a 83 00 00 2b 67": {"energy_10": 11.111},
    "0a 84 01 0e": {"direction_10": 270},
    "0a 85 65 53 f1 00": {"unixtime_10": 1700000000},
    "0b 86 01 63 02 31 fe 66": {"gyrometer_11": {"x": 3.55, "y": 5.61, "z": -4.1}},
    "0b 87 ff 80 00": {"colour_11": {"r": 255, "g": 128, "b": 0}},
    "0c 88 07 fd 87 00 be f5 00 08 6a": {
        "gps_12": {"latitude": 52.3655, "longitude": 4.8885, "altitude": 21.54}
    },
    "ff 8e 01": {"switch_255": 1},
    "03 67 01 10 05 67 00 ff": {"temperature_3": 27.2, "temperature_5": 25.5},
    "01 67 ff d7": {"temperature_1": -4.1},
    "06 71 04 d2 fb 2e 00 00": {"accelerometer_6": {"x": 1.234, "y": -1.234, "z": 0.0}},
    "01 88 06 76 5f f2 96 0a 00 03 e8": {
        "gps_1": {"latitude": 42.3519, "longitude": -87.9094, "altitude": 10.0}
    },
    "01 67 00 00 01 68 00": {"temperature_1": 0.0, "relative_humidity_1": 0.0},
}


@pytest.mark.parametrize("payload", EXAMPLES)
def test_each_type_is_read(payload: str) -> None:
    """A channel's value comes out in the unit of its type, without the dust of binary fractions."""
    assert parse(bytes.fromhex(payload)) == EXAMPLES[payload]


@pytest.mark.parametrize("payload", EXAMPLES)
def test_what_is_cut_is_refused(payload: str) -> None:
    """A value of which bytes are missing is none, and says which it is."""
    whole = bytes.fromhex(payload)
    ends = {0}
    for end in range(len(whole)):
        try:
            parse(whole[:end])
        except Reject as reject:
            assert reject.reason == "malformed_bytes"  # noqa: PT017  # most ends are refused, one may not be
        else:
            ends.add(end)
    assert len(ends) < 3  # before the first and between the two


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ("01 67 01 10 02 ff 01", "byte 5: type 255 (0xff) is none of Cayenne LPP"),
        ("01 f0 0a 00", "byte 1: type 240 (0xf0) is none"),
        ("01 67 01", "byte 2: 'temperature_1' takes 2 bytes, and the payload ends after 1"),
        ("01 67 01 10 02", "byte 4: a channel without a type"),
    ],
)
def test_what_cannot_be_read_says_where(payload: str, said: str) -> None:
    """The rest behind an unknown type is not guessed at."""
    with pytest.raises(Reject) as refused:
        parse(bytes.fromhex(payload))
    assert refused.value.reason == "malformed_bytes"
    assert said in refused.value.detail


def test_a_channel_has_one_value_of_a_type() -> None:
    """Two of them would be one, and one value lost."""
    with pytest.raises(Reject, match="'temperature_1' is there for the second time") as refused:
        parse(bytes.fromhex("01 67 01 10 01 67 01 11"))
    assert refused.value.reason == "duplicate_key"


def test_it_is_a_preset() -> None:
    """`preset = "cayenne-lpp"` reads the bytes, or their text."""
    route = Route(format="bytes", bytes=Bytes(preset="cayenne-lpp", encoding="base64"))
    assert format_of(route, "route[0]").parse(b"A2cBEAVnAP8=") == {
        "temperature_3": 27.2,
        "temperature_5": 25.5,
    }


@given(st.binary(max_size=60))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_read_or_refused(payload: bytes) -> None:
    """Whatever comes, there is a message or a reason."""
    with suppress(Reject):
        parse(payload)


@given(st.lists(st.sampled_from(sorted(EXAMPLES)), max_size=6), st.integers(0, 60), st.integers(0, 255))
@settings(max_examples=150, deadline=None)
def test_a_changed_byte_breaks_nothing(parts: list[str], at: int, byte: int) -> None:
    """Likewise of payloads that were good."""
    payload = bytearray(bytes.fromhex("".join(parts)))
    if payload:
        payload[at % len(payload)] = byte
    with suppress(Reject):
        parse(bytes(payload))
