"""The worst payloads that are known for each format, as large as a gateway takes unless it is told otherwise.

What they have in common: a great many of something that is looked at one by one. None may hold up the loop.
"""

from __future__ import annotations

import struct
from itertools import count
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import cbor2

from gateway.decode.limits import MAX_PLAIN, MAX_READINGS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIZE: Final = 262_144

_NAMED: Final = {"each": "list", "name": "n", "value": "v", "key": "", "time": "t"}
_EACH: Final = {"each": "list", "key": "", "time": ""}


class Hostile(NamedTuple):
    """A payload, and the route that it comes by.

    Attributes:
        name: what there is so much of.
        route: as a configuration has it.
        payload: the bytes.
        topic: that it comes by.
    """

    name: str
    route: dict[str, Any]
    payload: bytes
    topic: str = "devices/d1/telemetry"


def hostile() -> Iterator[Hostile]:
    """All of them."""
    yield from _json()
    yield from _shaped()
    yield from _lines()
    yield from _binary()


def _json() -> Iterator[Hostile]:
    yield Hostile("json, empty readings", {}, _fill(b"[", b"{}", b"]", b","))
    yield Hostile("json, as many readings as there may be", {}, _some(MAX_PLAIN, b'{"t":[]}'))
    late = b'{"ts":"Mon, 23 Nov 2026 9:00"}'
    yield Hostile("json, 4,000 times as they are written in mails", {}, _some(4_000, late))
    yield Hostile("json, one reading among numbers", {}, _fill(b'[{"a":1},', b"1", b"]", b","))
    yield Hostile("json, no numbers", {}, _fill(b'{"a":[', b"nan", b"]}", b","))
    yield Hostile("json, signs", {}, _fill(b"[", b"-"))
    yield Hostile("json, words", {}, _fill(b"[", b"abcd", b"", b","))
    yield Hostile("json, depth", {}, _fill(b"", b'{"a":'))
    yield Hostile("json, names", {}, _count(b"{", lambda n: b'"%d":1' % n, b"}", b","))
    yield Hostile("json, escaped names", {}, _count(b"{", lambda n: b'"\\u00e4%d":1' % n, b"}", b","))
    yield Hostile("json, one name", {}, _fill(b"{", b'"a":1', b"}", b","))
    yield Hostile("json, digits", {}, b'{"a":' + b"9" * (SIZE - 6) + b"}")
    metric = {"topic": "devices/{device_id}/{metric}", "format": "value"}
    yield Hostile("value, an array", metric, _fill(b"[", b"1", b"]", b","))


def _shaped() -> Iterator[Hostile]:
    one = b'{"a":1}'
    yield Hostile("each, elements", _EACH, _fill(b'{"list":[', b"1", b"]}", b","))
    yield Hostile("each, as many as there may be", _EACH, b'{"list":' + _some(MAX_READINGS, one) + b"}")
    yield Hostile("each, all refused", _EACH, b'{"list":' + _some(MAX_READINGS, b"{}") + b"}")
    keyed = {"each": "list", "key": "id"}
    yield Hostile("each, a key around", keyed, b'{"id":"k","list":' + _some(MAX_READINGS, one) + b"}")
    yield Hostile("name, no names", _NAMED, b'{"list":' + _some(MAX_READINGS, b'{"v":1}') + b"}")
    yield Hostile("name, one name", _NAMED, b'{"list":' + _some(MAX_READINGS, b'{"n":"a","v":1}') + b"}")
    names = _count(b'{"list":[', lambda n: b'{"n":"%d","v":1}' % n, b"]}", b",")
    yield Hostile("name, names", _NAMED, names)
    found = {"each": "list[?@ > `0`]", "key": "", "time": ""}
    yield Hostile("JMESPath, a filter", found, _fill(b'{"list":[', b"1", b"]}", b","))
    stars = {"topic": "x/y", "each": "*.v", "device": "$1", "key": "sum(values(@)[].v[])", "time": ""}
    many = _count(b"{", lambda n: b'"%d":{"v":[1]}' % n, b"}", b",")
    yield Hostile("JMESPath, around many", stars, many, "x/y")
    yield Hostile("ignore, names", {"ignore": ["*"]}, _count(b"{", lambda n: b'"%d":1' % n, b"}", b","))
    dropped = {"tags": ["t"], "on_bad_field": "drop"}
    yield Hostile("tags, names", dropped, _count(b'{"t":{', lambda n: b'"%d":1' % n, b"}}", b","))


def _lines() -> Iterator[Hostile]:
    csv = {"format": "csv", "csv": {"columns": ["a", "b"]}}
    yield Hostile("ndjson, lines", {"format": "ndjson"}, _fill(b"", b"{", b"", b"\n"))
    yield Hostile("ndjson, one line", {"format": "ndjson"}, _fill(b"", b"{}"))
    yield Hostile("csv, lines", csv, _fill(b"", b"1,2", b"", b"\n"))
    yield Hostile("csv, headers", csv, _fill(b"", b"a,b", b"", b"\n"))
    yield Hostile("csv, quotes", csv, _fill(b"", b'"', b"", b"\n"))
    influx = {"dialect": "influx/device"}
    yield Hostile("influx, lines", influx, _fill(b"", b"m a=1", b"", b"\n"), "influx/d1")
    open_ = _fill(b"", b'm a="x",b="', b"", b"\n")
    yield Hostile("influx, open strings", influx, open_, "influx/d1")
    tags = _count(b"m", lambda n: b",%d=1" % n, b" a=1")
    yield Hostile("influx, tags", influx, tags, "influx/d1")
    senml = {"dialect": "senml/device"}
    times = _count(b"[", lambda n: b'{"n":"a","v":1,"t":%d}' % (1_795_424_400 + n), b"]", b",")
    yield Hostile("senml, times", senml, times, "senml/d1")
    units = _count(b"[", lambda n: b'{"n":"%d","v":1,"u":"V"}' % n, b"]", b",")
    yield Hostile("senml, names", senml, units, "senml/d1")


def _binary() -> Iterator[Hostile]:
    cbor, msgpack = {"format": "cbor"}, {"format": "msgpack"}
    yield Hostile("cbor, empty maps", cbor, b"\xa0" * SIZE)
    yield Hostile("cbor, tags", cbor, _fill(b"\x9f", b"\xc4\x82\x20\x01", b"\xff"))
    yield Hostile("cbor, floats of 32 bits", cbor, _fill(b"\x9f", b"\xfa\x41\xac\xcc\xcd", b"\xff"))
    keys = _count(b"\xbf", lambda n: cbor2.dumps(n) + b"\x01", b"\xff")
    yield Hostile("cbor, keys that are numbers", cbor, keys)
    yield Hostile("msgpack, empty maps", msgpack, b"\x80" * SIZE)
    texts = struct.pack(">BI", 0xDD, 131_000) + b"\xc4\x00" * 131_000
    yield Hostile("msgpack, bytes", msgpack, texts)
    sparkplug, topic = {"dialect": "ignition/device-data"}, "spBv1.0/north/DDATA/l1/d1"
    yield Hostile("sparkplug, empty metrics", sparkplug, b"\x12\x00" * (SIZE // 2), topic)
    one = b"\x12\x05\x0a\x01a\x50\x01"
    yield Hostile("sparkplug, metrics", sparkplug, one * (SIZE // len(one)), topic)
    yield Hostile("sparkplug, unknown fields", sparkplug, b"\x30\x01" * (SIZE // 2), topic)


def _fill(head: bytes, one: bytes, tail: bytes = b"", between: bytes = b"") -> bytes:
    """As many of one as there is room for."""
    room = SIZE - len(head) - len(tail) + len(between)
    return head + between.join([one] * (room // len(one + between))) + tail


def _count(head: bytes, one: Callable[[int], bytes], tail: bytes = b"", between: bytes = b"") -> bytes:
    """As many as there is room for, each with another number."""
    found: list[bytes] = []
    size = len(head) + len(tail)
    for n in count():
        each = one(n)
        size += len(each) + len(between)
        if size > SIZE:
            return head + between.join(found) + tail
        found.append(each)
    return b""


def _some(number: int, one: bytes) -> bytes:
    return b"[" + b",".join([one] * number) + b"]"
