"""docs/dialects.md, made from the files of the dialects. `python -m gateway.dialects.page` writes it."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from gateway.decode import Reading
from gateway.decode.dialects import ALSO, names, read
from gateway.dialects.listing import payload, topics
from gateway.dialects.played import play

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.decode import Rejection
    from gateway.decode.dialects import Dialect
    from gateway.dialects.played import Played

PAGE: Final = Path("docs/dialects.md")

_ARRIVAL: Final = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
_BRIEF: Final = 160  # characters of a payload
_METRICS: Final = 4  # of a reading
_SEVERAL: Final = 2

_HEAD: Final = """\
# Dialects

Presets of routes for what devices and gateways of a kind send.
Made from `gateway/decode/dialects/` by `make dialects`.

```toml
[[route]]
dialect = "tasmota"            # all of its topics; dialect = "tasmota/sensor" is one of them
prefix = "{region}/"           # levels in front of them, where a site has some
timezone = "Europe/Berlin"     # what stands beside it wins
```

`gateway dialects NAME` shows the routes and what their examples become, and `gateway decode TOPIC FILE
--dialect NAME` what a message of yours would. Routes are tried in their order, so one of your own in front
of a dialect takes what it matches; of dialects one after the other, topics that begin with any device's
name come last. Two with the same topics cannot stand beside each other (ChirpStack v3 and v4, Telegraf's
JSON and line protocol): `gateway check` names what is never reached. Topics that are left out carry no
telemetry, but commands, or what describes a device. By wills, births and the like it is known which devices
are online.
"""


def page() -> str:
    """All of it."""
    others = ", ".join(f"`{other}` for `{name}`" for other, name in ALSO.items() if "/" not in other)
    also = f"Other names are understood too: {others}; and `_` is read as `-`.\n"
    return "\n".join([_HEAD, also, *(line for name in names() for line in _lines(read(name)))])


def _lines(dialect: Dialect) -> Iterator[str]:
    carrying = topics(dialect)
    others = [words["topic"] for words in dialect.routes.values() if words.get("ignore") is True]
    said = [words["topic"] for words in dialect.routes.values() if words.get("presence")]
    told = f"; online or offline by {_codes(said)}" if said else ""
    left_out = f"{told}; left out: {_codes(others)}" if others else told
    shown = min(
        (each for part in play(dialect, _ARRIVAL) for each in part.played if each.found), key=_plainness
    )
    yield f"## {dialect.title}: `{dialect.name}`"
    yield ""
    yield dialect.about.replace("<", "&lt;")
    yield ""
    yield f"- Topics: {_codes(carrying)}{left_out}."
    yield f"- `{shown.example.topic}` with {_code(_brief(payload(shown)))}"
    yield f"  becomes {_became(shown)}."
    yield f"- Source: {', '.join(f'<{address}>' for address in dialect.source)}"
    yield ""


def _plainness(played: Played) -> tuple[bool, bool, int]:
    """The lower, the better an example shows a dialect: with a time of its own, several values, and short."""
    reading = played.found[0]
    if not isinstance(reading, Reading):
        return True, True, len(played.payload)
    event = reading.event
    metrics = msgspec.json.decode(event.metrics)
    return event.ts == event.received_at, len(metrics) < _SEVERAL, len(played.payload)


def _became(played: Played) -> str:
    first = played.found[0]
    more = f", and {len(played.found) - 1} more" if len(played.found) > 1 else ""
    return f"{_reading(first)}{more}"


def _reading(item: Reading | Rejection) -> str:
    if not isinstance(item, Reading):
        return f"a dead letter, `{item.reason}`"
    event = item.event
    metrics = msgspec.json.decode(event.metrics)
    shown = [f"`{name}` {_code(msgspec.json.encode(each).decode())}" for name, each in metrics.items()]
    rest = f" and {len(shown) - _METRICS} more" if len(shown) > _METRICS else ""
    time = "when it arrives" if event.ts == event.received_at else f"at {event.ts}"
    return f"a reading of `{event.device_id}` {time}: {', '.join(shown[:_METRICS])}{rest}"


def _brief(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _BRIEF else f"{text[:_BRIEF]}…"


def _codes(texts: list[str]) -> str:
    return ", ".join(map(_code, texts))


def _code(text: str) -> str:
    return f"`` {text} ``" if "`" in text else f"`{text}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
