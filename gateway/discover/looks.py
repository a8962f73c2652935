"""What a name looks like: a word, a number, an address. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_UUID: Final = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.IGNORECASE)
_ADDRESS: Final = re.compile(r"(0x)?([0-9a-f]{2}[:-]?){5,9}[0-9a-f]{2}|(0x|!)[0-9a-f]{4,16}", re.IGNORECASE)
_NUMBER: Final = re.compile(r"[0-9]+")
_DATE: Final = re.compile(
    r"20[0-9]{2}([-_.]?)(0[1-9]|1[0-2])\1(0[1-9]|[12][0-9]|3[01])|20[0-9]{2}-(0[1-9]|1[0-2])"
)
_YEAR_MONTH_DAY: Final = (
    re.compile(r"20[0-9]{2}"),
    re.compile(r"0?[1-9]|1[0-2]"),
    re.compile(r"0?[1-9]|[12][0-9]|3[01]"),
)
_NUMBERED: Final = re.compile(r"(.*?)[0-9a-fA-F]*[0-9][0-9a-fA-F]*(.*)")


def word_set(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


DEVICE_WORDS: Final = word_set(
    "device devices dev deviceid sensor sensors node nodes thing things client clients station "
    "stations meter meters unit machine machines asset assets plc gateway gateways pump pumps "
    "tracker trackers eui deveui serial sn mac imei uid module inverter inverters motor motors "
    "host equipment edge"
)
REGION_WORDS: Final = word_set(
    "region regions site sites zone zones area areas plant plants factory factories building "
    "buildings location locations room rooms hall halls line lines floor floors city country farm "
    "farms district"
)
METRIC_WORDS: Final = word_set(
    "temperature temp humidity hum pressure press power energy voltage volt current amps level "
    "flow rpm speed co2 pm25 pm10 lux light illuminance battery bat rssi snr lqi weight ph "
    "moisture vibration torque frequency state status value count total load cpu memory uptime "
    "noise sound distance angle wind rain gas tvoc voc dewpoint setpoint running alarm motion "
    "door contact occupancy position brightness signal"
)
HOLDERS: Final = word_set(
    "values metrics data payload fields measurements readings state d v params object decoded"
)
"""What objects and arrays are called that hold metrics, whatever these are."""

GENERAL: Final = word_set(
    "telemetry data state status up uplink event events json sensor sensors value values message "
    "messages msg out raw tele stat measurement measurements reading readings update notify "
    "report metrics get set info v1 v2 api iot mqtt device devices result command cmd config "
    "switch light binary_sensor climate settings"
)
"""Words in topics that say nothing of whose they are."""


def looks_like_id(text: str) -> bool:
    """Whether a text is an address, a UUID or a number, which nobody would choose as a word."""
    if _UUID.fullmatch(text) or _NUMBER.fullmatch(text):
        return True
    return bool(_ADDRESS.fullmatch(text) and any(sign.isdigit() for sign in text))


def look_of(text: str) -> str:
    """What texts of one kind have in common: `uuid`, `date`, `number`, `pump-#`; a word is itself."""
    if _UUID.fullmatch(text):
        return "{uuid}"
    if _DATE.fullmatch(text):
        return "{date}"
    if _NUMBER.fullmatch(text):
        return "{number}"
    if _ADDRESS.fullmatch(text) and any(sign.isdigit() for sign in text):
        return f"{{address{len(text)}}}"
    if found := _NUMBERED.fullmatch(text):
        return f"{found[1]}#{'#' if any(sign.isdigit() for sign in found[2]) else found[2]}"
    return text


def dates_in(levels: Sequence[str]) -> dict[int, str]:
    """Which levels of a topic are dates, or year, month and day one after the other, and which of them."""
    found = {i: "date" for i, level in enumerate(levels) if _DATE.fullmatch(level)}
    for i in range(len(levels) - 2):
        if all(form.fullmatch(level) for form, level in zip(_YEAR_MONTH_DAY, levels[i:], strict=False)):
            found |= {i: "year", i + 1: "month", i + 2: "day"}
    return found


def look_of_topic(topic: str) -> str:
    """What topics of one kind have in common."""
    return "/".join(map(look_of, topic.split("/")))


def words_of(name: str) -> list[str]:
    """The words in a name: `devEUI` is dev, eui; `sensor_id` is sensor, id."""
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    return [word.lower() for word in re.split(r"[^A-Za-z0-9]+", spaced) if word]
