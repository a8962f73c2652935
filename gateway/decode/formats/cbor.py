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
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import cbor2

from gateway.decode.fields import NoNumber
from gateway.decode.formats.cbor_heads import (
    BREAK,
    MALFORMED,
    after_tags,
    check_keys,
    head_of,
    too_deep,
    unwrapped,
    widths,
)
from gateway.decode.formats.cbor_tags import (
    BY_TAG,
    ENCODINGS,
    INT64,
    KEPT,
    SHARED,
    TYPED_ARRAYS,
    base64url,
    bignum,
    integer,
)
from gateway.decode.formats.form import Format
from gateway.decode.limits import MAX_DEPTH, MAX_VALUES, check_count, elements_allowed, too_many_values
from runtime.errors import Reject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from runtime.settings import Route

_JSON: Final = re.compile(rb"\s*[{\[]\s*[\"{\[\d}\]-]")
_AS_IT_IS: Final = frozenset({str, bool, type(None)})
_TOO_LARGE_FOR_KEYS: Final = 8192  # of smaller payloads even the worst keys cost little
_SINGLE: Final = struct.Struct(">f")
_LARGEST_SINGLE: Final = 3.4e38
_DECIMALS: Final = (6, 7)  # digits of those that 32 bits are sure to hold, or as good as sure


def make(_route: Route, _where: str) -> Format:
    """The format of a route."""
    return Format(parse, elements, join, write)


def parse(payload: bytes) -> Any:  # noqa: ANN401  # CBOR is any value
    """Parse a payload; several maps or arrays one after the other are a list.

    Raises:
        Reject: with the reason and, where there is one, the position.
    """
    how = _How(base64url, _Left(), widths(payload) if b"\xfa" in payload else None)
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
        at = after_tags(payload)
        before = payload[:at]
        head = head_of(payload, at)
        stream = io.BytesIO(payload)
        stream.seek(head.end)
        decoder = _decoder(stream)
        raws = []
        while len(raws) < head.length if head.length >= 0 else payload[stream.tell()] != BREAK:
            start = stream.tell()
            item = decoder.decode()
            raws.append((item, payload[start : stream.tell()]))
    return [before + (b"\x81" + raw if _is_array(item) else raw) for item, raw in raws]


def join(elements_: Sequence[bytes | memoryview]) -> bytes:
    """An array payload of elements."""
    return _array_head(len(elements_)) + b"".join(unwrapped(bytes(raw)) for raw in elements_)


def write(value: Any) -> bytes:  # noqa: ANN401  # CBOR is any value
    """A payload of a value."""
    return cbor2.dumps(value, default=_write_no_number)


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
            check_keys(payload)
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
    """The same as `KEPT`, of a payload that may have very many tags: the library is slow with them."""
    left = MAX_VALUES

    def counted(keep: Callable[[Any, bool], cbor2.CBORTag]) -> Callable[[Any, bool], cbor2.CBORTag]:
        def keep_counted(value: Any, immutable: bool) -> cbor2.CBORTag:  # noqa: ANN401, FBT001  # the library's call
            nonlocal left
            left -= 1
            if left < 0:
                raise too_many_values(MAX_VALUES, "tags")
            return keep(value, immutable)

        return keep_counted

    return {tag: counted(keep) for tag, keep in KEPT.items()}


def _decoder(stream: io.BytesIO, *, strict: bool = False) -> cbor2.CBORDecoder:
    """What reads one item after the other; strictly, only texts and bytes may be keys."""
    return cbor2.CBORDecoder(
        stream,
        semantic_decoders=_kept_of_large() if strict else KEPT,
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
            raise too_deep()
        return [
            member
            if (kind := type(member)) in _AS_IT_IS or (kind is int and member >= -INT64)
            else _plain(member, depth + 1, how)
            for member in value
        ]
    if kind is int:
        return integer(value)
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
        raise too_deep()
    found: dict[str, Any] = {}
    singles = how.singles
    for key, member in value.items():
        name, kind = key if type(key) is str else _name(key, singles), type(member)
        if (
            kind in _AS_IT_IS
            or (kind is int and member >= -INT64)
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
    if tag in BY_TAG:
        how.left.count -= 2  # they take their time
        return BY_TAG[tag](value)
    if tag in SHARED or tag in TYPED_ARRAYS:
        what = "a typed array" if tag in TYPED_ARRAYS else "a reference to another item"
        raise Reject(MALFORMED, f"tag {tag} is {what}, which is not read: have the device send it plainly")
    encode = ENCODINGS.get(tag)
    return _plain(value, depth, how._replace(encode=encode) if encode else how)


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


def _name(key: Any, singles: Iterator[bool] | None) -> str:  # noqa: ANN401  # likewise
    """The text of a key that is none."""
    kind = type(key)
    if kind is int:
        return str(key)
    if kind is bytes:
        return base64url(key)
    if kind is bool or key is None:
        return "null" if key is None else str(key).lower()
    if kind is float:
        if singles is not None:
            next(singles, None)
        return repr(key)
    if kind is cbor2.CBORTag and key.tag in {2, 3}:
        return str(bignum(key.tag, key.value))
    if kind is cbor2.CBORTag and key.tag not in BY_TAG:
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
        return too_deep()
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


def _is_array(item: Any) -> bool:  # noqa: ANN401  # CBOR is any value
    while type(item) is cbor2.CBORTag and item.tag not in BY_TAG:
        item = item.value
    return type(item) in {list, tuple}


def _array_head(count: int) -> bytes:
    return cbor2.dumps([None] * count)[:-count] if count else b"\x80"
