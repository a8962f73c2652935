"""`[[route]]`: which topics carry telemetry, in what format, and what of a message means what."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta

from runtime.errors import ConfigurationError
from runtime.settings.types import Paths, Section, Text

if TYPE_CHECKING:
    from collections.abc import Sequence

FormatName = Literal[
    "json", "ndjson", "value", "csv", "influx", "senml", "cbor", "msgpack", "protobuf", "sparkplug", "bytes"
]
Compression = Literal["auto", "none", "gzip", "zlib", "zstd"]
Dialect = Annotated[
    str,
    Meta(
        pattern=r"^([a-z0-9_-]+(/[a-z0-9_-]+)?)?$",
        max_length=64,
        description='a name such as "tasmota", or "tasmota/sensor" for a part of it',
    ),
]
Prefix = Annotated[
    str,
    Meta(
        pattern=r"^([^#\x00]*/)?$",
        max_length=500,
        description='levels that end in a slash, such as "site/{region}/", or "" for none',
    ),
]
Metric = Annotated[str, Meta(pattern=r"^[^\x00-\x1f]*$", max_length=128, description="the name of a metric")]
Name = Annotated[str, Meta(min_length=1, max_length=512, description="a name of 1 to 512 characters")]
Names = Annotated[
    tuple[Name, ...],
    Meta(description="true, false or a list of names, in which * stands for anything"),
]
PathList = Annotated[tuple[Paths, ...], Meta(description='a list of paths such as ["meta.line"]')]
State = Annotated[int | float, Meta(description="a number")]
Order = Literal["big", "little"]
Binary = Literal[
    "uint8", "int8", "uint16", "int16", "uint24", "int24", "uint32", "int32", "uint64", "int64",
    "float16", "float32", "float64", "bool", "text", "hex",
]  # fmt: skip


PLACE: Final = "(place)"
"""The key under which a route of a dialect says where that stands; no file has such a key."""


class Csv(Section, frozen=True):
    """How lines of values are read.

    `columns` are the names of the values; empty takes them from the first line of each message, which then is
    a header. `delimiter` empty finds it out among comma, semicolon, tab and bar.
    """

    columns: tuple[Metric, ...] = ()
    header: bool | None = None
    delimiter: Annotated[str, Meta(max_length=1, description='one character, or "" to find it out')] = ""
    comment: Annotated[str, Meta(max_length=8, description='how a comment begins, or ""')] = ""


class Influx(Section, frozen=True):
    """How line protocol is read: in what its timestamps count."""

    precision: Literal["auto", "ns", "us", "ms", "s"] = "auto"


class Protobuf(Section, frozen=True):
    """Which message of a descriptor set a payload is.

    `descriptor` is the file that `protoc --descriptor_set_out=… --include_imports` writes.
    """

    descriptor: str = ""
    message: str = ""


class Field(Section, frozen=True):
    """A value of a fixed layout: where it stands, as what, and what is made of it.

    `at` is in bytes, negative from the end. `bits` takes `[first, count]` of an unsigned integer, from the
    lowest. The number is multiplied by `scale`, and then `add` is added.
    """

    name: Metric
    type: Binary
    at: Annotated[int, Meta(ge=-65536, le=65536)] = 0
    order: Order | None = None
    bits: Annotated[tuple[int, ...], Meta(description="two integers: the lowest bit and how many")] = ()
    size: Annotated[int, Meta(ge=0, le=65536)] = 0
    scale: float = 1.0
    add: float = 0.0


class Bytes(Section, frozen=True):
    """A payload of fixed places: a preset, or fields of one's own.

    `inside` is the path of a text in a JSON payload that holds the bytes, in `encoding`; without it the
    payload is the bytes, or their text.
    """

    preset: Literal["", "cayenne-lpp", "ruuvi"] = ""
    encoding: Literal["raw", "base64", "hex"] = "raw"
    inside: Paths = ""
    order: Order = "big"
    field: tuple[Field, ...] = ()


class Example(Section, frozen=True):
    """A message of a route, and the readings that it becomes, as `gateway decode --json` prints them.

    What a reading's `expect` leaves out is not looked at. A payload that is no text is given in `hex` or
    `base64`; `at` is when it arrives, and `reject` the reason of the dead letters that it comes to.
    """

    topic: Text
    payload: str = ""
    hex: str = ""
    base64: str = ""
    at: str = ""
    expect: tuple[dict[str, object], ...] = ()
    reject: str = ""


class Route(Section, frozen=True):
    """Which topics carry telemetry, in what format, and what of a message means what.

    A path is a name, or names with dots between them for what is nested, or any JMESPath expression; `a | b`
    is the first that is there, and "" is none. `$1` is what the first `*` in `each` stood for. What is looked
    for is looked for in a reading first, and then in the message around it.

    Attributes:
        dialect: a preset, `gateway dialects` lists them; what stands beside it wins.
        prefix: levels in front of the topics of a dialect; where it names the device, they do not.
        each: path of the arrays whose elements are readings.
        name, value: of an element that is one metric: the paths of its name and its value.
        tags: paths of what is kept as tags.
        rename: name of a metric → its new one, with a `*` for what they have in common.
        numbers: whether a text that is a number is one; with a unit after it too.
        states: text → number.
        presence: path of the word by which a message says whether its device is online; `@` is a message that
            is nothing else.
        presence_words: word → whether the device is online, beside those that are known.
        clock: what a device time that cannot be, or cannot be read, leads to: "device" refuses the message,
            "prefer" takes the time of arrival, and "received" always does.
        empty: what a message without key, time and metric leads to: devices say "no value" by null.
        ignore: true leaves all messages out; a list the metrics of these names.
        metric: of a message that is a value alone, where the topic has no {metric}.
    """

    topic: Text = "devices/{device_id}/telemetry"
    dialect: Dialect = ""
    prefix: Prefix = ""
    format: FormatName = "json"
    compression: Compression = "auto"
    each: Paths = ""
    device: Paths = "device_id"
    key: Paths = "id | message_id | idempotency_key"
    time: Paths = "ts | timestamp | time"
    time_format: Text = "auto"
    timezone: Text = "UTC"
    clock: Literal["device", "prefer", "received"] = "device"
    region: Paths = "region"
    metrics: Paths = ""
    metric: Metric = ""
    name: Paths = ""
    value: Paths = ""
    tags: PathList = ()
    rename: dict[str, Metric] = msgspec.field(default_factory=dict)
    numbers: Literal["as_sent", "from_text", "from_text_with_unit"] = "as_sent"
    states: dict[str, State] = msgspec.field(default_factory=dict)
    presence: Paths = ""
    presence_words: dict[Name, bool] = msgspec.field(default_factory=dict)
    on_bad_field: Literal["reject", "drop"] = "reject"
    empty: Literal["reject", "ignore"] = "reject"
    ignore: bool | Names = False
    identity: Literal["key", "key+time"] = "key"
    qos: Literal[0, 1, 2] = 1
    csv: Csv = Csv()
    influx: Influx = Influx()
    protobuf: Protobuf = Protobuf()
    bytes: Bytes = Bytes()
    example: tuple[Example, ...] = ()
    place: str = msgspec.field(default="", name=PLACE)

    def where(self, at: int) -> str:
        """Where in the file it stands: what dialects stand for is counted as what was written."""
        return self.place or f"route[{at}]"


_OF_FORMATS: Final = ("csv", "influx", "protobuf", "bytes")  # tables that are called as their format


def check_routes(routes: Sequence[Route]) -> None:
    """Refuse what no single key of a route shows to be impossible.

    Raises:
        ConfigurationError: with the route's position.
    """
    for at, route in enumerate(routes):
        for table in _OF_FORMATS:
            given = getattr(route, table)
            if given != type(given)() and route.format != table:
                where = f"{route.where(at)}.{table}"
                raise ConfigurationError(f'{where}: has no effect with format = "{route.format}"')
        for text, number in route.states.items():
            if not isfinite(number):
                raise ConfigurationError(f"{route.where(at)}.states.{text}: expected a finite number")
        if route.presence_words and not (route.presence or route.dialect):
            raise ConfigurationError(
                f"{route.where(at)}.presence_words: has no effect without presence, the path of the word"
            )
