"""The worst payloads that are known for each format, as large as a gateway takes unless it is told otherwise.

What they have in common: a great many of something that is looked at one by one. None may hold up the loop.
"""

from __future__ import annotations

import gzip
import struct
from itertools import count
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import cbor2

from gateway.decode.limits import MAX_LINES, MAX_ODD, MAX_PLAIN, MAX_READINGS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIZE: Final = 262_144

_NAMED: Final = {"each": "list", "name": "n", "value": "v", "key": "", "time": "t"}
_EACH: Final = {"each": "list", "key": "", "time": ""}
_DROP: Final = {"key": "", "on_bad_field": "drop"}
_T: Final = 1_795_424_400  # seconds since 1970
_WORST: Final = frozenset({"json, words", "csv, readings", "ndjson, readings", "cbor, keys that are numbers"})


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
    yield from _written()
    yield from _shaped()
    yield from _made()
    yield from _named()
    yield from _lines()
    yield from _binary()
    yield from _packed()


def _json() -> Iterator[Hostile]:
    yield Hostile("json, empty readings", {}, _fill(b"[", b"{}", b"]", b","))
    yield Hostile("json, as many readings as there may be", {}, _some(MAX_PLAIN, b'{"t":[]}'))
    late = b'{"ts":"Mon, 23 Nov 2026 9:00"}'
    yield Hostile("json, 2,000 times as they are written in mails", {}, _some(2_000, late))
    yield Hostile("json, times as they are written in mails", {}, _fill(b"[", late, b"]", b","))
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
    several = {"topic": "devices/{device_id}/{metric}"}
    yield Hostile("json, numbers that are readings", several, _some(MAX_PLAIN, b"1"))
    yield Hostile("json, arrays in arrays", {"key": ""}, _fill(b"[", b'{"a":[[[[[[[[1]]]]]]]]}', b"]", b","))
    yield Hostile("json, empty arrays", {}, _fill(b'{"id":"k","a":[', b"[]", b"]}", b","))
    yield Hostile("json, nested", _DROP, _fill(b'{"id":"k","a":[', b"[1]", b"]}", b","))
    yield Hostile("json, names of names", _DROP, _count(b"[", lambda n: b'{"a%d":{"b":1}}' % n, b"]", b","))
    yield Hostile("json, metrics", _DROP, _count(b'{"id":"k",', lambda n: b'"%d":1' % n, b"}", b","))
    yield Hostile("json, no numbers beside some", _DROP, _some(MAX_ODD, b'{"a":nan,"b":1}'))
    yield Hostile("json, texts with NUL", _DROP, _fill(b"[", b'{"a":"\\u0000","b":1}', b"]", b","))


def _written() -> Iterator[Hostile]:
    """Times that take long to read."""
    claimed = {"key": "", "clock": "prefer"}
    yield Hostile("times, none", claimed, _count(b"[", lambda n: b'{"ts":"x%d","a":1}' % n, b"]", b","))
    pattern = {"key": "", "time_format": "%d.%m.%Y %H:%M:%S"}
    yield Hostile("times, by a pattern", pattern, _fill(b"[", b'{"ts":"23.11.2026 08:00:00"}', b"]", b","))
    twice = {"key": "", "timezone": "Europe/Berlin"}
    yield Hostile("times, twice a year", twice, _fill(b"[", b'{"ts":"2026-10-25T02:30:00"}', b"]", b","))


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
    yield Hostile("each, distinct shapes", _EACH, _list(lambda n: b'{"a%d":{"b":[1,2,[3,4]]}}' % (n // 2)))
    yield Hostile("each, depth", _EACH, _list(lambda n: b'{"a%d":[[[[[[[[1]]]]]]]]}' % n))
    tags = {**_EACH, "tags": ["x", "y", "z"]}
    yield Hostile("each, tags", tags, _list(lambda n: b'{"a":1,"x":"%d","y":{"a":"b"},"z":"c"}' % n))
    words = {**_EACH, "numbers": "from_text_with_unit", "states": {"ON": 1}}
    yield Hostile("each, numbers in texts", words, _list(lambda n: b'{"a":"%d V","b":"2,5 A"}' % n))
    patterns = {**_EACH, "ignore": [f"a*{n}" for n in range(20)]}
    yield Hostile("each, patterns", patterns, _list(lambda n: b'{"a%d":1,"b":1}' % n))
    around = _count(b'{"list":[' + b",".join([one] * 1000) + b"],", lambda n: b'"q%d":[1]' % n, b"}", b",")
    yield Hostile("each, a great deal around", _EACH, around)
    inner = _fill(b'{"list":[{"a":1,"b":[', b"[1]", b"]}]}", b",")
    yield Hostile("each, what is ignored", {**_EACH, "ignore": ["b.*"]}, inner)
    held = _list(lambda _: b'{"v":{"a":1},"b":1}')
    yield Hostile("each, metrics beside others", {**_EACH, "metrics": "v"}, held)
    yield Hostile("each, of many messages", _EACH, _some(MAX_READINGS, b'{"list":[1]}'))


def _made() -> Iterator[Hostile]:
    """Expressions."""
    found = {"each": "list[?@ > `0`]", "key": "", "time": ""}
    yield Hostile("JMESPath, a filter", found, _fill(b'{"list":[', b"1", b"]}", b","))
    stars = {"topic": "x/y", "each": "*.v", "device": "$1", "key": "sum(values(@)[].v[])", "time": ""}
    many = _count(b"{", lambda n: b'"%d":{"v":[1]}' % n, b"}", b",")
    yield Hostile("JMESPath, around many", stars, many, "x/y")
    every = {"device": "join('-', [a, b])", "key": "join('+', [a, b])", "time": "t || u", "tags": ["a && b"]}
    of_all = _list(lambda n: b'{"a":"%d","b":"c","v":1}' % n)
    yield Hostile("JMESPath, in elements", {"topic": "x/y", "each": "list", **every}, of_all, "x/y")


def _named() -> Iterator[Hostile]:
    """Metrics and tags by their names."""
    some = {**_NAMED, "on_bad_field": "drop"}
    yield Hostile("name, shapes", some, _list(lambda n: b'{"n":"%d","v":1,"x%d":1}' % (n, n)))
    yield Hostile("name, objects", some, _list(lambda n: b'{"n":"%d","v":{"a":1}}' % n))
    yield Hostile("name, rules of their own", some, _list(lambda n: b'{"n":"a","v":[[1]],"t":%d}' % (_T - n)))
    yield Hostile("name, times", _NAMED, _list(lambda n: b'{"n":"a","v":1,"t":%d}' % (_T - n)))
    yield Hostile("ignore, names", {"ignore": ["*"]}, _count(b"{", lambda n: b'"%d":1' % n, b"}", b","))
    dropped = {"tags": ["t"], "on_bad_field": "drop"}
    yield Hostile("tags, names", dropped, _count(b'{"t":{', lambda n: b'"%d":1' % n, b"}}", b","))


def _lines() -> Iterator[Hostile]:
    ndjson = {"format": "ndjson", "key": ""}
    yield Hostile("ndjson, readings", ndjson, b"\n".join([b'{"a":1}'] * MAX_LINES))
    yield Hostile("ndjson, no numbers", ndjson, b"\n".join([b'{"a":nan}'] * MAX_LINES))
    inside = {**ndjson, "each": "l", "time": ""}
    yield Hostile("ndjson, several in each", inside, b"\n".join([b'{"l":[1,{}]}'] * 2000))
    csv = {"format": "csv", "csv": {"columns": ["a", "b"]}}
    yield Hostile("csv, readings", {**csv, "key": "", "time": ""}, b"\n".join([b"1,2"] * MAX_LINES))
    head = b",".join(b"a%d" % n for n in range(200)) + b"\n"
    wide = _fill(head, b",".join([b"1"] * 200), b"", b"\n")
    yield Hostile("csv, wide lines", {"format": "csv", "key": "", "on_bad_field": "drop"}, wide)
    yield Hostile("ndjson, lines", {"format": "ndjson"}, _fill(b"", b"{", b"", b"\n"))
    yield Hostile("ndjson, one line", {"format": "ndjson"}, _fill(b"", b"{}"))
    yield Hostile("csv, lines", csv, _fill(b"", b"1,2", b"", b"\n"))
    yield Hostile("csv, headers", csv, _fill(b"", b"a,b", b"", b"\n"))
    yield Hostile("csv, quotes", csv, _fill(b"", b'"', b"", b"\n"))
    influx = {"dialect": "influx/device"}
    yield Hostile("influx, lines", influx, _fill(b"", b"m a=1", b"", b"\n"), "influx/d1")
    escaped = _count(b"", lambda n: b"m\\,,t\\ =\\= a\\ =1i,b=t %d" % (_T - n), b"", b"\n")
    yield Hostile("influx, escapes", influx, escaped, "influx/d1")
    open_ = _fill(b"", b'm a="x",b="', b"", b"\n")
    yield Hostile("influx, open strings", influx, open_, "influx/d1")
    tags = _count(b"m", lambda n: b",%d=1" % n, b" a=1")
    yield Hostile("influx, tags", influx, tags, "influx/d1")
    senml = {"dialect": "senml/device"}
    records = b"".join(cbor2.dumps({0: "a", 2: 1.5, 6: _T - n}) for n in range(4000))
    yield Hostile("senml, records of CBOR", senml, b"\x9f" + records + b"\xff", "senml/d1")
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
    head = b"\xdd" + struct.pack(">I", MAX_LINES)
    yield Hostile("msgpack, readings", msgpack, head + b"\x81\xa1a\xca\x41\xac\xcc\xcd" * MAX_LINES)
    floats = struct.pack(">BI", 0xDD, 52_000) + b"\xca\x41\xac\xcc\xcd" * 52_000
    yield Hostile("msgpack, floats of 32 bits", msgpack, floats)
    sparkplug, topic = {"dialect": "ignition/device-data"}, "spBv1.0/north/DDATA/l1/d1"
    yield Hostile("sparkplug, empty metrics", sparkplug, b"\x12\x00" * (SIZE // 2), topic)
    one = b"\x12\x05\x0a\x01a\x50\x01"
    yield Hostile("sparkplug, metrics", sparkplug, one * (SIZE // len(one)), topic)
    yield Hostile("sparkplug, unknown fields", sparkplug, b"\x30\x01" * (SIZE // 2), topic)


def _packed() -> Iterator[Hostile]:
    """A payload of each kind that is larger than it came."""
    for each in (*_json(), *_lines(), *_binary()):
        if each.name in _WORST and "dialect" not in each.route:
            packed = {**each.route, "compression": "gzip"}
            yield Hostile(f"gzip, {each.name}", packed, gzip.compress(each.payload), each.topic)


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


def _list(one: Callable[[int], bytes], most: int = 5000) -> bytes:
    """A message with as many elements as there is room for, and no more than that."""
    return b'{"list":[' + b",".join(one(n) for n in range(most)) + b"]}"
