"""What one sender can cost: letters, memory, names."""

from __future__ import annotations

import json
import tracemalloc

import pytest

from gateway.decode import Decoder, Limits, Reading, Received, Rejection
from gateway.decode.known import Memo, Names
from gateway.decode.routes import compile_routes
from runtime.settings import Route
from tests.support.write_side import NOW, Delivered

TOPIC = "devices/a1/telemetry"


def decoder(route: Route | None = None, limits: Limits | None = None) -> Decoder:
    return Decoder(compile_routes([route or Route()]), limits or Limits())


def decode(payload: bytes, by: Decoder) -> list[Reading | Rejection]:
    return by.decode(Delivered(TOPIC, payload), Received.of(NOW))


@pytest.mark.parametrize(("size", "most"), [(262_144, 16_000_000), (2_000_000, 40_000_000)])
def test_an_array_of_rubbish_is_one_letter(size: int, most: int) -> None:
    """An array of which no element can be a reading is kept as one letter, and costs little memory."""
    payload = b"[" + b"0," * ((size - 3) // 2) + b"0]"
    by = decoder(limits=Limits(max_payload_bytes=size))
    tracemalloc.start()
    try:
        (letter,) = decode(payload, by)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(letter, Rejection)
    assert (letter.reason, letter.payload) == ("many_bad_elements", payload)
    assert peak < most


def test_bad_elements_beyond_the_tenth_share_a_letter() -> None:
    """Ten are kept one by one; the rest is one letter, an array that can be replayed, with its reasons."""
    elements = [b'{"id":"1","x":1}'] + [b'{"id":"b%d","ts":"never"}' % n for n in range(15)] + [b"[ ]", b"7"]
    items = decode(b"[" + b" , ".join(elements) + b"]", decoder())
    assert isinstance(items[0], Reading)
    letters = [item for item in items if isinstance(item, Rejection)]
    assert len(letters) == 11
    assert [letter.payload for letter in letters[:10]] == elements[1:11]
    rest = letters[-1]
    assert rest.reason == "many_bad_elements"
    assert rest.payload == b"[" + b",".join(elements[11:]) + b"]"
    assert rest.error.startswith(
        "7 more elements of one payload: 5 invalid_time, 2 wrong_root; the first, element 11: "
    )


def test_many_bad_elements_cost_little_memory() -> None:
    """One good element among very many bad ones does not make a letter of each."""
    payload = b'[{"id":"1"},' + b"0," * 2_000 + b"0]"
    by = decoder()
    tracemalloc.start()
    try:
        items = decode(payload, by)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(items) == 12
    assert peak < 1_000_000
    (letter,) = decode(b'[{"id":"1"},' + b"0," * 120_000 + b"0]", by)
    assert isinstance(letter, Rejection)
    assert letter.reason == "too_many_readings"


@pytest.mark.parametrize("on_bad_field", ["reject", "drop"])
def test_a_name_repeated_by_depth_costs_no_more_than_the_payload(on_bad_field: str) -> None:
    """A long name over very many values is not written out for each of them."""
    payload = b'{"id":"k","' + b"n" * 100_000 + b'":[' + b"1," * 20_000 + b"1]}"
    by = decoder(Route(on_bad_field=on_bad_field))  # type: ignore[arg-type]  # one of two words
    tracemalloc.start()
    try:
        (item,) = decode(payload, by)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(item, Reading) == (on_bad_field == "drop")
    assert peak < 10_000_000


def test_depth_is_bounded() -> None:
    """A value deeper than 32 objects is refused with the way out in the error, or left out."""
    payload = b'{"id":"k","x":1,"d":' + b'{"a":' * 40 + b"1" + b"}" * 40 + b"}"
    (refused,) = decode(payload, decoder())
    assert isinstance(refused, Rejection)
    assert (refused.reason, 'on_bad_field = "drop"' in refused.error) == ("too_deep", True)
    by = decoder(Route(on_bad_field="drop"))
    (reading,) = decode(payload, by)
    assert isinstance(reading, Reading)
    assert json.loads(bytes(reading.event.metrics)) == {"x": 1}
    assert [reason for _, _, reason in by.drops.counts] == ["too_deep"]


def test_metrics_are_bounded() -> None:
    """One metric more than gateway.max_metrics is refused, or left out; nested ones count like others."""
    for payload in (
        json.dumps({f"m{n}": n for n in range(11)}).encode(),
        json.dumps({"data": list(range(11))}).encode(),
        json.dumps({"metrics": {f"m{n}": n for n in range(11)}}).encode(),
    ):
        (refused,) = decode(payload, decoder(limits=Limits(max_metrics=10)))
        assert isinstance(refused, Rejection)
        assert "gateway.max_metrics" in refused.error
        by = decoder(Route(on_bad_field="drop"), Limits(max_metrics=10))
        (reading,) = decode(payload, by)
        assert isinstance(reading, Reading)
        assert len(json.loads(bytes(reading.event.metrics))) == 10
        assert sum(by.drops.counts.values()) == 1


def test_names_of_dropped_fields_are_bounded() -> None:
    """A sender who makes up names fills no memory and no metric with them; each dropped field is counted."""
    by = decoder(Route(on_bad_field="drop"))
    for n in range(500):
        decode(b'{"id":"k","n%d":nan}' % n, by)
    assert len(by.drops.counts) <= 101
    assert sum(by.drops.counts.values()) == 500
    assert by.drops.counts[Route().topic, "other", "malformed_json"] == 400
    assert len(by.drops.news()) == 101
    assert by.drops.news() == []


@pytest.mark.parametrize("field", [b'"%s":1', b'"%s":nan', b'"%s":{"a":1}', b'"a":{"%s":{"b":1}}'])
def test_a_dropped_name_is_cut(field: bytes) -> None:
    """However long a name is, its count has so much of it as a metric's name may have."""
    by = decoder(Route(on_bad_field="drop"))
    decode(b'{"id":"k",' + field % (b"n" * 10_000) + b"}", by)
    ((_, name, _),) = by.drops.counts
    assert len(name) == Limits().max_metric_name


def test_topics_are_remembered_up_to_a_number_of_bytes() -> None:
    """Long topics push others out instead of filling the memory, and what was asked for lately stays."""
    memo: Memo[str] = Memo(1_000_000)
    tracemalloc.start()
    try:
        for n in range(300):
            memo.keep(f"{n:064000d}", "v")
            assert (memo.get("hot") or memo.recall("hot")) is None or n
            memo.keep("hot", "v") if memo.get("hot") is None else None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert memo.get("hot") or memo.recall("hot")
    assert len(memo) < 20
    assert peak < 2_000_000


def test_names_are_remembered_up_to_a_number_of_bytes() -> None:
    """The set begins anew when it is full, so that names of today are known whatever came before."""
    names = Names(100_000)
    for n in range(10_000):
        names.add(f"name-{n}")
    assert len(names.seen) < 1_000
    assert "name-9999" in names.seen


@pytest.mark.parametrize(
    ("payload", "fixed"),
    [
        (b"[" + b'{"x":1},' * 8000 + b'{"x":1}]', False),
        (b'{"x":[' + b"[]," * 20_000 + b"[]]}", True),
    ],
)
def test_a_letter_says_whether_a_replay_takes_more(payload: bytes, *, fixed: bool) -> None:
    """Of a message of too many readings ten times as many; of what a format looks at one by one no more."""
    (letter,) = decode(payload, decoder())
    assert isinstance(letter, Rejection)
    said = "a replay takes no more" if fixed else "`gateway dead-letters replay` takes 10 times as many"
    assert letter.error.endswith(said)
    again = decode(payload, decoder(limits=Limits().unhurried))
    assert any(isinstance(item, Rejection) for item in again) is fixed
