"""What is read from a view's hash, and the places in a list."""

from __future__ import annotations

import base64

import pytest

from projector.query import Place
from projector.query.stats import device_stats
from projector.views.numbers import number_text

OWN = {
    b"device_id": b"d",
    b"last_seen": b"2026-11-23T09:00:00.000000Z",
    b"last_seen_ms": b"1795424400000",
    b"updated_at": b"2026-11-23T09:00:00.000000Z",
    b"updated_ms": b"1795424400000",
    b"sample_count": b"2",
}
NUMERIC = {b"min_t": b"1", b"max_t": b"2", b"avg_t": b"1.5", b"sum_t": b"3", b"count_t": b"2"}


@pytest.mark.parametrize("value", [0, -1, 21.5, 1e16, -1.5e-7, 5e-324, 1.7976931348623157e308, 2**53])
def test_a_number_is_a_number(value: float) -> None:
    """Whatever the fold writes as a last value comes back as the same double."""
    stats = device_stats({**OWN, **NUMERIC, b"last_t": number_text(value).encode()})
    assert stats.metrics["t"].last == value
    assert isinstance(stats.metrics["t"].last, float)


@pytest.mark.parametrize(
    "text",
    [
        "nan",
        "inf",
        "-Infinity",
        "1_0",
        " 1",
        "007",
        "+1",
        "1e999",
        "0x10",
        "",
        "٣",
        "1.10",
        "1.0",
        "-0",
        "1e5",
    ],
)
def test_a_string_is_a_string(text: str) -> None:
    """A metric that was a number and is a string now keeps it, also where Python reads a number."""
    stats = device_stats({**OWN, **NUMERIC, b"last_t": text.encode()})
    assert stats.metrics["t"].last == text


def test_names_that_look_like_ours() -> None:
    """A metric named `seen` has no last value, as its field is taken; underscores belong to names."""
    numeric = {name.replace(b"_t", b"_seen"): value for name, value in NUMERIC.items()}
    stats = device_stats({**OWN, **numeric, b"last_at_the_gate": b"open"})
    assert stats.metrics["seen"].last is None
    assert stats.metrics["seen"].sum == 3.0
    assert stats.metrics["at_the_gate"].last == "open"


@pytest.mark.parametrize("place", [Place(0, "a"), Place(-5, 'é" \\x'), Place(2**62, "d" * 128)])
def test_places_survive_a_url(place: Place) -> None:
    """A place comes back from its text, which needs no escaping."""
    assert Place.parse(place.token) == place
    assert place.token.replace("-", "").replace("_", "").isalnum()


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "====",
        "é",
        *(base64.b64encode(raw).decode() for raw in (b"[1]", b'["1","a"]', b'[1,"\xff"]')),
    ],
)
def test_other_text_is_no_place(token: str) -> None:
    """What we have not written is refused."""
    with pytest.raises(ValueError, match="no place in the list"):
        Place.parse(token)
