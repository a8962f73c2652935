"""How views hold numbers: as doubles, and as text that reads back as the same. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

LARGEST: Final = 1.79769313486231e308  # the largest double of 15 digits: sums saturate here
EXACT_INTEGER: Final = 2**53  # from here on a double no longer holds every integer

_POINT_AND_DIGITS: Final = 16

_encode: Final = msgspec.json.Encoder().encode


def number_text(value: float) -> str:
    """The shortest text that reads back as the same double, without the `.0` of a whole number."""
    if value.__class__ is not float and -EXACT_INTEGER <= value <= EXACT_INTEGER:
        return str(int(value))
    value += 0.0
    return _short_text(value) or repr(value).removesuffix(".0")


def total_text(total: float) -> str:
    """A sum with 15 digits, as `.15g` has them."""
    return _short_text(total) or f"{total:.15g}"


def _short_text(value: float) -> str:
    """The shortest text when it has 15 digits at most and no exponent, in a third of the time; else nothing.

    It is what 15 digits of the number are, too: no other text so short reads back as the same double.
    """
    text = _encode(value).decode()
    if len(text) > _POINT_AND_DIGITS or "e" in text or "0.0000" in text:
        return ""
    return text.removesuffix(".0")


def finite(total: float) -> float:
    """A sum, or the largest that a view holds when it is beyond that."""
    return total if -LARGEST <= total <= LARGEST else LARGEST if total > 0 else -LARGEST
