"""Strict JSON: what msgspec lets pass and a system of record must not.

msgspec refuses most of what is wrong. Two things it does not see are looked for here, on a fast path that
counts quotation marks: a key given twice (the last would win silently) and NUL in a string (PostgreSQL's text
cannot hold it). Integers beyond 64 bits, on which readers of JSON do not agree, are refused where a value is
used: as key, time or metric.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from runtime.errors import Reject

_decode = msgspec.json.Decoder().decode
_decode_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode


def parse(payload: bytes) -> Any:  # noqa: ANN401  # JSON is any value
    """Parse a payload strictly.

    Raises:
        Reject: with the reason and, where there is one, the position.
    """
    try:
        value = _decode(payload)
        if b"\\" in payload or payload.count(b'"') != _quotation_marks(value):
            _check_slowly(payload)
    except UnicodeDecodeError as error:
        raise _malformed(payload, error) from None
    except RecursionError:
        raise Reject("too_deep", "nested too deeply") from None
    except msgspec.ValidationError as error:
        raise Reject("number_out_of_range", str(error)) from None
    except msgspec.DecodeError as error:
        raise _malformed(payload, error) from None
    return value


def elements(payload: bytes) -> list[msgspec.Raw]:
    """The bytes of each element of an array payload, as they came."""
    return _decode_elements(payload)


def _malformed(payload: bytes, error: Exception) -> Reject:
    try:
        payload.decode()
    except UnicodeDecodeError as wrong:
        return Reject("not_utf8", f"byte {wrong.start} is not UTF-8")
    return Reject("malformed_json", str(error))


def _quotation_marks(value: Any) -> int:  # noqa: ANN401  # JSON is any value
    """How many a text without escapes has if every key in it is here: two for each key and for each string.

    A key given twice leaves marks over, its own at the least.
    """
    kind = type(value)
    if kind is dict:
        total = 2 * len(value)
        value = value.values()
    elif kind is list:
        total = 0
    else:
        return 2 if kind is str else 0
    for item in value:
        kind = type(item)
        if kind is str:
            total += 2
        elif kind is dict or kind is list:
            total += _quotation_marks(item)
    return total


def _check_slowly(payload: bytes) -> None:
    """Look at every key and string; only payloads with escapes or with marks left over come here."""
    try:
        json.loads(payload, object_pairs_hook=_checked_object)
    except ValueError as error:  # what the two parsers disagree on is not JSON that everyone reads alike
        raise Reject("malformed_json", str(error)) from None


def _checked_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in pairs:
        if name in result:
            raise Reject("duplicate_key", f"key {name[:40]!r} appears twice in one object")
        if "\x00" in name or _has_nul(value):
            raise Reject("invalid_string", f"key or value of {name[:40]!r} contains NUL")
        result[name] = value
    return result


def _has_nul(value: object) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    return isinstance(value, list) and any(map(_has_nul, value))
