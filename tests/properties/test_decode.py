"""What holds for every payload, whatever is in it."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from gateway.decode import Reading, Rejection
from tests.unit.test_decode import decode

SCALARS = st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=True) | st.text(max_size=8)
VALUES = st.recursive(
    st.none() | SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["id", "ts", "time", "region", "device_id", "metrics", "x", "y", ":", ""])
OBJECTS = st.dictionaries(NAMES | st.text(max_size=4), VALUES, max_size=6)
METRICS = st.dictionaries(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=6),
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(-1e300, 1e300)
    | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8),
    max_size=6,
)


@given(st.binary(max_size=200))
@example(b'{"a":' * 900 + b"1" + b"}" * 900)
def test_any_bytes_have_an_outcome(payload: bytes) -> None:
    """No bytes crash the decoder: each payload is readings or rejections, at least one."""
    items = decode(payload)
    assert items or not payload
    assert all(isinstance(item, (Reading, Rejection)) for item in items)


@given(st.lists(OBJECTS, min_size=1, max_size=4))
def test_any_json_has_an_outcome_for_each_element(elements: list[dict[str, Any]]) -> None:
    """An array of whatever JSON allows gives one outcome an element, or one for the whole."""
    items = decode(json.dumps(elements).encode())
    assert len(items) in {1, len(elements)}


@given(st.integers(-(10**21), 10**21) | st.floats(allow_nan=False, allow_infinity=False))
@example(-90_000_000_000)
@example(10**11 - 1)
@example(10**14 - 1)
@example(10**17 - 1)
def test_any_number_as_time_has_an_outcome(time: float) -> None:
    """No epoch time crashes the decoder, whatever unit it is taken for."""
    (item,) = decode(json.dumps({"id": "k", "ts": time}).encode())
    assert isinstance(item, Reading) or item.reason in {"invalid_time", "time_out_of_range"}


@given(METRICS)
def test_metrics_arrive_as_they_were_sent(metrics: dict[str, Any]) -> None:
    """Every scalar in `metrics` is stored with its name, value and type."""
    (item,) = decode(json.dumps({"id": "k", "metrics": metrics}, ensure_ascii=False).encode())
    assert isinstance(item, Reading), item
    stored = json.loads(bytes(item.event.metrics))
    assert stored == metrics
    assert {name: type(value) for name, value in stored.items()} == {n: type(v) for n, v in metrics.items()}


@given(OBJECTS.filter(bool), st.data())
def test_a_key_given_twice_never_passes(object_: dict[str, Any], data: st.DataObject) -> None:
    """However a name is repeated, with whatever around it, the payload is not taken for a reading."""
    name = data.draw(st.sampled_from(sorted(object_)))
    space = data.draw(st.sampled_from(["", " ", "\t", "\n "]))
    body = json.dumps(object_, ensure_ascii=data.draw(st.booleans()))[:-1]
    again = f"{json.dumps(name)}{space}:{json.dumps(data.draw(VALUES))}"
    items = decode(f"{body},{again}}}".encode(errors="surrogatepass"))
    assert all(isinstance(item, Rejection) for item in items)
