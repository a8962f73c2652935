"""Strict JSON: what msgspec lets pass and a system of record must not, and what it refuses too soon.

A key given twice, of which the last would win silently, is looked for on a fast path that counts quotation
marks. Numbers that msgspec cannot hold, and `nan` or `Infinity` where a number should stand, are no reason to
lose the fields beside them: such a payload is read once more, slowly, and they come out as `NoNumber`,
integers of any length as the text of their digits.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gateway.decode.fields import NoNumber
from gateway.decode.formats.form import Format
from gateway.decode.limits import MAX_ODD, MAX_VALUES, too_many_values
from runtime.errors import Reject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runtime.settings import Route

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder(enc_hook=lambda number: msgspec.Raw(str(number).encode())).encode
_decode_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode

# What msgspec reads, an unfinished string to its end, so that the search goes over a payload once; and a word
# or number after it that may be none.
_TOKENS: Final = re.compile(
    rb"""((?:"(?:[^"\\]|\\.)*+"?|[^"A-Za-z0-9.#_+-]++"""
    rb"""|(?:true|false|null|-?[0-9]{1,15}(?:\.[0-9]{1,15})?)(?![A-Za-z0-9.#_()+-]))*+)"""
    rb"""([A-Za-z0-9.#_+-][A-Za-z0-9.#_()+-]*)?""",
    re.DOTALL,
)
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_NOT_FINITE: Final = re.compile(
    rb"[-+]?(?:1\.#)?(?:s?nan|qnan|ind|inf|infinity)(?:\([a-z0-9]*\))?0*", re.IGNORECASE
)
_NUMBER: Final = re.compile(rb"-?(?:0|[1-9][0-9]*)(?P<rest>(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)")
_SHORT: Final = 18  # digits that fit into 64 bits for sure
_LONG: Final = 20  # and so many do not

_BEGINNINGS: Final = (  # of what is taken for JSON and is none
    (b"\xef\xbb\xbf", "a byte-order mark (EF BB BF) stands in front: send UTF-8 without it"),
    (b"\xff\xfe", "this is UTF-16, by its byte-order mark: send UTF-8"),
    (b"\xfe\xff", "this is UTF-16, by its byte-order mark: send UTF-8"),
    (b"\x1f\x8b", "this is gzip: send it unpacked"),
    (b"\x78\x01", "this is zlib's deflate: send it unpacked"),
    (b"\x78\x9c", "this is zlib's deflate: send it unpacked"),
    (b"\x78\xda", "this is zlib's deflate: send it unpacked"),
    (b"\x28\xb5\x2f\xfd", "this is zstd: send it unpacked"),
)


def make(_route: Route, _where: str) -> Format:
    """The format of a route."""
    return Format(parse, elements, join, write, quick=True)


def parse(payload: bytes) -> Any:  # noqa: ANN401  # JSON is any value
    """Parse a payload strictly.

    Raises:
        Reject: with the reason and, where there is one, the position.
    """
    try:
        return parse_sound(payload)
    except msgspec.DecodeError as error:
        return parse_odd(payload, error)


def parse_sound(payload: bytes) -> Any:  # noqa: ANN401  # likewise
    """Parse a payload that is JSON as everybody reads it.

    Raises:
        msgspec.DecodeError: it may be none.
        Reject: it is none that is let pass.
    """
    try:
        if len(payload) > MAX_VALUES and payload.count(b"[") + payload.count(b"{") > MAX_VALUES:
            _check_holders(payload)
        value = _decode(payload)
        if b"\\" in payload or payload.count(b'"') != _quotation_marks(value):
            _check_slowly(payload)
    except UnicodeDecodeError as error:
        raise _malformed(payload, error) from None
    except RecursionError:
        raise Reject("too_deep", "nested too deeply") from None
    return value


def parse_odd(payload: bytes, error: msgspec.DecodeError) -> Any:  # noqa: ANN401  # likewise
    """Parse one that msgspec cannot hold, by this error; see `parse`."""
    softened = _soften(payload)
    if softened == payload:
        raise _malformed(payload, error) from None
    parse(softened)
    return _read_slowly(payload)


def elements(payload: bytes) -> Sequence[bytes | memoryview]:
    """The bytes of each element of an array payload, as they came."""
    try:
        return _decode_elements(payload)
    except msgspec.DecodeError:
        pass
    at, found = 0, []
    softened = _soften(payload)
    for raw in _decode_elements(softened):
        at = softened.index(raw, at)
        found.append(payload[at : at + len(bytes(raw))])
        at += len(bytes(raw))
    return found


def join(elements_: Sequence[bytes | memoryview]) -> bytes:
    """An array payload of elements."""
    return b"[" + b",".join(elements_) + b"]"


def write(value: Any) -> bytes:  # noqa: ANN401  # JSON is any value
    """A payload of a value; a number that is none stands as it was written."""
    return _encode(value)


def _soften(payload: bytes) -> bytes:
    """The payload with a zero of the same length for each number that msgspec cannot hold."""
    left = MAX_ODD

    def softened(found: re.Match[bytes]) -> bytes:
        nonlocal left
        before, token = found.groups()
        if token is None or not (_NOT_FINITE.fullmatch(token) or _is_long(token)):
            if token is not None and token[:1].isalpha():
                raise _NoJson
            return found.group()
        left -= 1
        if left < 0:
            raise too_many_values(MAX_ODD, "numbers beyond 64 bits or not finite")
        return before + b"0.".ljust(len(token), b"0")

    try:
        return _TOKENS.sub(softened, payload)
    except _NoJson:
        return payload


class _NoJson(Exception):  # noqa: N818  # of one who looks no further
    """There is a word where JSON has none."""


def _is_long(token: bytes) -> bool:
    number = _NUMBER.fullmatch(token)
    if number is None or (len(token) <= _SHORT and not number["rest"]):
        return False
    return not number["rest"] or math.isinf(float(token))


def _read_slowly(payload: bytes) -> Any:  # noqa: ANN401  # JSON is any value
    """Read a payload that is sound but for its numbers."""
    text = _TOKENS.sub(
        lambda found: (
            found[1] + b"NaN".ljust(len(found[2]))
            if found[2] and _NOT_FINITE.fullmatch(found[2])
            else found.group()
        ),
        payload,
    ).decode()
    return json.loads(text, parse_int=_integer, parse_float=_double, parse_constant=_constant)


def _integer(text: str) -> int | str:
    if len(text) > _LONG:
        return text
    value = int(text)
    return value if -(2**63) <= value < 2**63 else text


def _double(text: str) -> float | NoNumber:
    value = float(text)
    return NoNumber("number_out_of_range", text) if math.isinf(value) else value


def _constant(text: str) -> NoNumber:
    return NoNumber("malformed_json", text)


def _malformed(payload: bytes, error: Exception) -> Reject:
    said = next((said for beginning, said in _BEGINNINGS if payload.startswith(beginning)), "")
    if not said and len(payload) > 1 and not (any(payload[::2]) and any(payload[1::2])):
        said = "every other byte is NUL, as in UTF-16: send UTF-8"
    if not said and payload.endswith(b"\x00"):
        said = "a NUL ends it, as of a string of C: send it without"
    try:
        payload.decode()
    except UnicodeDecodeError as wrong:
        binary = '; as no JSON begins: format on its route says what it is, such as "bytes" or "msgpack"'
        begins = payload.lstrip()[:1] in {b"{", b"[", b'"'}
        return Reject("not_utf8", said or f"byte {wrong.start} is not UTF-8{'' if begins else binary}")
    return Reject("malformed_json", f"{said} ({error})" if said else str(error))


def _check_holders(payload: bytes) -> None:
    """Refuse more objects and arrays than are looked through.

    Raises:
        Reject: reason `too_many_values`.
    """
    bare = _STRING.sub(b"", payload)
    if bare.count(b"[") + bare.count(b"{") > MAX_VALUES:
        raise too_many_values(MAX_VALUES, "objects and arrays")


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
    """Look at every key; only payloads with escapes or with marks left over come here."""
    try:
        json.loads(payload, object_pairs_hook=_checked_object)
    except ValueError as error:  # what the two parsers disagree on is not JSON that everyone reads alike
        raise Reject("malformed_json", str(error)) from None


def _checked_object(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise Reject("duplicate_key", f"key {name[:40]!r} appears twice in one object")
        seen.add(name)
