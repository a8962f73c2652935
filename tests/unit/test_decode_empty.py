"""Messages that say nothing: dead letters, unless their route leaves them out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.decode import Decoder, Limits, Reading, Received, Rejection
from gateway.decode.routes import compile_routes
from runtime.settings import Route
from tests.support.write_side import NOW, Delivered

EMPTY: list[tuple[bytes, dict[str, Any], list[str]]] = [
    (b'{"value": null}', {}, []),
    (b"{}", {}, []),
    (b"[]", {}, []),
    (b"null", {"format": "value"}, []),
    (b'{"value": null}', {"rename": {"a": "b"}}, []),
    (b"NaN", {"on_bad_field": "drop"}, ["power"]),
    (b"nan", {"on_bad_field": "drop", "format": "value"}, ["power"]),
    (b'{"a": NaN}', {"on_bad_field": "drop", "rename": {"c": "b"}}, ["a"]),
]


def decode(payload: bytes, words: dict[str, Any]) -> tuple[Decoder, list[Reading | Rejection]]:
    """What becomes of a message of device d, its metric power."""
    decoder = Decoder(compile_routes([Route(topic="{device_id}/{metric}", **words)]), Limits())
    return decoder, decoder.decode(Delivered("d/power", payload), Received.of(NOW))


@pytest.mark.parametrize(("payload", "words", "dropped"), EMPTY)
def test_left_out(payload: bytes, words: dict[str, Any], dropped: list[str]) -> None:
    """What says nothing is counted where its route leaves it out, and so is what it is without."""
    decoder, found = decode(payload, {**words, "empty": "ignore"})
    assert (found, decoder.empty) == ([], 1)
    assert sorted(name.removeprefix("power.") for _, name, _ in decoder.drops.counts) == dropped


@pytest.mark.parametrize(("payload", "words", "dropped"), EMPTY)
def test_refused(payload: bytes, words: dict[str, Any], dropped: list[str]) -> None:
    """Without a word it is a dead letter, and nothing is counted as left out."""
    decoder, found = decode(payload, words)
    assert [letter.reason for letter in found if isinstance(letter, Rejection)] == ["empty_message"], dropped
    assert (decoder.empty, decoder.drops.counts) == (0, {})


def test_what_says_something_stays() -> None:
    """A time or a key is something."""
    for payload in (b'{"ts": "2026-11-23T09:00:00Z", "value": null}', b'{"id": "1"}'):
        decoder, found = decode(payload, {"empty": "ignore"})
        assert [type(each) for each in found] == [Reading]
        assert decoder.empty == 0


@pytest.mark.parametrize(
    ("payload", "words", "values", "empty"),
    [
        (b'{"items": [{"v": null}, {"v": 5}]}', {"each": "items[?@]"}, [5], 1),
        (b'{"items": [{"v": null}, {"v": 5}]}', {"each": "items"}, [5], 1),
        (b'[{"v": null}, {"v": 5}, {}]', {}, [5], 2),
        (b'[{"v": null}, {"v": 5}]', {"rename": {"a": "b"}}, [5], 1),
        (b'{"v": null}\n{"v": 5}', {"format": "ndjson"}, [5], 1),
        (
            b'{"items": [{"v": null}]}\n{"items": [{"v": 5}]}',
            {"format": "ndjson", "each": "items"},
            [5],
            1,
        ),
        (b'{"items": []}\n{"items": [{"v": 5}]}', {"format": "ndjson", "each": "items"}, [5], 1),
        (b'{"items": [{}, {}]}', {"each": "items"}, [], 2),
        (b'{"items": [null], "x": {"y": []}}', {"each": "items"}, [], 1),
    ],
)
def test_one_of_several(payload: bytes, words: dict[str, Any], values: list[int], empty: int) -> None:
    """Of several readings those that say nothing are left out and counted, and the others are stored."""
    decoder, found = decode(payload, {**words, "empty": "ignore"})
    assert all(isinstance(each, Reading) for each in found), found
    said = [
        list(json.loads(bytes(each.event.metrics)).values()) for each in found if isinstance(each, Reading)
    ]
    assert said == [[each] for each in values]
    assert decoder.empty == empty


@pytest.mark.parametrize("payload", [b'{"other": {"v": 5}}', b'{"items": [], "v": 5}', b"[5]"])
@pytest.mark.parametrize("each", ["items", "items[?@]"])
def test_no_reading_beside_something(payload: bytes, each: str) -> None:
    """A message that says something where no reading is looked for is refused, whatever its route says."""
    decoder, found = decode(payload, {"each": each, "empty": "ignore"})
    assert [letter.reason for letter in found if isinstance(letter, Rejection)] == ["empty_message"]
    assert decoder.empty == 0
    decoder, found = decode(payload, {"each": each, "empty": "ignore", "format": "ndjson"})
    assert [letter.reason for letter in found if isinstance(letter, Rejection)] == ["empty_message"]
    assert decoder.empty == 0
