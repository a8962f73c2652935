"""A value by itself: what its text is, and what names it."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decode import Decoder, Limits, Reading, Received
from gateway.decode.fields import NoNumber
from gateway.decode.formats import format_of
from gateway.decode.routes import compile_routes
from runtime.errors import ConfigurationError, Reject
from runtime.settings import Route
from tests.support.write_side import NOW, Delivered

TOPIC = "home/{device_id}/{metric}"
FORM = format_of(Route(topic=TOPIC, format="value"), "route[0]")


def metrics_of(payload: bytes, level: str = "x", **words: Any) -> Any:  # noqa: ANN401  # words of a route
    """The metrics of a message, or the reason why it was refused."""
    route = Route(**{"topic": TOPIC, "format": "value", **words})
    delivery = Delivered(f"home/a1/{level}", payload)
    (item,) = Decoder(compile_routes([route]), Limits()).decode(delivery, Received.of(NOW))
    return json.loads(bytes(item.event.metrics)) if isinstance(item, Reading) else item.reason


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        (b"23.5", 23.5),  # ESPHome, Shelly
        (b"-61", -61),
        (b"0", 0),
        (b"0.00", 0.0),
        (b" 21.5\r\n", 21.5),
        (b"21.5\x00", 21.5),
        (b"1e-05", 1e-05),
        (b"1.5E3", 1500.0),
        (b"18446744073709551616", 18446744073709551616),
        (b"-" + b"7" * 5000, "-" + "7" * 5000),
        (b"true", True),  # Homie, Shelly
        (b"false", False),
        (b"ON", "ON"),  # Tasmota
        (b"online", "online"),
        (b"unavailable", "unavailable"),  # Home Assistant
        (b"True", "True"),
        (b"null", {}),  # Home Assistant's attributes: no value
        (b'"null"', "null"),
        (b"23.5 \xc2\xb0C", "23.5 °C"),
        (b"\xef\xbb\xbf23.5", 23.5),
        (b"21,5", "21,5"),
        (b"007", "007"),
        (b"+5", "+5"),
        (b".5", ".5"),
        (b"5.", "5."),
        (b"0x1F", "0x1F"),
        (b"1_000", "1_000"),
        (b"12e45", "12e45"),
        (b"7e10", "7e10"),
        ("٣".encode(), "٣"),
        (b"2026-11-23T09:00:00Z", "2026-11-23T09:00:00Z"),
        (b"1.2.3", "1.2.3"),
        (b'"ON"', "ON"),  # Home Assistant's attributes
        (b'"1.10"', "1.10"),
        (b'"a\\u00b5"', "aµ"),
        (b'"half', '"half'),
        (b'"a" and "b"', '"a" and "b"'),
        (b"[255,120,0]", {"0": 255, "1": 120, "2": 0}),
        (b'{"mode":"heat"}', {"mode": "heat"}),
        (b"{unknown}", "{unknown}"),
    ],
)
def test_values(payload: bytes, value: object) -> None:
    """A text that JSON would call a number is one; what an identifier may look like stays a text."""
    found = FORM.parse(payload)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", ["nan", "NaN", "-nan", "inf", "-Infinity", "1.#QNAN", "-1.#IND00"])
def test_no_numbers(text: str) -> None:
    """What programs print for a number that is none is neither a number nor a text."""
    found = FORM.parse(text.encode())
    assert isinstance(found, NoNumber)
    assert (found.reason, found.text) == ("malformed_value", text)
    assert metrics_of(text.encode()) == "malformed_value"


def test_a_number_beyond_all() -> None:
    """A number that no double can hold is refused, and not made infinite."""
    assert metrics_of(b"1e+400") == "number_out_of_range"


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b" \n", "empty_message"),
        (b"\x00", "empty_message"),
        (b"caf\xe9", "not_utf8"),
        (b"a\x00b", "invalid_string"),
        (b'{"a":1,"a":2}', "duplicate_key"),
    ],
)
def test_refused(payload: bytes, reason: str) -> None:
    """An empty text, bytes that are no text, and what could be read in two ways are letters."""
    assert metrics_of(payload) == reason


def test_the_topic_names_it() -> None:
    """The level of {metric} is the metric's name; a structure stands under it."""
    assert metrics_of(b"23.5", "temperature") == {"temperature": 23.5}
    assert metrics_of(b"[255,120,0]", "rgb") == {"rgb.0": 255, "rgb.1": 120, "rgb.2": 0}


def test_the_route_names_it() -> None:
    """Where the topic has no level for it, the route says the name."""
    assert metrics_of(b"23.5", topic="home/{device_id}/x", metric="temperature") == {"temperature": 23.5}


def test_the_words_of_a_route() -> None:
    """Texts become numbers by states, and by from_text those that a number is not taken for by itself."""
    assert metrics_of(b"ON", states={"ON": 1, "OFF": 0}) == {"x": 1.0}
    assert metrics_of(b"21,5", numbers="from_text") == {"x": 21.5}
    assert metrics_of(b"-61 dBm", numbers="from_text_with_unit") == {"x": -61.0, "x.unit": "dBm"}


def test_nothing_names_it() -> None:
    """A route by which a value would have no name is refused at start, with what to do."""
    with pytest.raises(
        ConfigurationError, match=r"route\[3\]\.metric: .*put \{metric\} into the topic 'home/\+/x'"
    ):
        format_of(Route(topic="home/+/x", format="value"), "route[3]")
    format_of(Route(topic="home/+/x", format="value", ignore=True), "route[3]")


def test_one_element() -> None:
    """A payload is one value: there is nothing to cut."""
    assert FORM.elements(b"23.5") == [b"23.5"]
    assert FORM.join([b"23.5"]) == b"23.5"


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=40),
        st.text(alphabet='0123456789.eE+-naif{}[]",: \x00', max_size=30).map(str.encode),
    )
)
def test_whatever_comes(payload: bytes) -> None:
    """Any bytes are a value or refused; no list comes out."""
    with contextlib.suppress(Reject):
        assert type(FORM.parse(payload)) in {str, int, float, bool, dict, NoNumber}


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(10**19), 10**19)))
def test_what_a_program_prints(number: float) -> None:
    """A number as Python prints it, and so as JSON has it, comes back."""
    assert FORM.parse(json.dumps(number).encode()) == number
