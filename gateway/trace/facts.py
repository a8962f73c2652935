"""What the servers know of a message. Pure."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.decode.paths import alternatives, is_plain, star_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from runtime.settings import Route

KeyNames = frozenset[tuple[str, ...]] | None
"""The last names of the paths that routes have for the key, in their order; None when there are others."""

_ESCAPE = re.compile(r"\\u([0-9a-f]{4})")


class Row(msgspec.Struct, frozen=True):
    """The outbox row that holds the message.

    Attributes:
        epoch: of the stream's history.
        published: up to where the gateway has noted that the broker acknowledged the stream's rows.
    """

    stream: int
    n: int
    epoch: str
    committed_at: datetime
    published: int


class Cursor(msgspec.Struct, frozen=True):
    """How far a projection has come on the row's stream.

    Attributes:
        projection: `redis` is the views.
        at: when it said so; None: just now.
    """

    projection: str
    n: int
    epoch: str | None
    at: datetime | None


class Stored(msgspec.Struct, frozen=True):
    """A measurement with the key.

    Attributes:
        row: None when it is not there.
        trimmed: whether the row, when it is not there, is old enough to have been trimmed.
        cursors: of the projections of the row's stream, the views' first. Without a row one, which tells no
            more than whether the views are whole; empty when Redis could not be asked.
        known_until: until when about a repeat is recognised; None: it would be stored again.
        view_updated_at: when the device's hash in Redis last changed; None when there is none.
        expired: whether the device has left the views once, silent for too long.
    """

    device_id: str
    ts: datetime
    received_at: datetime
    region: str | None
    metrics: msgspec.Raw
    row: Row | None
    trimmed: bool
    cursors: list[Cursor]
    known_until: datetime | None
    view_updated_at: str | None
    expired: bool


class Letter(msgspec.Struct, frozen=True):
    """A dead letter that names the key.

    Attributes:
        certain: False when its bytes cannot be read and merely contain the key.
    """

    id: int
    received_at: datetime
    device_id: str | None
    reason: str
    error: str
    replayed_at: datetime | None
    certain: bool


class Searched(msgspec.Struct, frozen=True):
    """Where measurements were looked for.

    Attributes:
        devices: those that were looked at; None: all, which is slow.
        since: earliest device time.
        window_since: since when keys are known for certain.
    """

    devices: list[str] | None
    since: datetime
    window_since: datetime


class Facts(msgspec.Struct, frozen=True):
    """All of it.

    Attributes:
        key_known: whether the dedup window holds the key for one of the devices looked at.
        redis_away: why Redis could not be asked; None when it was.
    """

    key: str
    stored: list[Stored]
    letters: list[Letter]
    key_known: bool
    searched: Searched
    redis_away: str | None


def spellings(key: str) -> list[bytes]:
    r"""How a key may stand in JSON: as it is, or with \u escapes, their digits in lower or upper case."""
    escaped = json.dumps(key)[1:-1]
    upper = _ESCAPE.sub(lambda found: rf"\u{found[1].upper()}", escaped)
    return sorted({msgspec.json.encode(key)[1:-1], escaped.encode(), upper.encode()})


def key_names(routes: Sequence[Route]) -> KeyNames:
    """The names of the fields that are message keys; None when a route has an expression for it."""
    keys = [alternatives(route.key) for route in routes]
    if not all(is_plain(path) and star_of(path) is None for paths in keys for path in paths):
        return None
    return frozenset(tuple(path.rpartition(".")[2] for path in paths) for paths in keys)


def names_key(payload: bytes, key: str, names: KeyNames) -> bool | None:
    """Whether a JSON payload has the key in a field that may be one; None when that cannot be told."""
    try:
        value: Any = msgspec.json.decode(payload)
    except (msgspec.DecodeError, RecursionError):
        return None
    if names is None:
        return None
    within = [value]
    while within:
        each = within.pop()
        if isinstance(each, dict):
            if any(str(_first(each, alternative)) == key for alternative in names):
                return True
            within += each.values()
        elif isinstance(each, list):
            within += each
    return False


def _first(item: dict[str, Any], names: Iterable[str]) -> object:
    return next((item[name] for name in names if item.get(name) is not None), None)
