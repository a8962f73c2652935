"""What a text by itself is: a number, true or false, or a text. For formats that have no types.

A number is what JSON calls one. `007`, `+5`, `.5`, `1,5` and `0x1F` stay texts, as identifiers look like that
(a route reads them as numbers by `numbers = "from_text"`), and so does `12e45`, digits around an e, which no
program writes for a number: there a point or the sign of the exponent stands with it. Digits are not kept:
`1.10` is 1.1.
"""

from __future__ import annotations

import math
import re
from typing import Final

from gateway.decode.fields import NoNumber

_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*+)(?P<rest>\.[0-9]++(?:[eE][+-]?[0-9]++)?|[eE][+-][0-9]++)?")
_NOT_FINITE: Final = re.compile(r"[+-]?(?:nan|inf|infinity)|-?1\.#(?:s?nan|qnan|ind|inf)0*+", re.IGNORECASE)
_LONG: Final = 300  # digits, more than any number has; longer ones are kept as they are
_WORDS: Final = {"true": True, "false": False}
_MAYBE: Final = frozenset("0123456789-+niNItf")


def read_text(text: str, reason: str) -> bool | float | str | NoNumber:
    """The value that a text is.

    Args:
        text: without white space around it.
        reason: of what is written for a number and is none, such as `nan`.
    """
    if text[:1] not in _MAYBE:
        return text
    if found := _NUMBER.fullmatch(text):
        if not found["rest"]:
            return int(text) if len(text) <= _LONG else text
        number = float(text)
        return NoNumber("number_out_of_range", text) if math.isinf(number) else number
    if _NOT_FINITE.fullmatch(text):
        return NoNumber(reason, text)
    return _WORDS.get(text, text)
