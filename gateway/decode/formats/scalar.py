"""A value by itself, as text: `23.5`, `ON`, `-61`, `online`; its topic or its route names the metric.

White space around it counts for nothing, nor does a NUL at its end, which senders in C leave there. What is
a number, and what only looks like one, says `texts`; in quotation marks, as a JSON string, everything is a
text: `"1.10"`. An object or array of JSON is what it says, an array by its indices, and `null` is no value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from gateway.decode.formats import strict_json
from gateway.decode.formats.form import Format
from gateway.decode.formats.texts import read_text
from gateway.decode.limits import MAX_ELEMENTS, check_count
from gateway.decode.templates import compile_template
from runtime.errors import ConfigurationError, Reject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runtime.settings import Route

_NULL: Final = "null"
_decode_string = msgspec.json.Decoder(str).decode


def make(route: Route, where: str) -> Format:
    """The format of a route.

    Raises:
        ConfigurationError: nothing names the metric.
    """
    named = route.metric or "metric" in compile_template(route.topic, f"{where}.topic").names
    if not named and route.ignore is not True:
        raise ConfigurationError(
            f"{where}.metric: a value has no name of its own: put {{metric}} into the topic {route.topic!r}, "
            f'where it says what the value is, or give a name here, such as metric = "temperature"'
        )
    return Format(parse, elements, join)


def parse(payload: bytes) -> Any:  # noqa: ANN401  # of JSON, any value
    """The value of a payload; never a list.

    Raises:
        Reject: it is no UTF-8, or empty.
    """
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        detail = f'byte {error.start} is not UTF-8; binary values are format = "bytes"'
        raise Reject("not_utf8", detail) from None
    text = text.removeprefix("\ufeff").removesuffix("\x00").strip()
    if not text:
        raise Reject("empty_message", "there is nothing but white space in it")
    first = text[0]
    if first == '"':
        return _unquoted(text)
    if first in "{[":
        return _structure(text)
    if text == _NULL:
        return {}
    return read_text(text, "malformed_value")


def elements(payload: bytes) -> list[bytes]:
    """The payload: it is one value."""
    return [payload]


def join(elements_: Sequence[bytes | memoryview]) -> bytes:
    """The payload that was one value."""
    return bytes(elements_[0])


def _unquoted(text: str) -> str:
    try:
        return _decode_string(text)
    except msgspec.DecodeError:
        return text


def _structure(text: str) -> Any:  # noqa: ANN401  # JSON is any value
    """What JSON says; a text that only begins like it is a text."""
    try:
        value = strict_json.parse(text.encode())
    except Reject as reject:
        if reject.reason == "malformed_json":
            return text
        raise
    if type(value) is list:
        check_count(len(value), MAX_ELEMENTS, "values")
        return {str(i): each for i, each in enumerate(value)}
    return value
