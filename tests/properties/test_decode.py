"""What holds for every payload, whatever is in it."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Literal

from hypothesis import example, given
from hypothesis import strategies as st

from gateway.decode import Decoder, Limits, Reading, Received, Rejection
from gateway.decode.routes import compile_routes
from runtime.settings import Route
from tests.support.write_side import NOW, Delivered
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


def scalars(value: Any, path: tuple[str, ...] = ()) -> list[tuple[str, Any]]:  # noqa: ANN401  # any JSON
    """Every scalar of a value with its path; members of an object `metrics` go by their own names."""
    if isinstance(value, dict):
        members = list(value.items())
    elif isinstance(value, list):
        members = [(str(n), inner) for n, inner in enumerate(value)]
    else:
        return [] if value is None else [(".".join(path), value)]
    found: list[tuple[str, Any]] = []
    for name, inner in members:
        bare = path == () and name == "metrics" and isinstance(inner, dict)
        found += scalars(inner, () if bare else (*path, name))
    return found


def same(stored: Any, sent: Any) -> bool:  # noqa: ANN401  # any scalar
    """Whether a stored value is the one that was sent; integers beyond 64 bits are their digits."""
    if type(sent) is int and not -(2**63) <= sent < 2**63:
        return bool(stored == str(sent))
    return type(stored) is type(sent) and bool(stored == sent)


@given(
    object_=OBJECTS,
    drop=st.sampled_from(["drop", "reject"]),
    key=st.sampled_from(["", "x", "x.y", "id | message_id | idempotency_key"]),
)
@example(object_={"a.b": 1, "a": {"b": 2}}, drop="drop", key="")
@example(object_={"metrics": {"metrics": {"x": 1}}, "x": 2}, drop="drop", key="")
def test_every_scalar_has_a_place(object_: dict[str, Any], drop: Literal["drop", "reject"], key: str) -> None:
    """Each scalar of any object is in its row by its path, or refused with it, or counted as left out."""
    route = Route(key=key, on_bad_field=drop)
    decoder = Decoder(compile_routes([route]), Limits())
    payload = json.dumps(object_).encode()
    (item,) = decoder.decode(Delivered("devices/a1/telemetry", payload), Received.of(NOW))
    if isinstance(item, Rejection):
        assert item.payload == payload
        return
    left_out = Counter(name for _, name, _ in decoder.drops.counts.elements())
    stored = json.loads(bytes(item.event.metrics))
    meant = Counter({"key": 1, "time": 1, "region": 1, "device_id": 1})
    meaning = {**dict.fromkeys(key.split(" | "), "key"), **dict.fromkeys(("ts", "timestamp", "time"), "time")}
    for path, value in scalars(object_):
        if path in stored and same(stored[path], value):
            del stored[path]
        elif any(left_out[name] for name in (path, "other") if name in left_out):
            left_out[path if path in left_out else "other"] -= 1
        elif not any(
            path.startswith(f"{name}.") for name in left_out
        ):  # a part that is too deep, as one field
            meant[meaning.get(path, path)] -= 1
    assert stored == {}
    assert set(meant) == {"key", "time", "region", "device_id"}
    assert all(left >= 0 for left in meant.values())


@given(st.binary(max_size=60), st.binary(max_size=60), OBJECTS, OBJECTS)
def test_payloads_that_differ_are_not_taken_for_one(
    a: bytes, b: bytes, c: dict[str, Any], d: dict[str, Any]
) -> None:
    """Two payloads that differ in any byte never have the same identity and content."""
    for one, other in ((a, b), (json.dumps(c).encode(), json.dumps(d).encode())):
        items = [item for payload in {one, other} for item in decode(payload) if isinstance(item, Reading)]
        whole = [item for item in items if item.raw in {one, other}]
        assert len({(item.identity, item.content) for item in whole}) == len(whole)
