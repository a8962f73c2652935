"""Floats of 16 and 32 bits as the decimal that was meant: 21.3, and not 21.299999237060547.

A sensor's 21.3 is sent as the nearest float of 32 bits. As a double that is another number, with digits that
nobody measured; the shortest decimal that becomes the same bits again is the one that was meant, and loses
nothing.
"""

from __future__ import annotations

import math
from struct import Struct
from typing import Final

from gateway.decode.fields import NoNumber

_HALF: Final = (Struct("<e"), range(3, 6))
_SINGLE: Final = (Struct("<f"), range(6, 10))


def of_half(value: float) -> float | NoNumber:
    """What a float of 16 bits says; what is none is no number."""
    return _shortest(value, *_HALF)


def of_single(value: float) -> float | NoNumber:
    """What a float of 32 bits says; what is none is no number."""
    return _shortest(value, *_SINGLE)


def of_double(value: float) -> float | NoNumber:
    """The number itself; what is none is no number."""
    return value if math.isfinite(value) else NoNumber("number_out_of_range", str(value))


def _shortest(value: float, form: Struct, digits: range) -> float | NoNumber:
    if not math.isfinite(value):
        return NoNumber("number_out_of_range", str(value))
    if value.is_integer():
        return value
    for count in digits:
        decimal = float(f"{value:.{count}g}")
        if form.unpack(form.pack(decimal))[0] == value:
            return decimal
    return value
