"""SenML (RFC 8428), as JSON or as CBOR, which the first byte tells: a pack of records, each resolved (§4.6).

A record comes out with what there is of `name`, the whole one, and its two parts `bn` and `n`; the unit `u`;
one of the values `v`, `vs`, `vb` and `vd`; the sum `s`; `t` in seconds since 1970, and `ut`. A time below
2**28 is relative to now (§4.5.3), of which a format knows nothing: "now" itself is no `t` at all, and any
other an ISO 8601 duration, `-PT5S`, which `times` adds to the time of arrival. A record of base fields alone
is no measurement and no element.

Fields that are not known stay where they are, unless their label ends in `_`: such must be understood (§4.4).
The characters of names are not looked at: what a name may be is the same for every format.
Of versions those up to 10 are known, and 26, which is 10 with secondary units (RFC 9100 §4).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gateway.decode.fields import NoNumber
from gateway.decode.formats import cbor, strict_json
from gateway.decode.formats.form import Format, Raw
from gateway.decode.limits import MAX_ELEMENTS, check_count, elements_allowed
from runtime.errors import Reject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runtime.settings import Route

MALFORMED: Final = "malformed_senml"

_ABSOLUTE: Final = 2**28
_VERSION: Final = 10
_SECONDARY_UNITS: Final = 26
_SHORT: Final = 256  # characters, of bn or n
_TIMES: Final = frozenset({int, float})
_MICROSECONDS: Final = 6
_CBOR_FIRST, _CBOR_LAST = b"\x80", b"\xdf"  # arrays, maps and tags, none of which is a beginning of JSON

_LABELS: Final = {
    "-1": "bver",
    "-2": "bn",
    "-3": "bt",
    "-4": "bu",
    "-5": "bv",
    "-6": "bs",
    "0": "n",
    "1": "u",
    "2": "v",
    "3": "vs",
    "4": "vb",
    "5": "s",
    "6": "t",
    "7": "ut",
    "8": "vd",
}
"""Those of CBOR (§6), as the digits that `cbor` makes of them."""

_KINDS: Final[dict[str, frozenset[type]]] = {
    **dict.fromkeys(("bn", "bu", "n", "u", "vs", "vd"), frozenset({str})),
    **dict.fromkeys(("bt", "bv", "bs", "v", "s", "t", "ut"), frozenset({int, float, NoNumber})),
    "vb": frozenset({bool}),
    "bver": frozenset({int}),
}
_KIND_NAMES: Final = {
    frozenset({str}): "a text",
    frozenset({int, float, NoNumber}): "a number",
    frozenset({bool}): "true or false",
    frozenset({int}): "an integer",
}
_BASE: Final = frozenset({"bver", "bn", "bt", "bu", "bv", "bs"})
_RESOLVED: Final = frozenset(_KINDS) - {"ut"}
_VALUES: Final = ("v", "vs", "vb", "vd")
_NAME: Final = "name"
_MAX_NAME: Final = 512  # characters, of bn and n together
_MOST_BYTES: Final = 16_000_000  # of a pack that is cut

_SHAPES: Final = 4096
_KNOWN: Final = frozenset({*_KINDS, str, int, float, bool})
_plain: Final[dict[tuple[Any, ...], tuple[tuple[str, ...], str]]] = {}
"""Labels and types of records that were found good, each with those of the labels that are base fields, and
the one that is the value of a record that has besides no more than a name and a unit: there are few kinds of
senders."""
_USUAL: Final = frozenset({"bn", "bt", "n", "u", *_VALUES})
_USUAL_BASE: Final = frozenset({"bn", "bt"})

_UNKNOWN: Final[tuple[None, str]] = (None, "")

# In JSON a number that is none stands as it was written, which `strict_json` reads again.
_encode = msgspec.json.Encoder(enc_hook=lambda value: msgspec.Raw(value.text.encode())).encode


def make(_route: Route, _where: str) -> Format:
    """The format of a route."""
    return Format(parse, elements, join, write, raw=Raw(_read, is_plain, _resolve))


def parse(payload: bytes) -> list[dict[str, Any]]:
    """The records of a pack that are measurements, resolved, in the order of the pack.

    Raises:
        Reject: with the reason, and the number of the record from 0.
    """
    return _resolve(_read(payload), payload)


def is_plain(pack: Any) -> bool:  # noqa: ANN401  # JSON or CBOR is any value
    """Whether what the records of a pack of JSON mean follows from which fields they have.

    So it does where there is no time but an absolute base time, nothing that counts as missing, and no name
    that may be too long.
    """
    if type(pack) is not list or not pack or not all(type(record) is dict for record in pack):
        return False
    base_name, base_time = pack[0].get("bn"), pack[0].get("bt")
    if base_time is not None and not (
        type(base_time) in _TIMES and base_time >= _ABSOLUTE and round(base_time, _MICROSECONDS) == base_time
    ):
        return False
    if base_name is not None and not (type(base_name) is str and 0 < len(base_name) <= _SHORT):
        return False
    for record in pack:
        name = record.get("n")
        if type(name) is not str or len(name) > _SHORT or "t" in record:
            return False
        if record.get("u") == "" or record.get("bu") == "":
            return False
    return True


def _read(payload: bytes) -> Any:  # noqa: ANN401  # likewise
    return strict_json.parse(payload) if _is_json(payload) else cbor.parse(payload)


def _is_json(payload: bytes) -> bool:
    return not _CBOR_FIRST <= payload[:1] <= _CBOR_LAST


def _resolve(pack: Any, payload: bytes) -> list[dict[str, Any]]:  # noqa: ANN401  # likewise
    if type(pack) is not list:
        raise Reject(MALFORMED, f"a pack is an array of records, this is a {type(pack).__name__}")
    is_json = _is_json(payload)
    if len(pack) > MAX_ELEMENTS // 2:
        most = elements_allowed(len(payload))
        check_count(len(pack), most if is_json else most // 2, "records")
    base: dict[str, Any] = {}
    found = []
    for place, record in enumerate(pack):
        if type(record) is not dict:
            raise Reject(
                MALFORMED, f"record {place} is a {type(record).__name__}, where an object is to stand"
            )
        try:
            resolved = _resolved(record if is_json else _labelled(record), base)
        except Reject as reject:
            raise Reject(reject.reason, f"record {place}: {reject.detail}") from None
        if resolved:
            found.append(resolved)
    return found


def elements(payload: bytes) -> Sequence[bytes | memoryview]:
    """A pack of its own for each record, in JSON.

    Raises:
        Reject: reason `too_many_readings`: that would be too much.
    """
    found: list[bytes] = []
    records, total = parse(payload), 0
    for record in records:
        found.append(write([record]))
        total += len(found[-1])
        if total > _MOST_BYTES:
            raise Reject(
                "too_many_readings",
                f"{len(records)} records, each with the base fields that hold for it, are more than "
                f"{_MOST_BYTES} bytes; send fewer in one message",
            )
    return found


def join(elements_: Sequence[bytes | memoryview]) -> bytes:
    """A pack of the records of packs, in JSON."""
    if len(elements_) == 1:
        return bytes(elements_[0])
    return write([record for raw in elements_ for record in parse(bytes(raw))])


def write(records: list[dict[str, Any]]) -> bytes:
    """A pack of records as `parse` gives them, in JSON."""
    written: list[dict[str, Any]] = []
    base = ""
    for record in records:
        fields = {label: value for label, value in record.items() if label != _NAME}
        if (name := record.get("bn", "")) == base:
            fields.pop("bn", None)
        else:
            fields = {"bn": name, **fields}
        base = name
        if type(relative := fields.get("t")) is str:
            fields["t"] = _seconds(relative)
        written.append(fields)
    return _encode(written)


def _labelled(record: dict[str, Any]) -> dict[str, Any]:
    """A record of CBOR with the labels of JSON."""
    found = {_LABELS.get(label, label): value for label, value in record.items()}
    if len(found) != len(record):
        raise Reject("duplicate_key", "a field stands there by its number and by its name")
    return found


def _resolved(record: dict[str, Any], base: dict[str, Any]) -> dict[str, Any] | None:
    """A record with the base fields that hold for it; None when it has none but those.

    Args:
        record: as it stands there; null is as if it did not.
        base: base fields that hold so far; takes those of the record.
    """
    shape = (*record, *map(type, record.values()))
    bases, label = _plain.get(shape, _UNKNOWN)
    fields = record
    if bases is None:
        fields = {label: value for label, value in record.items() if value is not None}
        _check_fields(fields)
        bases = tuple(label for label in fields if label in _BASE)
        if _KNOWN.issuperset(shape) and len(_plain) < _SHAPES:
            values = [label for label in fields if label in _VALUES]
            usual = _USUAL.issuperset(fields) and len(values) == 1
            _plain[shape] = bases, values[0] if usual else ""
    if bases:
        for each in bases:
            base[each] = fields[each]
        if "bver" in bases:
            _check_version(base)
    if (size := len(base.get("bn", "")) + len(fields.get("n", ""))) > _MAX_NAME:
        raise Reject(
            MALFORMED, f"its name, bn and n together, has {size} characters, {_MAX_NAME} are allowed"
        )
    if len(bases) == len(fields):
        return None
    if label and _USUAL_BASE.issuperset(base):
        return _usual(fields, base, label)
    return _measured(fields, base)


def _usual(fields: dict[str, Any], base: dict[str, Any], label: str) -> dict[str, Any]:
    """A record of a name, a unit and a value, with a base name and a base time at most."""
    found: dict[str, Any] = {}
    base_name, name = base.get("bn"), fields.get("n")
    if base_name:
        found = (
            {_NAME: base_name + name, "bn": base_name, "n": name}
            if name
            else {_NAME: base_name, "bn": base_name}
        )
    elif name:
        found = {_NAME: name, "n": name}
    if unit := fields.get("u"):
        found["u"] = unit
    found[label] = fields[label]
    time = base.get("bt")
    if time is not None and (time := _time(time)) is not None:
        found["t"] = time
    return found


def _check_fields(fields: dict[str, Any]) -> None:
    for label, value in fields.items():
        kinds = _KINDS.get(label)
        if kinds is not None and type(value) not in kinds:
            raise Reject(MALFORMED, f"{label} is to be {_KIND_NAMES[kinds]}, not {str(value)[:40]!r}")
        if kinds is None and label.endswith("_"):
            raise Reject(MALFORMED, f"field {label[:40]!r} has to be understood, and is not known")
        if label == _NAME:
            raise Reject(MALFORMED, "there is no field 'name' in SenML: it is n, with bn before it")
        if label in _BASE and type(value) is NoNumber:
            raise Reject(value.reason, f"{label} is {value.text[:40]}, which is no finite number")


def _check_version(base: dict[str, Any]) -> None:
    version = base.get("bver", _VERSION)
    if not 0 < version <= _VERSION and version != _SECONDARY_UNITS:
        raise Reject(
            MALFORMED, f"bver is {version}; known are those up to {_VERSION}, and {_SECONDARY_UNITS}"
        )


def _measured(fields: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    base_name, name = base.get("bn", ""), fields.get("n", "")
    if base_name or name:
        found[_NAME] = base_name + name
    if base_name:
        found["bn"] = base_name
    if name:
        found["n"] = name
    if unit := fields.get("u", base.get("bu")):
        found["u"] = unit
    _value(found, fields, base)
    time, base_time = fields.get("t"), base.get("bt")
    if time is None or base_time is None:
        time = base_time if time is None else time
    else:
        time = _sum(time, base_time)
    if time is not None and (time := _time(time)) is not None:
        found["t"] = time
    if (version := base.get("bver", _VERSION)) != _VERSION:
        found["bver"] = version
    if not _RESOLVED.issuperset(fields):
        found.update({label: fields[label] for label in fields if label not in _RESOLVED})
    return found


def _value(found: dict[str, Any], fields: dict[str, Any], base: dict[str, Any]) -> None:
    """Find the value of a record, or its sum, or both."""
    label = ""
    for each in _VALUES:
        if each in fields:
            if label:
                there = " and ".join(each for each in _VALUES if each in fields)
                raise Reject(MALFORMED, f"has several values, {there}, where one is to stand")
            label = each
    total = _sum(fields.get("s"), base.get("bs")) if "s" in fields or "bs" in base else None
    if label and (label != "v" or "bv" not in base):
        found[label] = fields[label]
    elif label or (total is None and "bv" in base):
        found["v"] = _sum(fields.get("v"), base.get("bv"))
    elif total is None:
        raise Reject(MALFORMED, "has no value: v, vs, vb, vd or s is to stand there")
    if total is not None:
        found["s"] = total


def _sum(value: Any, base: float | None) -> Any:  # noqa: ANN401  # a number, or what is none, or nothing
    """A field with its base; what is missing of them is zero (§4.5)."""
    if base is None or value is None:
        return base if value is None else value
    if type(value) is NoNumber:
        return value
    total = value + base
    return (
        total if math.isfinite(total) else NoNumber("number_out_of_range", "1e309" if total > 0 else "-1e309")
    )


def _time(time: Any) -> Any:  # noqa: ANN401  # a number, or what is none, or nothing
    if time is None or type(time) is NoNumber:
        return time
    seconds = round(time, _MICROSECONDS)
    if seconds >= _ABSOLUTE or not seconds:
        return seconds or None
    text = f"{abs(seconds):.6f}".rstrip("0").rstrip(".")
    return f"{'-' if seconds < 0 else ''}PT{text}S"


def _seconds(duration: str) -> float:
    sign, _, seconds = duration.removesuffix("S").partition("PT")
    number = float(f"{sign}{seconds}")
    return int(number) if number.is_integer() else number
