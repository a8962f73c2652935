"""Which fields of readings are device, region, key and time, and which names say too much. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from gateway.discover.columns import Time, key_of, time_of
from gateway.discover.looks import HOLDERS, REGION_WORDS, word_set, words_of
from gateway.discover.readings import VALUES, at_path, in_expression

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from gateway.discover.columns import Cell, Columns

_DEVICES: Final = (
    "device_id", "deviceId", "deviceID", "DeviceId", "device", "dev_eui", "devEUI", "devEui", "deveui",
    "DevEUI", "eui", "mac", "MAC", "serial", "serialNumber", "serial_number", "sn", "SN", "sensor_id",
    "sensorId", "sensor", "node_id", "nodeId", "node", "station", "meter_id", "meterId", "meter",
    "imei", "IMEI", "thing", "client_id", "clientId", "machine", "asset", "uid", "dev", "gateway",
    "host", "deviceName", "device_name", "name", "id",
)  # fmt: skip
_MARKS: Final = str.maketrans("", "", ":-._ ")  # in addresses
SURE_DEVICES: Final = frozenset(_DEVICES[:13])
_WEAK: Final = frozenset(
    {"id", "name", "uid", "host", "gateway", "dev", "sensor", "node"}
)  # of devices or of else
_UNITS: Final = word_set(
    "W kW MW Wh kWh MWh VA kVA var V mV kV A mA Hz C F K °C °F % hPa Pa kPa mbar bar psi lx lux ppm ppb "
    "m cm mm km s ms min h g kg l L l/h l/min m3 m³ m³/h m3/h m/s km/h dB dBm µg/m³ ug/m3 rpm °"
)
_SHORT: Final = 3  # digits, that number a channel rather than a device
_LONGEST_NAME: Final = 128  # as names of devices and regions may have
_BESIDE: Final = 2  # numbers beside a value, such as its quality
_JOINTS: Final = (".", ":", "_", "~")
_TIMES: Final = frozenset({"time", "timestamp", "ts", "datetime", "date", "when", "created_at", "sent_at"})
_SHOWN: Final = 2
_DATE: Final = re.compile(
    r"\s*([0-9]{4}([./-])[0-9]{1,2}\2[0-9]{1,2}|[0-9]{1,2}([./-])[0-9]{1,2}\3[0-9]{2,4})\s*"
)
_CLOCK: Final = re.compile(r"\s*[0-9]{1,2}:[0-9]{2}(:[0-9]{2}([.,][0-9]{1,6})?)?\s*([AaPp][Mm])?\s*")


def common(columns: Columns, rows: int) -> Columns:
    """The fields that most readings have: one that only some have says nothing of all."""
    return {name: cells for name, cells in columns.items() if len(cells) * 2 >= rows}


def single(columns: Columns) -> Columns:
    """The fields that are not elements of an array: one of several says nothing of all."""
    return {name: cells for name, cells in columns.items() if not any(map(str.isdigit, name.split(".")[1:]))}


def find_time(columns: Columns, unsure: list[str]) -> tuple[Time | None, tuple[str, ...]]:
    """The time of a reading, and the fields that it is made of when they are a date and a clock apart."""
    found = [
        time
        for name, cells in columns.items()
        if at_path(name) and not _is_stamp_within(name) and (time := time_of(name, cells))
    ]
    time = max(found, key=lambda time: (time.score, -len(time.name)), default=None)
    if time:
        return time, ()
    time, of = _of_two(columns)
    for name, cells in columns.items() if time is None else ():
        if name.rpartition(".")[2].lower() in _TIMES:
            shown = ", ".join(sorted({repr(cell.value) for cell in cells})[:_SHOWN])
            unsure.append(f"{name} is no time that is known or near to now, so arrival counts: {shown}")
    return time, of


def _of_two(columns: Columns) -> tuple[Time | None, tuple[str, ...]]:
    days = [name for name, cells in columns.items() if at_path(name) and _all(_DATE, cells)]
    clocks = [name for name, cells in columns.items() if at_path(name) and _all(_CLOCK, cells)]
    for day in days:
        for clock in clocks:
            its = {cell[:3]: cell.value for cell in columns[clock]}
            if len(its) != len(columns[clock]):
                continue
            cells = [
                cell._replace(value=f"{cell.value} {its[cell[:3]]}")
                for cell in columns[day]
                if cell[:3] in its
            ]
            time = time_of(f"{day} and {clock}, taken together for the time,", cells) if cells else None
            if time:
                path = f"join(' ', [{in_expression(day)}, {in_expression(clock)}])"
                unsure = time.unsure or [f"{day} and {clock} are taken together for the time"]
                return Time(path, time.words, unsure, time.score), (day, clock)
    return None, ()


def _all(pattern: re.Pattern[str], cells: Sequence[Cell]) -> bool:
    return all(isinstance(cell.value, str) and pattern.fullmatch(cell.value) for cell in cells)


def _is_stamp_within(name: str) -> bool:
    """Whether a name says of what in an object it is the time, as `aenergy.minute_ts`: not of the message."""
    *_, last = name.split(".")
    return last != name and last.lower() != "ts" and words_of(last)[-1:] == ["ts"]


def find_device(columns: Columns, taken: Collection[str], unsure: list[str]) -> str:
    """The field that names the device; empty when there is none."""
    best: tuple[int, str] | None = None
    for name, cells in columns.items():
        last = name.rpartition(".")[2]
        if name in taken or not at_path(name) or last not in _DEVICES:
            continue
        if not all(_can_be_device(cell.value) for cell in cells):
            continue
        if last in _WEAK:
            if key_of(name, cells):
                continue
            if not _tells_apart(cells):
                unsure.append(f"{name} is not taken for the device's name, as it does not tell devices apart")
                continue
        rank = _DEVICES.index(last) + 5 * name.count(".")
        if best is None or rank < best[0]:
            best = rank, name
    found = best[1] if best else ""
    if found.rpartition(".")[2] in _WEAK:
        unsure.append(said_of_weak(found))
    return found


def said_of_weak(name: str) -> str:
    """What is unsure where a field that may be called so for any reason names the device."""
    return f"{name} is taken for the device's name"


def names_the_same(values: Collection[str], names: Collection[str]) -> bool:
    """Whether a field has the names of devices, written otherwise: an address with colons or without."""
    return {value.translate(_MARKS).casefold() for value in values} <= {
        name.translate(_MARKS).casefold() for name in names
    }


def device_words(name: str, cells: Sequence[Cell], unsure: list[str]) -> dict[str, Any]:
    """The words for a field that names the device, whose names may have slashes in them."""
    texts = [cell.value for cell in cells if isinstance(cell.value, str)]
    if not any("/" in text for text in texts):
        return {"device": name}
    joint = next((joint for joint in _JOINTS if not any(joint in text for text in texts)), _JOINTS[0])
    unsure.append(
        f"a device may have no slash in its name: {texts[-1]!r} becomes {texts[-1].replace('/', joint)!r}"
    )
    return {"device": f"join('{joint}', split({in_expression(name)}, '/'))", "ignore": [name]}


def _tells_apart(cells: Sequence[Cell]) -> bool:
    """Whether a field that may be called as it is for any reason can name devices: no channels, no units."""
    values = {str(cell.value) for cell in cells}
    channels = all(value.isdigit() and len(value) <= _SHORT for value in values)
    return len(values) > 1 and not channels and not values <= _UNITS


def _can_be_device(value: object) -> bool:
    if type(value) is int:
        return True
    return (
        isinstance(value, str)
        and 0 < len(value) <= _LONGEST_NAME
        and not set(value) & set("+#")
        and value.isprintable()
    )


def chosen(cells: Sequence[Cell], name: str) -> bool:
    """Whether a field, rather than the topic, is to name the device: it says several by one topic."""
    by_topic: dict[str, set[Any]] = defaultdict(set)
    for cell in cells:
        by_topic[cell.topic].add(cell.value)
    return name.startswith("$") or any(len(each) > 1 for each in by_topic.values()) or len(by_topic) == 1


def find_region(columns: Columns, taken: Collection[str]) -> str:
    """The field that names the region; empty when there is none."""
    for name, cells in columns.items():
        words = words_of(name.rpartition(".")[2])
        if (
            name in taken
            or not at_path(name)
            or not words
            or words[-1] not in REGION_WORDS - {"location", "line", "floor"}
        ):
            continue
        if all(
            isinstance(cell.value, str) and 0 < len(cell.value) <= _LONGEST_NAME and cell.value.isprintable()
            for cell in cells
        ):
            return name
    return ""


def find_key(columns: Columns, taken: Collection[str], unsure: list[str], *, timed: bool) -> tuple[str, bool]:
    """The field that tells messages apart, and whether it is a counter.

    Where readings are `timed`, that tells apart what a counter says again.
    """
    found = [
        key
        for name, cells in columns.items()
        if name not in taken and at_path(name) and (key := key_of(name, cells))
    ]
    if not found:
        constant = [name for name in ("id", "message_id") if name in columns and name not in taken]
        if constant:
            unsure.append(f"{constant[0]} comes again with other content, so it is no key of a message")
        return "", False
    best = max(found, key=lambda key: key.score)
    unsure += best.unsure
    if best.counts and not timed:
        if best.again:
            unsure.append(f"{best.name} counts and begins anew, and there is no time: it is no key")
            return "", False
        unsure.append(
            f"{best.name} counts, and is taken for the key: when it begins anew and there is no time, its "
            f"messages contradict older ones, and become dead letters"
        )
    return best.name, best.counts


def says_one(columns: Columns, taken: Collection[str]) -> str:
    """The field that is the value, when messages are a value and what is said of it."""
    left = [name for name in columns if name not in taken]
    values = [name for name in left if name in VALUES]
    texts = [name for name in left if all(isinstance(cell.value, str) for cell in columns[name])]
    return values[0] if len(values) == 1 and len(left) - len(texts) <= _BESIDE else ""


def renamed(left: Columns, named: str, taken: Collection[str], *, by_topic: bool) -> dict[str, str]:
    """Names without what they have in common, where that says nothing."""
    if by_topic:
        return {f"*.{named}": "*"} if named and named != "value" else {}
    if not left:
        return {}
    holders = {name.partition(".")[0] for name in left if "." in name}
    if len(holders) == 1:
        holder = next(iter(holders))
        inside = {name.removeprefix(f"{holder}.") for name in left if name.startswith(f"{holder}.")}
        outside = {name for name in left if not name.startswith(f"{holder}.")}
        if (
            holder != "metrics"
            and holder.lower() in HOLDERS
            and not inside & {*outside, *taken}
            and not any(name.isdigit() for name in inside)
        ):
            return {f"{holder}.*": "*"}
    return {}
