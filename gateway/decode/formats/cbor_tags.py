"""What tags of CBOR say of their content (RFC 8949 §3.4), as values of JSON. Pure."""

from __future__ import annotations

import math
from base64 import b64encode, urlsafe_b64encode
from datetime import date
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import cbor2

from gateway.decode.fields import NoNumber
from gateway.decode.formats.cbor_heads import MALFORMED
from runtime.errors import Reject

if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_INTEGER: Final = 1024  # bytes of a bignum; its digits are fewer than Python turns into text
INT64: Final = 2**63
_UNIX_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
SHARED: Final = frozenset({25, 28, 29, 256})
TYPED_ARRAYS: Final = range(64, 88)  # RFC 8746 §2
_HEX, _BASE64URL, _BASE64 = 23, 21, 22


def base64url(value: bytes) -> str:
    """Bytes as a text, without padding."""
    return urlsafe_b64encode(value).rstrip(b"=").decode()


def integer(value: int) -> int | str:
    """An integer as JSON has it; the text of its digits beyond 64 bits."""
    return value if -INT64 <= value < 2 * INT64 else str(value)


def _whole(value: Any) -> int:  # noqa: ANN401  # likewise
    if type(value) is cbor2.CBORTag and value.tag in {2, 3}:
        return bignum(value.tag, value.value)
    if type(value) is not int:
        raise Reject(MALFORMED, f"a number of a fraction (tag 4, 5 or 30) is a {type(value).__name__}")
    return value


def bignum(tag: int, value: Any) -> int:  # noqa: ANN401  # likewise
    """The number that bytes are (tags 2 and 3)."""
    if type(value) is not bytes:
        raise Reject(MALFORMED, "a bignum (tag 2 or 3) holds no bytes")
    if len(value) > _MAX_INTEGER:
        raise Reject("number_out_of_range", f"a bignum has {len(value)} bytes, {_MAX_INTEGER} are allowed")
    number = int.from_bytes(value, "big")
    return number if tag == 2 else -1 - number  # noqa: PLR2004  # RFC 8949 §3.4.3


def _pair(value: Any, tag: int) -> tuple[int, int]:  # noqa: ANN401  # likewise
    if type(value) not in {list, tuple} or len(value) != 2:  # noqa: PLR2004  # two of them
        raise Reject(MALFORMED, f"tag {tag} is not of an array of two integers")
    return _whole(value[0]), _whole(value[1])


def _decimal(value: Any) -> float | NoNumber:  # noqa: ANN401  # likewise
    exponent, mantissa = _pair(value, 4)
    text = f"{mantissa}e{exponent}"
    number = float(text)
    return number if math.isfinite(number) else NoNumber("number_out_of_range", text)


def _bigfloat(value: Any) -> float | NoNumber:  # noqa: ANN401  # likewise
    exponent, mantissa = _pair(value, 5)
    try:
        return math.ldexp(mantissa, exponent)
    except OverflowError:
        return NoNumber("number_out_of_range", "-inf" if mantissa < 0 else "inf")


def _rational(value: Any) -> float | NoNumber:  # noqa: ANN401  # likewise
    numerator, denominator = _pair(value, 30)
    try:
        return numerator / denominator
    except ZeroDivisionError:
        return NoNumber("number_out_of_range", "nan")
    except OverflowError:
        return NoNumber("number_out_of_range", "inf" if (numerator < 0) == (denominator < 0) else "-inf")


def _uuid(value: Any) -> str:  # noqa: ANN401  # likewise
    if type(value) is not bytes or len(value) != 16:  # noqa: PLR2004  # of a UUID
        raise Reject(MALFORMED, "a UUID (tag 37) has 16 bytes")
    return str(UUID(bytes=value))


def _day(value: Any) -> str:  # noqa: ANN401  # likewise
    try:
        return date.fromordinal(_UNIX_EPOCH_DAY + value).isoformat()
    except (TypeError, ValueError, OverflowError):
        raise Reject(MALFORMED, f"day {str(value)[:40]} (tag 100) is outside the calendar") from None


def _keeper(tag: int) -> Callable[[Any, bool], cbor2.CBORTag]:
    return lambda value, _immutable: cbor2.CBORTag(tag, value)


KEPT: Final = {
    tag: _keeper(tag)
    for tag in (
        0,
        1,
        2,
        3,
        4,
        5,
        25,
        28,
        29,
        30,
        35,
        36,
        37,
        52,
        54,
        100,
        256,
        258,
        260,
        261,
        1004,
        43000,
        55799,
    )
}
"""Tags of which the library would make something of its own."""

BY_TAG: Final[dict[int, Callable[[Any], Any]]] = {
    2: lambda value: integer(bignum(2, value)),
    3: lambda value: integer(bignum(3, value)),
    4: _decimal,
    5: _bigfloat,
    30: _rational,
    37: _uuid,
    100: _day,
}
"""What is made of the content of a tag."""

ENCODINGS: Final[dict[int, Callable[[bytes], str]]] = {
    _BASE64URL: base64url,
    _BASE64: lambda value: b64encode(value).decode(),
    _HEX: bytes.hex,
}
"""How byte strings in a tag are written."""
