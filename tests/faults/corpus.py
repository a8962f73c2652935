"""Payloads that no gateway may store, made from a seed: each must end as a dead letter and harm nobody."""

from __future__ import annotations

import json
from random import Random

from tests.faults.messages import Sent

DEVICE = "evil"
GOOD = b'{"id":"k","ts":"2026-01-01T00:00:00Z","region":"north","temperature":21.5,"note":"ok"}'

_NUMBERS = b"""NaN -NaN Infinity -Infinity 1e301 -1.7e308 1e400 -1e999
-1e301 0x10 01 1. .5 +1 1e --1 1_000""".split()
_TIMES = b"""[] {} true 0 -1 1e30 "" "never" "12:00" "1970-01-01" "2999-01-01T00:00:00Z" "0000-00-00"
"2026-13-01T00:00:00Z" "2026-02-30T00:00:00Z" """.split()
_NAMES = [b'"%s"' % (b"x" * 300), *rb"""[] {} true 1.5 "" "a\u0000b" "\ud800" """.split()]
_ROOTS = [b" ", b"\xef\xbb\xbf{}", *b'null true 1 text "text" [] {} [1 [[] [null ] } : ,'.split()]
_AROUND = (b"%s,", b",%s", b"[%s", b"%s]", b"(%s)", b"/* c */%s", b"%s // c", b"\x00%s", b"%s\x00", b"%s %s")
_BROKEN_UTF8 = (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82", b"\x80")
_DEPTHS = (2_000, 10_000, 50_000)


def hostile_payloads(seed: int) -> list[bytes]:
    """At least 300 distinct ones, in random order."""
    rng = Random(seed)  # noqa: S311  # a replayable corpus, no secret
    found = {GOOD[:length] for length in range(1, len(GOOD))}
    found |= {GOOD.replace(b"21.5", number) for number in _NUMBERS}
    found |= {GOOD.replace(b'"2026-01-01T00:00:00Z"', time) for time in _TIMES}
    found |= {GOOD.replace(b'"k"', name) for name in _NAMES}
    regions = (name for name in (*_NAMES, b'"a\\nb"', b'"\\u007f"') if name != b'""')
    found |= {GOOD.replace(b'"north"', name) for name in regions}
    found |= {
        GOOD.replace(b'"temperature"', b'"%s"' % name) for name in (b"", b"\\u0000", b"x" * 200, b"a\\tb")
    }
    found |= {b'{"device_id":%s,' % name + GOOD[1:] for name in (*_NAMES, b'"somebody"', b'"a/b"', b'"#"')}
    found |= {b'{"%s":1,' % name + GOOD[1:] for name in (b"id", b"ts", b"region", b"temperature", b"note")}
    found |= {b'{"metrics":%s,' % value + GOOD[1:] for value in (b'{"a":nan}', b'{"note":1}')}
    found |= {around.replace(b"%s", GOOD) for around in _AROUND}
    found |= {b"[" * depth + b"]" * depth for depth in _DEPTHS}
    found |= {b'{"a":' * depth + b"1" + b"}" * depth for depth in _DEPTHS}
    found |= {b'{"metrics":{' + b",".join(b'"m%d":1' % i for i in range(n)) + b"}}" for n in (2000, 5000)}
    found |= set(_ROOTS) | {GOOD.decode().encode(code) for code in ("utf-16", "utf-32", "utf-16-be")}
    found |= {b"x" * 262_145, GOOD[:-1] + b',"pad":"' + b"y" * 270_000 + b'"}'}
    for bad in _BROKEN_UTF8:
        for _ in range(8):
            at = rng.randrange(1, len(GOOD))
            found.add(GOOD[:at] + bad + GOOD[at:])
    for _ in range(60):
        found.add(b"\xfe" + rng.randbytes(rng.randrange(1, 400)))
    for _ in range(40):
        found.add(json.dumps(_nest(rng, 0)).encode()[:-1])
    payloads = sorted(found)
    rng.shuffle(payloads)
    return payloads


def hostile(seed: int) -> list[Sent]:
    """The same as messages of one device."""
    return [Sent(DEVICE, "", None, "", {}, payload, 1, sound=False) for payload in hostile_payloads(seed)]


def _nest(rng: Random, depth: int) -> list[object]:
    """An array without objects. Cut short it is one piece of rubbish; whole, it would be one an element."""
    leaves: tuple[object, ...] = (rng.random(), "text", None, True, rng.randrange(10**9))
    return [
        rng.choice(leaves) if depth > 3 or rng.random() < 0.7 else _nest(rng, depth + 1) for _ in range(3)
    ]
