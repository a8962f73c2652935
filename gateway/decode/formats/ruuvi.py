"""What RuuviTags broadcast: data formats 3 and 5 (docs.ruuvi.com, "Bluetooth advertisements").

The bytes are a whole advertisement, of which the manufacturer's part is taken, or that part alone.
Values have the names and units that a Ruuvi Gateway gives to those that it decodes itself: temperature in °C,
humidity in %, pressure in Pa, acceleration in g, voltage in V. A value that a sensor says it does not have is
not there. Pure.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_MANUFACTURER: Final = 0xFF  # the type of such a part of an advertisement
_RUUVI: Final = b"\x99\x04"  # 0x0499, the lowest byte first

_FORMAT_3: Final = Struct(">xBBBH3hH")
_FORMAT_5: Final = Struct(">xhHH3hHBH6s")
_NONE: Final = {  # what stands where there is no value, of format 5
    "temperature": -0x8000, "humidity": 0xFFFF, "pressure": 0xFFFF,
    "accelX": -0x8000, "accelY": -0x8000, "accelZ": -0x8000,
    "voltage": 0x7FF, "txPower": 0x1F, "movementCounter": 0xFF, "measurementSequenceNumber": 0xFFFF,
}  # fmt: skip


def parse(advertisement: bytes) -> dict[str, Any] | None:
    """The values of an advertisement; None when it is none of a RuuviTag, or of another format."""
    for part in _parts(advertisement):
        if part[:1] == b"\x05" and len(part) == _FORMAT_5.size:
            return _format_5(part)
        if part[:1] == b"\x03" and len(part) == _FORMAT_3.size:
            return _format_3(part)
    return None


def _parts(advertisement: bytes) -> Iterator[bytes]:
    """What Ruuvi says in it: each part is a length, a type, and so many bytes but the one of the type."""
    if advertisement[:2] == _RUUVI:
        yield advertisement[2:]
    at = 0
    while at + 1 < len(advertisement) and (length := advertisement[at]):
        part = advertisement[at + 2 : at + 1 + length]
        if advertisement[at + 1] == _MANUFACTURER and part[:2] == _RUUVI:
            yield part[2:]
        at += 1 + length


def _format_5(part: bytes) -> dict[str, Any]:
    temperature, humidity, pressure, x, y, z, power, moves, sequence, mac = _FORMAT_5.unpack(part)
    raw = {
        "temperature": temperature, "humidity": humidity, "pressure": pressure,
        "accelX": x, "accelY": y, "accelZ": z,
        "voltage": power >> 5, "txPower": power & 0x1F,
        "movementCounter": moves, "measurementSequenceNumber": sequence,
    }  # fmt: skip
    made = {
        "temperature": temperature * 5 / 1000,
        "humidity": humidity * 25 / 10_000,
        "pressure": pressure + 50_000,
        "accelX": x / 1000,
        "accelY": y / 1000,
        "accelZ": z / 1000,
        "voltage": (1600 + (power >> 5)) / 1000,
        "txPower": 2 * (power & 0x1F) - 40,
        "movementCounter": moves,
        "measurementSequenceNumber": sequence,
    }
    found: dict[str, Any] = {"dataFormat": 5}
    found |= {name: value for name, value in made.items() if raw[name] != _NONE[name]}
    if mac != b"\xff" * 6:
        found["id"] = mac.hex(":").upper()
    return found


def _format_3(part: bytes) -> dict[str, Any]:
    humidity, whole, hundredths, pressure, x, y, z, voltage = _FORMAT_3.unpack(part)
    size = ((whole & 0x7F) * 100 + hundredths) / 100
    return {
        "dataFormat": 3,
        "temperature": -size if whole & 0x80 else size,  # a sign, and not two's complement
        "humidity": humidity / 2,
        "pressure": pressure + 50_000,
        "accelX": x / 1000,
        "accelY": y / 1000,
        "accelZ": z / 1000,
        "voltage": voltage / 1000,
    }
