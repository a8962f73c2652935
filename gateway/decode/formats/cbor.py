"""CBOR (RFC 8949), an item or a sequence of maps (RFC 8742), to the values of JSON (RFC 8949 §6.1).

Byte strings are base64url without padding, or as the tags 21 to 23 say; integers beyond 64 bits are the text
of their digits; decimal fractions, bigfloats and rationals are doubles; undefined is None, and a simple value
without a meaning the text `simple(16)`. Keys that are no texts become their text: `1`, `true`.

A float of 32 bits is the decimal of at most seven digits that it is nearest to, if there is one: a sensor's
21.3 is sent as 21.299999237060547. Otherwise, and of 16 bits, it is exact, since encoders choose the shortest
float that holds a double (§4.1).

A tag that only says what its content means (0, 1, 24, 32, any that is not known) is left out. What would need
another item to be read (shared references, string references), and typed arrays, are refused.

The library takes arrays as keys, of which many can be made that Python's dictionaries hold for alike: a large
payload may have none but texts, and one that has others is looked through for such keys first.
"""

from __future__ import annotations

import io
import math
import re
import struct
from base64 import b64encode, urlsafe_b64encode
from datetime import date
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID

import cbor2

from gateway.decode.fields import NoNumber
from gateway.decode.formats.form import Format
from gateway.decode.limits import MAX_DEPTH, MAX_VALUES, check_count, elements_allowed, too_many_values
from runtime.errors import Reject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from runtime.settings import Route

MALFORMED: Final = "malformed_cbor"

_JSON: Final = re.compile(rb"\s*[{\[]\s*[\"{\[\d}\]-]")
_AS_IT_IS: Final = frozenset({str, bool, type(None)})
_TOO_LARGE_FOR_KEYS: Final = 8192  # of smaller payloads even the worst keys cost little
_MAX_INTEGER: Final = 1024  # bytes of a bignum; its digits are fewer than Python turns into text
_INT64: Final = 2**63
_FLOATS: Final = {0xF9: 2, 0xFA: 4, 0xFB: 8}
_FLOAT32: Final = 0xFA
_SHORT: Final = 24  # as many bytes have a text whose length is in another byte
_OTHERS: Final = re.compile(
    rb"(?:[\x00-\x17\x20-\x37\x40\x5f\x60\x7f\x80-\x97\x9f\xa0-\xb7\xbf\xc0-\xd7\xe0-\xf7\xff]"
    rb"|[\x18\x38\x98\xb8\xd8\xf8].|[\x19\x39\x99\xb9\xd9].{2}"
    rb"|[\x1a\x3a\x9a\xba\xda].{4}|[\x1b\x3b\x9b\xbb\xdb].{8}|"
    + b"|".join(b"[%c%c].{%d}" % (0x40 + size, 0x60 + size, size) for size in range(1, _SHORT))
    + b")*+",
    re.DOTALL,
)
"""Items, and heads of items, that are no float and no long text."""
_SINGLE: Final = struct.Struct(">f")
_LARGEST_SINGLE: Final = 3.4e38
_DECIMALS: Final = (6, 7)  # digits of those that 32 bits are sure to hold, or as good as sure
_UNIX_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_SHARED: Final = frozenset({25, 28, 29, 256})
_TYPED_ARRAYS: Final = range(64, 88)  # RFC 8746 §2
_HEX, _BASE64URL, _BASE64 = 23, 21, 22
_ARRAY, _MAP, _TAG = 4, 5, 6
_CONTAINERS: Final = frozenset({_ARRAY, _MAP})
_TEXTS: Final = frozenset({2, 3})
_OPEN_END, _BREAK = 31, 0xFF
_LONG_HEADS: Final = {24: 1, 25: 2, 26: 4, 27: 8}


def make(_route: Route, _where: str) -> Format:
    """The format of a route."""
    return Format(parse, elements, join, write)


def parse(payload: bytes) -> Any:  # noqa: ANN401  # CBOR is any value
    """Parse a payload; several maps or arrays one after the other are a list.

    Raises:
        Reject: with the reason and, where there is one, the position.
    """
    how = _How(_base64url, _Left(), _widths(payload) if b"\xfa" in payload else None)
    values: list[Any] = []
    most = elements_allowed(len(payload))
    for item, start, end in _items(payload):
        value = _plain(item, 0, how)
        values.append(value)
        check_count(len(values), most, "items")
        if (start or end < len(payload)) and type(value) not in {dict, list}:
            what = f"bytes {start} to {end - 1} of {len(payload)} are {str(value)[:40]!r}"
            raise Reject(MALFORMED, f"several items follow each other, and {what}: only maps and arrays may")
    return values if len(values) > 1 else values[0]


def elements(payload: bytes) -> Sequence[bytes | memoryview]:
    """The bytes of each element of a list, a payload each; an array among them stands in an array of one."""
    raws = [(item, payload[start:end]) for item, start, end in _items(payload)]
    before = b""
    if len(raws) == 1:
        at = _after_tags(payload)
        before = payload[:at]
        head = _head(payload, at)
        stream = io.BytesIO(payload)
        stream.seek(head.end)
        decoder = _decoder(stream)
        raws = []
        while len(raws) < head.length if head.length >= 0 else payload[stream.tell()] != _BREAK:
            start = stream.tell()
            item = decoder.decode()
            raws.append((item, payload[start : stream.tell()]))
    return [before + (b"\x81" + raw if _is_array(item) else raw) for item, raw in raws]


def join(elements_: Sequence[bytes | memoryview]) -> bytes:
    """An array payload of elements."""
    return _array_head(len(elements_)) + b"".join(_unwrapped(bytes(raw)) for raw in elements_)


def write(value: Any) -> bytes:  # noqa: ANN401  # CBOR is any value
    """A payload of a value."""
    return cbor2.dumps(value, default=_write_no_number)


def _base64url(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode()


class _Left:
    """Counts the values of a payload down."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = MAX_VALUES


class _How(NamedTuple):
    """How items are read.

    Attributes:
        encode: makes a text of a byte string.
        left: values of which one by one something can still be made.
        singles: of each float, as they are come by, whether it has 32 bits; None when no float has.
    """

    encode: Callable[[bytes], str]
    left: _Left
    singles: Iterator[bool] | None = None


class _Head(NamedTuple):
    """The first bytes of an item.

    Attributes:
        major: its major type.
        length: what it counts; -1 of what a break ends.
        end: where they end.
    """

    major: int
    length: int
    end: int


def _items(payload: bytes) -> Iterator[tuple[Any, int, int]]:
    """The items, each with where it begins and ends."""
    at, size = 0, len(payload)
    stream = io.BytesIO(payload)
    strict = size > _TOO_LARGE_FOR_KEYS
    decoder = _decoder(stream, strict=strict)
    while not at or at < size:
        try:
            item = decoder.decode()
        except cbor2.CBORError as error:
            if isinstance(error.__cause__, Reject):
                raise error.__cause__ from None
            if not strict:
                raise _malformed(payload, at, error) from None
            _check_keys(payload)
            strict = False
            stream.seek(at)
            decoder = _decoder(stream)
            continue
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise Reject(MALFORMED, f"the item at byte {at}: {error}"[:200]) from None
        end = stream.tell()
        yield item, at, end
        at = end


def _kept_of_large() -> dict[int, Callable[[Any, bool], cbor2.CBORTag]]:
    """The same as `_KEPT`, of a payload that may have very many tags: the library is slow with them."""
    left = MAX_VALUES

    def counted(keep: Callable[[Any, bool], cbor2.CBORTag]) -> Callable[[Any, bool], cbor2.CBORTag]:
        def keep_counted(value: Any, immutable: bool) -> cbor2.CBORTag:  # noqa: ANN401, FBT001  # the library's call
            nonlocal left
            left -= 1
            if left < 0:
                raise too_many_values(MAX_VALUES, "tags")
            return keep(value, immutable)

        return keep_counted

    return {tag: counted(keep) for tag, keep in _KEPT.items()}


def _decoder(stream: io.BytesIO, *, strict: bool = False) -> cbor2.CBORDecoder:
    """What reads one item after the other; strictly, only texts and bytes may be keys."""
    return cbor2.CBORDecoder(
        stream,
        semantic_decoders=_kept_of_large() if strict else _KEPT,
        max_depth=2 * MAX_DEPTH,
        allow_duplicate_keys=False,
        strict_hashable_types=strict,
    )


def _plain(  # noqa: C901, PLR0911  # a case a kind
    value: Any,  # noqa: ANN401  # CBOR is any value
    depth: int,
    how: _How,
) -> Any:  # noqa: ANN401  # likewise
    kind = type(value)
    how.left.count -= 1
    if how.left.count < 0:
        raise too_many_values()
    if kind is dict or kind is cbor2.frozendict:
        return _plain_map(value, depth, how)
    if kind is list or kind is tuple:
        if depth == MAX_DEPTH:
            raise _too_deep()
        return [
            member
            if (kind := type(member)) in _AS_IT_IS or (kind is int and member >= -_INT64)
            else _plain(member, depth + 1, how)
            for member in value
        ]
    if kind is int:
        return _integer(value)
    if kind is float:
        return _float(value, how.singles)
    if kind in _AS_IT_IS:
        return value
    if kind is bytes:
        return how.encode(value)
    if kind is cbor2.CBORTag:
        return _tagged(value.tag, value.value, depth, how)
    if value is cbor2.undefined:
        return None
    if kind is cbor2.CBORSimpleValue:
        return f"simple({value.value})"
    raise Reject(MALFORMED, f"an item is a {kind.__name__}, of which nothing is known here")


def _plain_map(value: dict[Any, Any], depth: int, how: _How) -> dict[str, Any]:
    if depth == MAX_DEPTH:
        raise _too_deep()
    found: dict[str, Any] = {}
    singles = how.singles
    for key, member in value.items():
        name, kind = key if type(key) is str else _name(key, singles), type(member)
        if (
            kind in _AS_IT_IS
            or (kind is int and member >= -_INT64)
            or (kind is float and singles is None and math.isfinite(member))
        ):
            found[name] = member
        else:
            found[name] = _plain(member, depth + 1, how)
    if len(found) != len(value):
        raise Reject(
            "duplicate_key", f"two keys of one map come to the same text, among {[*found][:8]}"[:200]
        )
    return found


def _tagged(tag: int, value: Any, depth: int, how: _How) -> Any:  # noqa: ANN401  # likewise
    if tag in _BY_TAG:
        how.left.count -= 2  # they take their time
        return _BY_TAG[tag](value)
    if tag in _SHARED or tag in _TYPED_ARRAYS:
        what = "a typed array" if tag in _TYPED_ARRAYS else "a reference to another item"
        raise Reject(MALFORMED, f"tag {tag} is {what}, which is not read: have the device send it plainly")
    encode = _ENCODINGS.get(tag)
    return _plain(value, depth, how._replace(encode=encode) if encode else how)


def _widths(payload: bytes) -> Iterator[bool]:
    """Whether each float of well-formed items has 32 bits, in their order."""
    at, size = 0, len(payload)
    while (found := _OTHERS.match(payload, at)) and (at := found.end()) < size:
        first = payload[at]
        if width := _FLOATS.get(first):
            yield first == _FLOAT32
            at += 1 + width
        elif first >> 5 in _TEXTS:
            _, length, end = _head(payload, at)
            at = end + length
        else:
            return


def _float(value: float, singles: Iterator[bool] | None) -> float | NoNumber:
    is_single = singles is not None and next(singles, False)
    if not math.isfinite(value):
        return NoNumber("number_out_of_range", str(value))
    if is_single and abs(value) <= _LARGEST_SINGLE:
        for digits in _DECIMALS:
            decimal = float(f"{value:.{digits}g}")
            if _SINGLE.unpack(_SINGLE.pack(decimal))[0] == value:
                return decimal
    return value


def _integer(value: int) -> int | str:
    return value if -_INT64 <= value < 2 * _INT64 else str(value)


def _whole(value: Any) -> int:  # noqa: ANN401  # likewise
    if type(value) is cbor2.CBORTag and value.tag in {2, 3}:
        return _bignum(value.tag, value.value)
    if type(value) is not int:
        raise Reject(MALFORMED, f"a number of a fraction (tag 4, 5 or 30) is a {type(value).__name__}")
    return value


def _bignum(tag: int, value: Any) -> int:  # noqa: ANN401  # likewise
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


def _name(key: Any, singles: Iterator[bool] | None) -> str:  # noqa: ANN401  # likewise
    """The text of a key that is none."""
    kind = type(key)
    if kind is int:
        return str(key)
    if kind is bytes:
        return _base64url(key)
    if kind is bool or key is None:
        return "null" if key is None else str(key).lower()
    if kind is float:
        if singles is not None:
            next(singles, None)
        return repr(key)
    if kind is cbor2.CBORTag and key.tag in {2, 3}:
        return str(_bignum(key.tag, key.value))
    if kind is cbor2.CBORTag and key.tag not in _BY_TAG:
        return key.value if type(key.value) is str else _name(key.value, singles)
    raise Reject(
        MALFORMED, f"a key of a map is a {kind.__name__}, which has no text: send texts or numbers as keys"
    )


def _write_no_number(encoder: cbor2.CBOREncoder, value: NoNumber) -> None:
    mantissa, exponential, exponent = value.text.partition("e")
    encoder.encode(cbor2.CBORTag(4, [int(exponent), int(mantissa)]) if exponential else float(value.text))


def _malformed(payload: bytes, at: int, error: cbor2.CBORError) -> Reject:
    said = str(error)
    if isinstance(error.__cause__, UnicodeDecodeError):
        return Reject("not_utf8", f"a text of the item at byte {at} is not UTF-8: {error.__cause__}"[:200])
    if "nesting depth" in said:
        return _too_deep()
    if "uplicate" in said:
        return Reject("duplicate_key", f"in the item at byte {at}: {said}"[:200])
    if looks_like_json(payload):
        return Reject(MALFORMED, 'this looks like JSON, for which its route says format = "json"')
    if isinstance(error, cbor2.CBORDecodeEOF):
        said = "it ends too soon"
    return Reject(MALFORMED, f"the item at byte {at} of {len(payload)}: {said}"[:200])


def looks_like_json(payload: bytes) -> bool:
    """Whether somebody may have sent JSON where a binary format is awaited."""
    return _JSON.match(payload) is not None


def _too_deep() -> Reject:
    return Reject("too_deep", f"nested deeper than {MAX_DEPTH}")


def _is_array(item: Any) -> bool:  # noqa: ANN401  # CBOR is any value
    while type(item) is cbor2.CBORTag and item.tag not in _BY_TAG:
        item = item.value
    return type(item) in {list, tuple}


def _head(payload: bytes, at: int) -> _Head:
    first, at = payload[at], at + 1
    major, said = first >> 5, first & 31
    length = _LONG_HEADS.get(said, 0)
    count = int.from_bytes(payload[at : at + length], "big") if length else -1 if said == _OPEN_END else said
    return _Head(major, count, at + length)


def _after_tags(payload: bytes, at: int = 0) -> int:
    while payload[at] >> 5 == _TAG:
        at = _head(payload, at).end
    return at


def _unwrapped(raw: bytes) -> bytes:
    at = _after_tags(raw)
    return raw[:at] + raw[at + 1 :] if raw[at] == 0x81 else raw  # noqa: PLR2004  # an array of one


def _array_head(count: int) -> bytes:
    return cbor2.dumps([None] * count)[:-count] if count else b"\x80"


def _check_keys(payload: bytes) -> None:  # noqa: C901  # a case a kind of item
    """Refuse keys that are containers; what is malformed beside is left to be found by who reads it."""
    at = 0
    open_: list[_Open] = []
    for _ in range(2 * MAX_VALUES):
        if at >= len(payload):
            return
        start = at
        major, count, at = _head(payload, at)
        if payload[start] == _BREAK:
            del open_[-1:]
            continue
        if major == _TAG:
            continue
        if open_:
            holder = open_[-1]
            if holder.is_key and major in _CONTAINERS:
                raise Reject(
                    MALFORMED,
                    f"the key at byte {start} is an array or a map: send texts or numbers as keys",
                )
            holder.left -= 1
            holder.is_key = holder.is_map and not holder.is_key
        if major in _CONTAINERS or (major in _TEXTS and count < 0):
            if len(open_) == 2 * MAX_DEPTH:
                raise _too_deep()
            items = math.inf if count < 0 else count * 2 if major == _MAP else count
            open_.append(_Open(items, is_map=major == _MAP))
        elif major in _TEXTS:
            at += count
        while open_ and open_[-1].left <= 0:
            open_.pop()
    raise too_many_values(2 * MAX_VALUES, "items, of which not all keys are texts,")


class _Open:
    """A container that is being looked through.

    Attributes:
        left: items that are still to come, two of a member of a map.
        is_map: whether it is one.
        is_key: whether the next item is a key.
    """

    __slots__ = ("is_key", "is_map", "left")

    def __init__(self, left: float, *, is_map: bool) -> None:
        self.left = left
        self.is_map = self.is_key = is_map


def _keeper(tag: int) -> Callable[[Any, bool], cbor2.CBORTag]:
    return lambda value, _immutable: cbor2.CBORTag(tag, value)


_KEPT: Final = {
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

_BY_TAG: Final[dict[int, Callable[[Any], Any]]] = {
    2: lambda value: _integer(_bignum(2, value)),
    3: lambda value: _integer(_bignum(3, value)),
    4: _decimal,
    5: _bigfloat,
    30: _rational,
    37: _uuid,
    100: _day,
}

_ENCODINGS: Final[dict[int, Callable[[bytes], str]]] = {
    _BASE64URL: _base64url,
    _BASE64: lambda value: b64encode(value).decode(),
    _HEX: bytes.hex,
}
