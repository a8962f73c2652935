"""Whatever fails while a message is decoded is a dead letter of that message, and the next one is read."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.decode import Decoder, Limits, Reading, Received, Rejection
from gateway.decode.formats.compression import Unpacking
from gateway.decode.routes import compile_routes
from gateway.decode.shaped_reader import ShapedReader
from runtime.settings import Route
from tests.support.write_side import NOW, Delivered


def fail(*_args: Any, **_words: Any) -> Any:  # noqa: ANN401  # in place of anything
    raise ZeroDivisionError("a bug")


def decoder_of(**words: Any) -> Decoder:  # noqa: ANN401  # of a route
    return Decoder(compile_routes([Route(topic="{device_id}/t", **words)]), Limits())


def decode(decoder: Decoder, payload: bytes) -> list[Reading | Rejection]:
    return decoder.decode(Delivered("d/t", payload), Received.of(NOW))


@pytest.mark.parametrize(
    ("words", "payload", "broken"),
    [
        ({}, b'{"v": 1}', {"parse": fail}),
        ({}, b'{"v": 1}', {"unpacking": Unpacking(frozenset(b"{"), fail)}),
        ({}, b'[{"v": 1}]', {"elements": fail}),
        ({"each": "a"}, b'{"a": [{"v": 1}, {"v": 2}]}', {"write": fail}),
        ({"rename": {"v": "w"}}, b'[{"v": 1}, {"v": 2}]', {"elements": fail}),
        ({"each": "a", "format": "ndjson"}, b'{"a": [{"v": 1}]}\n{"a": [{"v": 2}]}', {"elements": fail}),
    ],
)
def test_a_format_that_fails(words: dict[str, Any], payload: bytes, broken: dict[str, Any]) -> None:
    """The message is refused with all of its bytes."""
    decoder = decoder_of(**words)
    whole = decoder._readers[0].form
    decoder._readers[0].form = whole._replace(**broken)
    (letter,) = decode(decoder, payload)
    assert isinstance(letter, Rejection)
    assert (letter.reason, letter.payload) == ("undecodable", payload)
    assert "a bug" in letter.error
    decoder._readers[0].form = whole
    assert all(isinstance(each, Reading) for each in decode(decoder, payload))


def test_a_line_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of lines only that one is refused."""
    decoder = decoder_of(each="a", format="ndjson")
    reader = decoder._readers[0]
    assert isinstance(reader, ShapedReader)
    shaper = reader.shaper
    parts = shaper.parts
    monkeypatch.setattr(shaper, "parts", lambda value, *more: fail() if "b" in value else parts(value, *more))
    good, bad = decode(decoder, b'{"a": [{"v": 1}]}\n{"b": 1}')
    assert isinstance(good, Reading)
    assert isinstance(bad, Rejection)
    assert (bad.reason, bad.payload) == ("undecodable", b'{"b": 1}')
