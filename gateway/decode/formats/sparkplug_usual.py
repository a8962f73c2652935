"""Payloads of Sparkplug B as most edge nodes send them, read at one glance; `sparkplug` reads all. Pure.

A time, then metrics that say some of this in the order of the standard: name, alias, time, datatype, and one
value that is a double, a short integer or a truth value; and then a number. A match is as long as its metric
says that it is, and they cover all that is between the time and the number: nothing is overlooked.
"""

from __future__ import annotations

import re
from math import isfinite
from struct import Struct
from typing import Any, Final

from gateway.decode.formats.sparkplug_values import as_integer

_MOMENT: Final = rb"[\x80-\xff]{5}[\x01-\x7f]"  # milliseconds since 1970, today
_begins = re.compile(rb"\x08(" + _MOMENT + rb")\x12", re.DOTALL).match
_ends = re.compile(rb"\x18([\x00-\x7f]|[\x80-\xff]\x01)", re.DOTALL).fullmatch
_metrics = re.compile(
    rb"\x12([\x00-\x7f])"
    rb"(?:\x0a([\x00-\x7f])([ -~]++)(?=[\x10\x18]))?"
    rb"(?:\x10([\x00-\x7f]|[\x80-\xff][\x00-\x7f]))?"
    rb"(?:\x18(" + _MOMENT + rb"))?"
    rb"(?:\x20([\x00-\x7f]))?"
    rb"(?:\x69(.{8})|[\x50\x58]([\x80-\xff]{0,3}[\x00-\x7f])|\x70([\x00\x01]))",
    re.DOTALL,
).findall
_double = Struct("<d").unpack
_FIRST: Final = 7  # bytes of the time
_MOST: Final = 4096  # bytes: of a longer one what is read twice costs more than it saves


def usual(  # noqa: C901, PLR0911, PLR0912  # without a call for each step: every metric comes by
    payload: bytes,
) -> dict[str, Any] | None:
    """The values of a payload; None where it is another one."""
    begun = _begins(payload)
    if begun is None or len(payload) > _MOST:
        return None
    end = len(payload) - (2 if payload[-2] == 0x18 else 3)  # noqa: PLR2004  # the tag of the number
    ended = _ends(payload, end)
    if ended is None:
        return None
    left = end - _FIRST
    sent = begun[1]
    timestamp = _moment(sent)
    metrics: list[dict[str, Any]] = []
    for size, named, name, alias, moment, datatype, double, integer, truth in _metrics(payload, _FIRST, end):
        metric: dict[str, Any] = {}
        length = 0
        if name:
            if named[0] != len(name):
                return None
            metric["name"] = name.decode("ascii")
            length = 2 + len(name)
        if alias:
            metric["alias"] = _varint(alias)
            length += 1 + len(alias)
        if moment:
            metric["timestamp"] = timestamp if moment == sent else _moment(moment)
            length += _FIRST
        if datatype:
            metric["datatype"] = datatype[0]
            length += 2
        if double:
            value: Any = _double(double)[0]
            if not isfinite(value):
                return None
            length += 9
        elif integer:
            value = as_integer(_varint(integer), metric.get("datatype", 0))
            length += 1 + len(integer)
        else:
            value = truth == b"\x01"
            length += 2
        metric["value"] = value
        if length != size[0]:
            return None
        left -= length + 2
        metrics.append(metric)
    if left:
        return None
    return {"timestamp": timestamp, "metrics": metrics, "seq": _varint(ended[1])}


def _moment(raw: bytes) -> int:
    """The same of six bytes, of which every one has its bits elsewhere."""
    six = int.from_bytes(raw, "little")
    low = six & 0x7F | six >> 1 & 0x3F80 | six >> 2 & 0x1FC000
    return low | six >> 3 & 0xFE00000 | six >> 4 & 0x7F0000000 | six >> 5 & 0x3F800000000


def _varint(raw: bytes) -> int:
    """An integer of seven bits a byte, the lowest first."""
    if len(raw) == 1:
        return raw[0]
    value = shift = 0
    for byte in raw:
        value |= (byte & 0x7F) << shift
        shift += 7
    return value
