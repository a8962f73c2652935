"""Cayenne LPP: readings of a channel, a type and its value each, one behind the other.

The first twelve types are those of myDevices (docs.mydevices.com, "Cayenne Low Power Payload"), named as The
Things Network names them; the others are what the ElectronicCats library added. A type says how long its
value is, so that nothing behind an unknown one can be read.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from runtime.errors import Reject

_HEADER: Final = 2


class _Type(NamedTuple):
    """How the value of a type is read.

    Attributes:
        name: in front of the channel.
        size: of each number in it, in bytes, the highest first.
        divisor: of each number; 1 leaves it an integer.
        parts: what its numbers are called; empty when it is one.
        signed: whether they are two's complement.
    """

    name: str
    size: int
    divisor: int = 1
    parts: tuple[tuple[str, int], ...] = ()
    signed: bool = False


def _axes(divisor: int) -> tuple[tuple[str, int], ...]:
    return ("x", divisor), ("y", divisor), ("z", divisor)


_TYPES: Final = {
    0: _Type("digital_in", 1),
    1: _Type("digital_out", 1),
    2: _Type("analog_in", 2, 100, signed=True),
    3: _Type("analog_out", 2, 100, signed=True),
    101: _Type("luminosity", 2),  # lx
    102: _Type("presence", 1),
    103: _Type("temperature", 2, 10, signed=True),  # °C
    104: _Type("relative_humidity", 1, 2),  # %
    113: _Type("accelerometer", 2, parts=_axes(1000), signed=True),  # g
    115: _Type("barometric_pressure", 2, 10),  # hPa
    134: _Type("gyrometer", 2, parts=_axes(100), signed=True),  # °/s
    136: _Type(  # °, °, m
        "gps", 3, parts=(("latitude", 10_000), ("longitude", 10_000), ("altitude", 100)), signed=True
    ),
    100: _Type("generic", 4),
    116: _Type("voltage", 2, 100),  # V
    117: _Type("current", 2, 1000),  # A
    118: _Type("frequency", 4),  # Hz
    120: _Type("percentage", 1),
    121: _Type("altitude", 2, signed=True),  # m
    125: _Type("concentration", 2),  # ppm
    128: _Type("power", 2),  # W
    130: _Type("distance", 4, 1000),  # m
    131: _Type("energy", 4, 1000),  # kWh
    132: _Type("direction", 2),  # °
    133: _Type("unixtime", 4),  # s
    135: _Type("colour", 1, parts=(("r", 1), ("g", 1), ("b", 1))),
    142: _Type("switch", 1),
}


def parse(payload: bytes) -> dict[str, Any]:
    """The values of a payload by name and channel, such as `temperature_3`; what has axes is an object.

    Raises:
        Reject: `malformed_bytes` for an unknown type or a value that is cut, `duplicate_key` for a channel
            that has two values of one type.
    """
    found: dict[str, Any] = {}
    at, end = 0, len(payload)
    while at < end:
        if end - at < _HEADER:
            raise Reject("malformed_bytes", f"byte {at}: a channel without a type ends the payload")
        kind = _TYPES.get(payload[at + 1])
        if kind is None:
            raise Reject(
                "malformed_bytes",
                f"byte {at + 1}: type {payload[at + 1]} (0x{payload[at + 1]:02x}) is none of Cayenne LPP, "
                f"so that what follows cannot be read either",
            )
        name = f"{kind.name}_{payload[at]}"
        at += _HEADER
        size = kind.size * (len(kind.parts) or 1)
        if at + size > end:
            raise Reject(
                "malformed_bytes",
                f"byte {at}: {name!r} takes {size} bytes, and the payload ends after {end - at}",
            )
        if name in found:
            raise Reject("duplicate_key", f"byte {at}: {name!r} is there for the second time")
        if kind.parts:
            found[name] = {
                part: _number(payload, at + i * kind.size, kind, divisor)
                for i, (part, divisor) in enumerate(kind.parts)
            }
        else:
            found[name] = _number(payload, at, kind, kind.divisor)
        at += size
    return found


def _number(payload: bytes, at: int, kind: _Type, divisor: int) -> float:
    number = int.from_bytes(payload[at : at + kind.size], "big", signed=kind.signed)
    return number if divisor == 1 else number / divisor
