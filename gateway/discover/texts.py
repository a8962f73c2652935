"""Texts that are something else: numbers, states, bytes. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gateway.decode.mapping.words import read_number
from gateway.discover.looks import word_set, words_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

_STATES: Final = (
    ("on", "off"), ("true", "false"), ("open", "closed"), ("open", "close"), ("online", "offline"),
    ("yes", "no"), ("active", "inactive"), ("enabled", "disabled"), ("detected", "clear"),
    ("locked", "unlocked"), ("home", "not_home"), ("running", "stopped"), ("connected", "disconnected"),
    ("up", "down"), ("high", "low"),
)  # fmt: skip
_NONE: Final = frozenset(
    {"nan", "null", "none", "nil", "n/a", "na", "-", "--", "---", "inf", "-inf", "+inf", "infinity",
     "-infinity", "unknown", "unavailable", "error", "err", "fault", "invalid", "?"}
)  # fmt: skip
_NO_NUMBERS: Final = word_set(
    "fw sw hw firmware version ver software hardware revision rev release build serial sn id uid uuid mac "
    "imei eui code model type name zip phone ip address addr"
)
"""Words of names whose texts are no numbers, though they may look like some: 1.10 is no 1.1."""

GROUPED: Final = re.compile(r"[+-]?[0-9]{1,3}([., '\u00a0\u202f][0-9]{3})+([.,][0-9]+)?\s*\D{0,8}")
_THOUSANDS: Final = re.compile(r"[+-]?[1-9][0-9]{0,2}[.,][0-9]{3}(\s*\D{1,8})?")
_HEX: Final = re.compile(r"(0x)?([0-9a-fA-F]{2}[ :]?){4,}")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]{6,}={0,2}")
_FEWEST: Final = 2  # of three texts are numbers, where others say that there is none
_SHOWN: Final = 4


def read_texts(words: dict[str, Any], columns: Mapping[str, Sequence[Any]], unsure: list[str]) -> None:
    """Say of numbers in texts, and of states that are words, what they are.

    Args:
        words: of a route, which become more.
        columns: by name, what a metric was each time.
        unsure: what is said about it.
    """
    plain: list[str] = []
    units: list[str] = []
    names: list[str] = []
    states: dict[str, float] = {}
    for name, values in columns.items():
        texts = {value for value in values if isinstance(value, str) and value}
        if not texts:
            continue
        if pair := _states(texts):
            states |= pair
            continue
        numbers, others = _numbers(texts)
        if not numbers:
            unsure += _grouped(name, texts)
        elif _is_name(name, texts):
            names.append(name)
        else:
            (units if any(isinstance(read_number(text, with_unit=False), str) for text in numbers) else plain
             ).append(name)  # fmt: skip
            unsure += _doubtful(name, numbers, others)
    if plain or units:
        words["numbers"] = "from_text_with_unit" if units else "from_text"
        unsure.append(f"texts that are numbers become numbers: {', '.join((units + plain)[:_SHOWN])}")
        if names:
            unsure.append(f"so do those of {', '.join(names[:_SHOWN])}, which may be names: 1.10 becomes 1.1")
    if states:
        words["states"] = states


def packed_in(columns: Mapping[str, Sequence[Any]]) -> Iterator[str]:
    """What to say of fields whose texts are bytes as hex or base64, or JSON."""
    for name, values in columns.items():
        texts = {value for value in values if isinstance(value, str)}
        if len(texts) < 2 or len(texts) * 2 < len(values) or set(words_of(name)) & _NO_NUMBERS:  # noqa: PLR2004  # of one it cannot be told
            continue
        if all(map(_is_json, texts)):
            yield (
                f"{name} is kept as a text, and holds JSON: metrics = 'from_json({name})' on its route reads "
                f"what is in it, and nothing else"
            )
            continue
        encoding = "hex" if all(map(_is_hex, texts)) else "base64" if all(map(_is_base64, texts)) else ""
        if encoding:
            whole = f' and bytes.encoding = "{encoding}"'
            inside = f', bytes.encoding = "{encoding}" and bytes.inside = "{name}"'
            yield (
                f"{name or 'what it says'} is kept as a text, and seems to be bytes in {encoding}: what is "
                f'in them, a [[route.bytes.field]] list can say, with format = "bytes"'
                f"{inside if name else whole}"
            )


def _numbers(texts: set[str]) -> tuple[set[str], set[str]]:
    """Those that are numbers, when most are and the others say that there is none."""
    numbers = {text for text in texts if not isinstance(read_number(text, with_unit=True), str)}
    others = texts - numbers
    if all(other.strip().lower() in _NONE for other in others) and len(numbers) * 3 >= len(texts) * _FEWEST:
        return numbers, others
    return set(), others


def _is_name(name: str, texts: Collection[str]) -> bool:
    """Whether texts that look like numbers name something; a constant does unless it has a unit."""
    return bool(set(words_of(name.rpartition(".")[2])) & _NO_NUMBERS) and not any(
        isinstance(read_number(text, with_unit=False), str) for text in texts
    )


def _doubtful(name: str, numbers: Collection[str], others: Collection[str]) -> Iterator[str]:
    if all(_THOUSANDS.fullmatch(text.strip()) for text in numbers):
        yield f"the mark in {min(numbers)!r} of {name} is taken for the decimal one, not that of thousands"
    if others:
        yield f"{', '.join(map(repr, sorted(others)[:_SHOWN]))} of {name} is no number and stays a text"


def _grouped(name: str, texts: Collection[str]) -> Iterator[str]:
    grouped = sorted(text for text in texts if GROUPED.fullmatch(text.strip()))
    if grouped:
        yield f"{name} stays a text: no route reads a number with marks of thousands, {grouped[0]!r}"


def _states(texts: set[str]) -> dict[str, float]:
    low = {text.lower() for text in texts}
    for high, other in _STATES:
        if low <= {high, other}:
            example = min(texts)
            form = str.upper if example.isupper() else str.capitalize if example[:1].isupper() else str.lower
            return {form(high): 1, form(other): 0}
    return {}


def _is_json(text: str) -> bool:
    if text[:1] not in "{[":
        return False
    try:
        return isinstance(msgspec.json.decode(text), dict | list)
    except msgspec.DecodeError:
        return False


def _is_hex(text: str) -> bool:
    return bool(_HEX.fullmatch(text)) and not text.isdigit()


def _is_base64(text: str) -> bool:
    if not _BASE64.fullmatch(text) or len(text) % 4:
        return False
    try:
        held = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return False
    return any(byte < ord(" ") or byte > ord("~") for byte in held)
