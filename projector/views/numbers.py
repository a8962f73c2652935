"""How views hold numbers: as doubles, and as text that reads back as the same. Pure."""

from __future__ import annotations

from typing import Final

LARGEST: Final = 1.79769313486231e308  # the largest double of 15 digits: sums saturate here
EXACT_INTEGER: Final = 2**53  # from here on a double no longer holds every integer


def number_text(value: float) -> str:
    """The shortest text that reads back as the same double, without the `.0` of a whole number."""
    if value.__class__ is not float and -EXACT_INTEGER <= value <= EXACT_INTEGER:
        return str(int(value))
    text = repr(value + 0.0)
    return text[:-2] if text[-2:] == ".0" else text


def finite(total: float) -> float:
    """A sum, or the largest that a view holds when it is beyond that."""
    return total if -LARGEST <= total <= LARGEST else LARGEST if total > 0 else -LARGEST
