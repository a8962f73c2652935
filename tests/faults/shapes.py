"""Shapes in which the field sends what `messages.py` makes, and what must come out of each.

Each takes an ordinary message and makes another one of it: its payload and its topic, and with them what must
be stored. `ROUTES` is the configuration that they need.
"""

from __future__ import annotations

import json
from copy import copy
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections import Counter
    from random import Random

    from tests.faults.messages import Sent

ROUTES = """
[[route]]
topic = "devices/{device_id}/telemetry"

[[route]]
topic = "s/{device_id}/{metric}"

[[route]]
topic = "ble/{device_id}"
key = ""

[[route]]
topic = "plant/{line}/{device_id}/up"
"""


def reshape(sent: Sent, rng: Random, counters: Counter[str]) -> None:
    """Give a message one of the shapes.

    Args:
        sent: becomes another message.
        rng: chooses.
        counters: of the topics that count their messages, and go on counting.
    """
    sent.shaped = True
    rng.choice(SHAPES)(sent, rng, counters)


def _encode(sent: Sent, **fields: object) -> None:
    """Write the payload: key, time and region as the message has them, and these."""
    body: dict[str, object] = {} if sent.key is None else {"id": sent.key}
    if sent.ts is not None:
        body["ts"] = sent.ts
    if sent.region is not None:
        body["region"] = sent.region
    text = json.dumps({**body, **fields}, separators=(",", ":"), ensure_ascii=False)
    sent.payload = text.encode()


def nested(sent: Sent, rng: Random, _: Counter[str]) -> None:
    """Objects in objects."""
    _encode(sent, values={**sent.metrics, "raw": {"adc": rng.randrange(4096), "note": None}})
    raw = json.loads(sent.payload)["values"]["raw"]
    sent.metrics = {f"values.{name}": value for name, value in sent.metrics.items()}
    sent.metrics["values.raw.adc"] = raw["adc"]


def listed(sent: Sent, rng: Random, _: Counter[str]) -> None:
    """An array of values."""
    data = [round(rng.uniform(-1, 1), 3) for _ in range(rng.randrange(1, 5))]
    _encode(sent, **sent.metrics, data=[*data, {"ok": True}])
    sent.metrics |= {f"data.{i}": value for i, value in enumerate(data)}
    sent.metrics[f"data.{len(data)}.ok"] = True


def unkeyed(sent: Sent, _: Random, __: Counter[str]) -> None:
    """No key: one is made, and a repeat is known by it."""
    sent.metrics["unkeyed"] = str(sent.key)
    sent.key = None
    _encode(sent, **sent.metrics)


def untimed(sent: Sent, _: Random, __: Counter[str]) -> None:
    """No time: arrival is its time."""
    sent.ts = None
    _encode(sent, **sent.metrics)


def bare(sent: Sent, _: Random, __: Counter[str]) -> None:
    """Neither key nor time: each delivery is a message."""
    sent.metrics["bare"] = str(sent.key)
    sent.key = sent.ts = None
    _encode(sent, **sent.metrics)


def epoch_as_text(sent: Sent, _: Random, __: Counter[str]) -> None:
    """Milliseconds since 1970, in quotes."""
    assert sent.ts is not None
    sent_ts, milliseconds = sent.ts, round(datetime.fromisoformat(sent.ts).timestamp() * 1000)
    _encode(sent, ts=str(milliseconds), **sent.metrics)
    assert sent.ts == sent_ts


def topic_a_metric(sent: Sent, rng: Random, counters: Counter[str]) -> None:
    """The topic names the metric, and counts its messages for itself."""
    name = rng.choice(("temp", "hum", "co2"))
    sent.topic = f"s/{sent.device}/{name}"
    counters[sent.topic] += 1
    sent.key, sent.region = str(counters[sent.topic]), None
    value = sent.metrics["temperature"]
    sent.metrics = {name: value}
    _encode(sent, id=counters[sent.topic], value=value)


def constant_id(sent: Sent, _: Random, __: Counter[str]) -> None:
    """An `id` that names the sensor, on a route that says that it is no key."""
    sent.topic = f"ble/{sent.device}"
    sent.metrics |= {"id": "a4:c1:38:00:00:01", "n": str(sent.key)}
    sent.key = None
    _encode(sent, **sent.metrics)


def long_integer(sent: Sent, rng: Random, _: Counter[str]) -> None:
    """An integer beyond 64 bits: its digits are kept."""
    number = rng.randrange(10**19, 10**20)
    _encode(sent, **sent.metrics, iccid=number)
    sent.metrics["iccid"] = str(number)


def empty_region(sent: Sent, _: Random, __: Counter[str]) -> None:
    """A region that is none."""
    sent.region = None
    _encode(sent, region="", **sent.metrics)


def unicode_names(sent: Sent, _: Random, __: Counter[str]) -> None:
    """Names and texts from all over the world."""
    sent.metrics |= {"température": 21.5, "温度": 3, "état": "ok 🌡 \t\\N", "a b": False}
    _encode(sent, **sent.metrics)


def tagged(sent: Sent, rng: Random, _: Counter[str]) -> None:
    """The topic says more than the device."""
    sent.tags = {"line": rng.choice(("l1", "l2", "größe"))}
    sent.topic = f"plant/{sent.tags['line']}/{sent.device}/up"
    _encode(sent, **sent.metrics)


def array(sent: Sent, rng: Random, _: Counter[str]) -> None:
    """Several readings in one payload."""
    key, payloads = sent.key, []
    for place in range(rng.randrange(2, 5)):
        each = sent if place == 0 else copy(sent)
        each.key = f"{key}.{place}"
        each.metrics = {**sent.metrics, "place": place}
        _encode(each, **each.metrics)
        payloads.append(each.payload)
        if place:
            each.also = []
            sent.also.append(each)
    sent.payload = b"[" + b",".join(payloads) + b"]"


SHAPES = (
    nested,
    listed,
    unkeyed,
    untimed,
    bare,
    epoch_as_text,
    topic_a_metric,
    constant_id,
    long_integer,
    empty_region,
    unicode_names,
    tagged,
    array,
)
