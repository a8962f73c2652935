"""What a shape of topics seems to send, as the words of a route. Pure.

What is found is tried with the decoder. A word that leads to dead letters is taken back.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from gateway.decode import Decoder, Limits, Received, Rejection
from gateway.decode.dialects import complete_routes
from gateway.decode.mapping.words import read_number
from gateway.decode.routes import compile_routes
from gateway.discover.columns import Row, columns_of, key_of, time_of
from gateway.discover.levels import meaning_of
from gateway.discover.looks import REGION_WORDS, looks_like_id, word_set, words_of
from runtime.errors import ConfigurationError
from runtime.settings import Route

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.discover.columns import Cell, Columns, Time
    from gateway.discover.heard import Sample
    from gateway.discover.shapes import Levels
    from gateway.discover.sniff import Sniffed

_NAMES: Final = (
    "n", "name", "metric", "key", "param", "parameter", "measurement", "signal", "variable", "tag",
    "code", "field", "channel", "label", "type", "sensor", "id",
)  # fmt: skip
_VALUES: Final = ("v", "value", "val", "reading")
_MOST_BESIDE: Final = 6  # what an element that is one metric says besides
_HOLDERS: Final = word_set(
    "values metrics data payload fields measurements readings state d v params object decoded"
)
_DEVICES: Final = (
    "device_id", "deviceId", "deviceID", "DeviceId", "device", "dev_eui", "devEUI", "devEui", "deveui",
    "DevEUI", "eui", "mac", "MAC", "serial", "serialNumber", "serial_number", "sn", "SN", "sensor_id",
    "sensorId", "sensor", "node_id", "nodeId", "node", "station", "meter_id", "meterId", "meter",
    "imei", "IMEI", "thing", "client_id", "clientId", "machine", "asset", "uid", "dev", "gateway",
    "host", "deviceName", "device_name", "name", "id",
)  # fmt: skip
_WEAK: Final = frozenset(
    {"id", "name", "uid", "host", "gateway", "dev", "sensor", "node"}
)  # of devices or of else
_UNITS: Final = word_set(
    "W kW MW Wh kWh MWh VA kVA var V mV kV A mA Hz C F K °C °F % hPa Pa kPa mbar bar psi lx lux ppm ppb "
    "m cm mm km s ms min h g kg l L l/h l/min m3 m³ m³/h m3/h m/s km/h dB dBm µg/m³ ug/m3 rpm °"
)
_STATES: Final = (
    ("on", "off"), ("true", "false"), ("open", "closed"), ("open", "close"), ("online", "offline"),
    ("yes", "no"), ("active", "inactive"), ("enabled", "disabled"), ("detected", "clear"),
    ("locked", "unlocked"), ("home", "not_home"), ("running", "stopped"), ("connected", "disconnected"),
    ("up", "down"), ("high", "low"),
)  # fmt: skip
_SHORT: Final = 3  # digits, that number a channel rather than a device
_TRIES: Final = 6
_BROKEN: Final = 0.1  # of messages, which may be refused without a word of the route being wrong
_ALONE: Final = 10  # the score of an array with one element and nothing that speaks for it
_MANY_TOPICS: Final = 500
_LONGEST_NAME: Final = 128  # as names of devices and regions may have
_BESIDE: Final = 2  # numbers beside a value, such as its quality


@dataclass
class Guess:
    """Of a shape.

    Attributes:
        words: of its route.
        unsure: what is guessed without much to go by.
        samples: messages of it.
        letters: of these, what became dead letters.
    """

    words: dict[str, Any]
    unsure: list[str] = field(default_factory=list)
    samples: Sequence[Sample] = ()
    letters: list[Rejection] = field(default_factory=list)


class _Elements(NamedTuple):
    """Where the readings of messages are."""

    each: str
    device: str
    name: str
    value: str
    rows: list[Row]
    around: list[Row]


def guess(shape: Levels, samples: Sequence[Sample], sniffed: Sequence[Sniffed]) -> Guess:
    """Say what messages seem to be.

    Args:
        shape: of their topics.
        samples: the messages, by topic and in the order in which they came.
        sniffed: what each of them is, all of one format.
    """
    words = dict(sniffed[0].words)
    topics = sorted({sample.topic for sample in samples})
    if words["format"] == "value":
        found = _scalars(shape, topics, samples, sniffed)
    elif words["format"] in _BY_DIALECT:
        found = _by_dialect(shape, topics, sniffed)
    else:
        found = _objects(shape, topics, samples, sniffed)
    found.samples = samples
    return _tried(found)


def _by_dialect(shape: Levels, topics: Sequence[str], sniffed: Sequence[Sniffed]) -> Guess:
    """Formats that say themselves what is what: the words are those of their dialect."""
    name = sniffed[0].format
    own = _BY_DIALECT[name]
    records = [
        each for one in sniffed for each in (one.values if isinstance(one.values, list) else [one.values])
    ]
    devices = {device for each in records if (device := own.device(each))}
    everywhere = len(devices) >= len(topics) and all(own.device(each) for each in records)
    meaning = meaning_of(shape, topics, named=False, devices=devices, elsewhere=everywhere)
    part = own.by_topic if meaning.device else own.by_message
    return Guess({"dialect": f"{name}/{part}", "topic": meaning.topic}, list(meaning.unsure))


def _device_of_line(record: Any) -> str:  # noqa: ANN401   # a format's value is any value
    tags = record.get("tags") if isinstance(record, dict) else None
    found = [tags.get(name) for name in ("device_id", "device", "host")] if isinstance(tags, dict) else []
    return next((str(each) for each in found if each), "")


def _device_of_record(record: Any) -> str:  # noqa: ANN401   # a format's value is any value
    return str(record.get("bn") or "") if isinstance(record, dict) else ""


class _Own(NamedTuple):
    """Of a format with a dialect: its parts, and what names the device in its values."""

    by_topic: str
    by_message: str
    device: Callable[[Any], str]


_BY_DIALECT: Final = {
    "influx": _Own("device", "lines", _device_of_line),
    "senml": _Own("device", "pack", _device_of_record),
}


def _scalars(
    shape: Levels, topics: Sequence[str], samples: Sequence[Sample], sniffed: Sequence[Sniffed]
) -> Guess:
    meaning = meaning_of(shape, topics, named=True)
    words = {"topic": meaning.topic, **sniffed[0].words}
    if not meaning.metric:
        words["metric"] = meaning.metric_name or "value"
    unsure = list(meaning.unsure)
    values = [(sample.topic, each.values) for sample, each in zip(samples, sniffed, strict=True)]
    _texts(
        words,
        {topic: [v for t, v in values if t == topic] for topic in topics}
        if len(topics) < _MANY_TOPICS
        else {"": [v for _, v in values]},
        unsure,
    )
    return Guess(words, unsure)


def _objects(  # noqa: C901  # what a field can be, one after the other
    shape: Levels, topics: Sequence[str], samples: Sequence[Sample], sniffed: Sequence[Sniffed]
) -> Guess:
    once = {
        (sample.topic, sample.payload): (sample, each) for sample, each in zip(samples, sniffed, strict=True)
    }
    messages = [
        Row(sample.topic, sample.at, i, each.values, not sample.retained)
        for i, (sample, each) in enumerate(once.values())
    ]
    elements = _elements(messages)
    columns = columns_of(elements.rows)
    around = columns_of(elements.around)
    words: dict[str, Any] = {"topic": "", **sniffed[0].words}
    unsure: list[str] = []
    taken: set[str] = set()
    for setting in ("each", "name", "value"):
        if getattr(elements, setting):
            words[setting] = getattr(elements, setting)
    taken |= {elements.name, elements.value} - {""}
    every = _common(around, len(elements.around)) | _common(columns, len(elements.rows))
    time = _time(every)
    taken.add(time.name if time else "")
    device = elements.device or _device_field(every, taken, unsure)
    values = {str(cell.value) for cell in every.get(device, ())}
    named = _says_one(columns, taken | {device})
    meaning = meaning_of(
        shape,
        topics,
        named=bool(named),
        devices=values,
        elsewhere=bool(device) and _chosen(every.get(device, ()), device),
        region=not (region := _region_field(every, taken | {device})),
    )
    if meaning.device and device and not elements.device and not values <= meaning.devices:
        if device in _DEVICES[:13]:
            unsure.append(f"the topic names the device, and {device} something else: the topic counts")
        device = ""
    taken.add(device)
    key, counts = _key(every, taken | {region}, unsure)
    words |= {
        "topic": meaning.topic,
        "device": device,
        "key": key,
        "time": time.name if time else "",
        "region": region,
    }
    taken |= {key, region}
    if time:
        words |= time.words
        unsure += time.unsure
    if counts and time:
        words["identity"] = "key+time"
    unsure += meaning.unsure
    left = {name: cells for name, cells in columns.items() if name not in taken}
    if elements.each:
        tags = [name for name in around if name not in taken and _at_path(name)]
        if tags:
            words["tags"] = tags
            unsure.append(
                f"{', '.join(tags[:5])} beside {elements.each} would be left out, and is kept as tags"
            )
    renamed = _renamed(left, named, taken, by_topic=meaning.metric)
    if renamed:
        words["rename"] = renamed
    texts = {name: [cell.value for cell in cells] for name, cells in left.items()}
    _texts(words, texts | _by_name(elements), unsure)
    if words["format"] == "bytes":
        unsure.append("the bytes are read as Cayenne LPP; others can look like it by chance")
    if not key and not time:
        unsure.append("without key and time each delivery is stored, a repeated one too")
    return Guess({name: each for name, each in words.items() if name != "value" or elements.name}, unsure)


def _common(columns: Columns, rows: int) -> Columns:
    """The fields that most readings have: one that only some have says nothing of all."""
    return {name: cells for name, cells in columns.items() if len(cells) * 2 >= rows}


def _elements(messages: Sequence[Row]) -> _Elements:
    """The readings in messages: elements of an array, or the messages themselves."""
    whole: list[Row] = []
    for row in messages:
        values = row.value if isinstance(row.value, list) else [row.value]
        whole += [row._replace(value=value) for value in values if isinstance(value, dict)]
    if not whole:
        return _Elements("", "", "", "", [], [])
    if len(whole) > 0 and all(_is_map_of_lists(row.value) for row in whole):
        rows = [
            row._replace(value=each, topic=f"{row.topic}\n{name}")
            for row in whole
            for name, list_ in row.value.items()
            for each in list_
        ]
        name, value = _name_and_value(rows)
        return _Elements("*", "$1", name, value, rows, [])
    best: tuple[int, str] | None = None
    for path in _lists(whole):
        rows = _within(whole, path)
        score = (
            len(rows)
            + 1000 * bool(_name_and_value(rows)[0])
            + 100 * any(map(_has_time, rows))
            + 10 * (len(rows) > len(whole))
        )
        if score > _ALONE and (best is None or score > best[0]):
            best = score, path
    if best is not None and "." not in best[1].strip("."):
        path = best[1]
        rows = _within(whole, path)
        name, value = _name_and_value(rows)
        around = [row._replace(value=_without(row.value, path)) for row in whole]
        return _Elements(path, "", name, value, rows, around)
    name, value = _name_and_value(whole)
    return _Elements("", "", name, value, whole, [])


def _is_map_of_lists(value: dict[str, Any]) -> bool:
    return bool(value) and all(
        isinstance(each, list) and each and all(isinstance(one, dict) for one in each)
            for each in value.values()
    ) and (len(value) > 1 or not any(set(words_of(name)) & _HOLDERS for name in value))  # fmt: skip


def _lists(rows: Sequence[Row]) -> list[str]:
    found: Counter[str] = Counter()
    for row in rows:
        for name, each in row.value.items():
            if isinstance(each, list) and each and all(isinstance(one, dict) for one in each):
                found[name] += 1
    return [name for name, count in found.items() if count * 2 > len(rows) and _at_path(name)]


def _at_path(name: str) -> bool:
    """Whether a name can be written as a path."""
    return all(
        part and part.replace("_", "").replace("-", "").replace(" ", "").isalnum() for part in name.split(".")
    )


def _within(rows: Sequence[Row], name: str) -> list[Row]:
    return [
        row._replace(value=each)
        for row in rows
        for each in (row.value.get(name) if isinstance(row.value.get(name), list) else [])
        if isinstance(each, dict)
    ]


def _without(value: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: each for key, each in value.items() if key != name}


def _has_time(row: Row) -> bool:
    return any(time_of(name, cells) for name, cells in columns_of([row]).items())


def _name_and_value(rows: Sequence[Row]) -> tuple[str, str]:
    """The fields of a metric's name and of its value, when each element is one metric; empty when not."""
    if not rows or any(len(row.value) > _MOST_BESIDE for row in rows):
        return "", ""
    for name in _NAMES:
        names = [row.value.get(name) for row in rows]
        if not all(isinstance(each, str) and each for each in names):
            continue
        if all(looks_like_id(str(each)) for each in names) or (
            name in {"id", "sensor", "type"} and len(set(map(str, names))) == 1
        ):
            continue
        for value in _VALUES:
            values = [row.value.get(value) for row in rows]
            if all(value in row.value for row in rows) and all(
                not isinstance(each, dict | list) for each in values
            ):
                return name, value
    return "", ""


def _time(columns: Columns) -> Time | None:
    found = [
        time
        for name, cells in columns.items()
        if _at_path(name) and not _is_stamp_within(name) and (time := time_of(name, cells))
    ]
    return max(found, key=lambda time: (time.score, -len(time.name)), default=None)


def _is_stamp_within(name: str) -> bool:
    """Whether a name says of what in an object it is the time, as `aenergy.minute_ts`: not of the message."""
    *_, last = name.split(".")
    return last != name and last.lower() != "ts" and words_of(last)[-1:] == ["ts"]


def _device_field(columns: Columns, taken: set[str], unsure: list[str]) -> str:
    best: tuple[int, str] | None = None
    for name, cells in columns.items():
        last = name.rpartition(".")[2]
        if name in taken or not _at_path(name) or last not in _DEVICES:
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
        unsure.append(f"{found} is taken for the device's name")
    return found


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
        and not set(value) & set("+#/")
        and value.isprintable()
    )


def _chosen(cells: Sequence[Cell], name: str) -> bool:
    """Whether a field, rather than the topic, is to name the device: it says several by one topic."""
    by_topic: dict[str, set[Any]] = defaultdict(set)
    for cell in cells:
        by_topic[cell.topic].add(cell.value)
    return name.startswith("$") or any(len(each) > 1 for each in by_topic.values()) or len(by_topic) == 1


def _region_field(columns: Columns, taken: set[str]) -> str:
    for name, cells in columns.items():
        words = words_of(name.rpartition(".")[2])
        if (
            name in taken
            or not _at_path(name)
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


def _key(columns: Columns, taken: set[str], unsure: list[str]) -> tuple[str, bool]:
    found = [
        key
        for name, cells in columns.items()
        if name not in taken and _at_path(name) and (key := key_of(name, cells))
    ]
    if not found:
        constant = [name for name in ("id", "message_id") if name in columns and name not in taken]
        if constant:
            unsure.append(f"{constant[0]} comes again with other content, so it is no key of a message")
        return "", False
    best = max(found, key=lambda key: key.score)
    unsure += best.unsure
    return best.name, best.counts


def _says_one(columns: Columns, taken: set[str]) -> str:
    """The field that is the value, when messages are a value and what is said of it."""
    left = [name for name in columns if name not in taken]
    values = [name for name in left if name in _VALUES]
    texts = [name for name in left if all(isinstance(cell.value, str) for cell in columns[name])]
    return values[0] if len(values) == 1 and len(left) - len(texts) <= _BESIDE else ""


def _renamed(left: Columns, named: str, taken: set[str], *, by_topic: bool) -> dict[str, str]:
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
            and holder.lower() in _HOLDERS
            and not inside & (outside | taken)
            and not any(name.isdigit() for name in inside)
        ):
            return {f"{holder}.*": "*"}
    return {}


def _texts(words: dict[str, Any], columns: dict[str, list[Any]], unsure: list[str]) -> None:
    """Numbers in texts, and states that are words."""
    numbers = {False: [], True: []}  # type: dict[bool, list[str]]
    states: dict[str, float] = {}
    for name, values in columns.items():
        texts = {value for value in values if isinstance(value, str) and value}
        if not texts:
            continue
        if pair := _states(texts):
            states |= pair
        elif all(not isinstance(read_number(text, with_unit=False), str) for text in texts):
            numbers[False].append(name)
        elif all(not isinstance(read_number(text, with_unit=True), str) for text in texts):
            numbers[True].append(name)
    if numbers[True] or numbers[False]:
        words["numbers"] = "from_text_with_unit" if numbers[True] else "from_text"
        shown = ", ".join((numbers[True] + numbers[False])[:4])
        if shown:
            unsure.append(f"texts that are numbers become numbers: {shown}")
    if states:
        words["states"] = states


def _by_name(elements: _Elements) -> dict[str, list[Any]]:
    """The values of elements that are one metric each, by the metric; empty when they are not."""
    values: dict[str, list[Any]] = defaultdict(list)
    for row in elements.rows if elements.name else ():
        values[str(row.value[elements.name])].append(row.value[elements.value])
    return values


def _states(texts: set[str]) -> dict[str, float]:
    low = {text.lower() for text in texts}
    for high, other in _STATES:
        if low <= {high, other}:
            example = min(texts)
            form = str.upper if example.isupper() else str.capitalize if example[:1].isupper() else str.lower
            return {form(high): 1, form(other): 0}
    return {}


def _tried(found: Guess) -> Guess:
    """Try the words, and take back those that lead to dead letters."""
    for _ in range(_TRIES if not usable(found.words) else 0):
        found.letters = letters(found.words, found.samples)
        if not found.letters:
            break
        [(reason, count)] = Counter(letter.reason for letter in found.letters).most_common(1)
        if count <= _BROKEN * len(found.samples) and reason != "time_out_of_range":
            break
        if not _mended(found, reason):
            break
    return found


def _mended(found: Guess, reason: str) -> bool:
    words = found.words
    changes: dict[str, tuple[str, Any, str]] = {
        "invalid_time": ("clock", "prefer", "some times cannot be read: then arrival counts"),
        "time_out_of_range": ("clock", "prefer", "some clocks are wrong: then arrival counts"),
        "invalid_key": ("key", "", "some keys cannot be kept, so none is used"),
        "invalid_region": ("region", "", "some regions cannot be kept, so none is used"),
        "device_mismatch": ("device", "", "what messages say of the device is not what the topic says"),
        "duplicate_key": (
            "rename",
            {},
            "names come together when they are made shorter, so they stay as they are",
        ),
    }
    name, value, said = changes.get(
        reason, ("on_bad_field", "drop", f"some fields cannot be kept ({reason}) and are left out")
    )
    if words.get(name) == value:
        if words.get("on_bad_field") == "drop":
            return False
        name, value, said = "on_bad_field", "drop", f"some fields cannot be kept ({reason}) and are left out"
    words[name] = value
    found.unsure.append(said)
    return True


def letters(words: dict[str, Any], samples: Sequence[Sample]) -> list[Rejection]:
    """What of messages becomes a dead letter by a route.

    Raises:
        ConfigurationError: the route is none.
    """
    raw: dict[str, Any] = {"route": [dict(words)]}
    complete_routes(raw)
    decoder = Decoder(compile_routes(msgspec.convert(raw["route"], list[Route])), Limits())
    return [
        each
        for sample in samples
        for each in decoder.decode(sample, Received.of(sample.at))
        if isinstance(each, Rejection)
    ]


def usable(words: dict[str, Any]) -> str:
    """Why a route cannot be; empty when it can."""
    try:
        letters(words, ())
    except (ConfigurationError, msgspec.ValidationError) as error:
        return str(error)
    return ""
