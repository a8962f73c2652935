"""Payloads of Sparkplug B, written for tests."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

INT8, INT16, INT32, INT64, DOUBLE, BOOLEAN, STRING, TEMPLATE = 1, 2, 3, 4, 10, 11, 12, 19


def metric(
    name: str | None = None, value: object = None, *, alias: int | None = None, datatype: int = 0, ts: int = 0
) -> bytes:
    """A metric: an integer below 2^32 as int_value, a double, a boolean, a text, or a template of metrics."""
    found = b""
    if name is not None:
        found += b"\x0a" + _sized(name.encode())
    if alias is not None:
        found += b"\x10" + varint(alias)
    if ts:
        found += b"\x18" + varint(ts)
    if datatype:
        found += b"\x20" + varint(datatype)
    if isinstance(value, bool):
        found += b"\x70" + varint(int(value))
    elif isinstance(value, int):
        found += b"\x50" + varint(value & 0xFFFFFFFF)
    elif isinstance(value, float):
        found += b"\x69" + struct.pack("<d", value)
    elif isinstance(value, str):
        found += b"\x7a" + _sized(value.encode())
    elif isinstance(value, list):
        template = b"".join(b"\x12" + _sized(each) for each in value)
        found += b"\x92\x01" + _sized(template + b"\x22" + _sized(b"Motor"))
    else:
        found += b"\x38\x01"
    return found


def payload(metrics: Iterable[bytes], *, ts: int | None = None, seq: int | None = None) -> bytes:
    """A payload."""
    found = b"" if ts is None else b"\x08" + varint(ts)
    found += b"".join(b"\x12" + _sized(each) for each in metrics)
    return found if seq is None else found + b"\x18" + varint(seq)


def bd_seq(number: int) -> bytes:
    """The number of a session."""
    return metric("bdSeq", number, datatype=INT64)


def _sized(data: bytes) -> bytes:
    return varint(len(data)) + data


def varint(value: int) -> bytes:
    """An integer of seven bits a byte."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*found, value))
