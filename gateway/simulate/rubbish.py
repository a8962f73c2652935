"""What broken devices send: ways to spoil a good message so that no gateway may store it.

Each way takes the bytes of a sound JSON object of the default device message and returns bytes that must
end as one dead letter. `conflict` is the exception: it takes a message that was sent before and gives its
key other content.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_TEMPERATURE = re.compile(rb'"temperature":[^,}]+')
_TIME = re.compile(rb'"ts":"[^"]*"')
_DEPTH = 10_000


def _temperature(value: bytes) -> Callable[[bytes], bytes]:
    return lambda good: _TEMPERATURE.sub(b'"temperature":' + value, good)


def _time(value: bytes) -> Callable[[bytes], bytes]:
    return lambda good: _TIME.sub(b'"ts":' + value, good)


def _with(member: bytes) -> Callable[[bytes], bytes]:
    return lambda good: b"{" + member + b"," + good[1:]


def _instead(payload: bytes) -> Callable[[bytes], bytes]:
    return lambda _good: payload


def conflict(sent: bytes) -> bytes:
    """Give a message that was sent before another temperature: the same key, other content."""
    return _temperature(b"-99.75")(sent)


WAYS: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda good: good[: len(good) // 2],
    "cut_to_nothing": _instead(b" "),
    "not_json": _instead(b"temperature=21.5;humidity=40"),
    "not_utf8": _with(b'"note":"\xff\xfe"'),
    "root_is_number": _instead(b"21.5"),
    "root_is_string": _instead(b'"21.5"'),
    "root_is_null": _instead(b"null"),
    "nested": _with(b'"note":' + b"[" * _DEPTH + b"]" * _DEPTH),
    "duplicate_member": lambda good: b'{"temperature":1.5,"temperature":2.5,' + good[1:],
    "lone_surrogate": _with(rb'"note":"\ud800"'),
    "nul": _with(rb'"note":"a\u0000b"'),
    "nan": _temperature(b"NaN"),
    "beyond_double": _temperature(b"1e400"),
    "beyond_sums": _temperature(b"1e301"),
    "time_is_list": _time(b"[2026,11,23]"),
    "time_is_word": _time(b'"yesterday"'),
    "time_before_2000": _time(b'"1970-01-01T00:00:12.000Z"'),
    "time_far_ahead": _time(b'"2199-01-01T00:00:00.000Z"'),
    "other_device": _with(b'"device_id":"somebody-else"'),
}
