"""The registry in PostgreSQL: changed all at once or not at all, and read in pages."""

from __future__ import annotations

from collections import deque
from datetime import timedelta
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from gateway.registry.entry import Entry, encoded
from runtime.errors import Stop
from runtime.postgres import lent, load_queries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from datetime import datetime

    import asyncpg

    from gateway.door import State
    from gateway.registry.entry import Wish

queries = load_queries("gateway")

_PAGE: Final = 5000


class Changed(NamedTuple):
    """What became of wishes; each is one device."""

    added: int
    changed: int
    unchanged: int


class Listed(msgspec.Struct, frozen=True):
    """A device of a list.

    Attributes:
        state: `unknown` is also one that is in no registry, and of which letters are held.
        last_seen: by its clock; null of one that was never heard.
        held: its messages that wait for it to become known.
    """

    device_id: str
    name: str | None
    state: State
    labels: dict[str, str]
    expected_every_seconds: int | None
    region: str | None
    first_seen: datetime | None
    last_seen: datetime | None
    held: int


class Selection(NamedTuple):
    """Which devices; what is empty is any."""

    states: Sequence[State] = ()
    labels: Mapping[str, str] = {}
    prefix: str = ""
    never_heard: bool = False


async def change(pool: asyncpg.Pool[asyncpg.Record], wishes: Sequence[Wish]) -> Changed:
    """Do what somebody wants of devices, one wish each.

    Raises:
        Stop: what one of them comes to cannot be; nothing was changed.
    """
    by_id = sorted(wishes, key=attrgetter("device_id"))
    added = changed = 0
    async with lent(pool) as connection, connection.transaction():
        await connection.execute(queries.lock_registry)
        for first in range(0, len(by_id), _PAGE):
            some = by_id[first : first + _PAGE]
            known = await connection.fetch(queries.registry_of, [wish.device_id for wish in some])
            before = {record["device_id"]: _entry(record) for record in known}
            wanted: list[Entry] = []
            for wish in some:
                was = before.get(wish.device_id)
                try:
                    entry = wish.on(was)
                except ValueError as error:
                    raise Stop(f"device {wish.device_id!r}: {error}; nothing was changed") from error
                if entry != was:
                    wanted.append(entry)
                    added += was is None
                    changed += was is not None
            if wanted:
                await connection.execute(
                    queries.write_registry,
                    [entry.device_id for entry in wanted],
                    [entry.name for entry in wanted],
                    [entry.state for entry in wanted],
                    [encoded(entry.labels) for entry in wanted],
                    [entry.expected_s and timedelta(seconds=entry.expected_s) for entry in wanted],
                )
    return Changed(added, changed, len(wishes) - added - changed)


async def entries(pool: asyncpg.Pool[asyncpg.Record]) -> AsyncIterator[Entry]:
    """All of the registry, by id, as it was at one moment."""
    async with lent(pool) as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        after = ""
        while page := await connection.fetch(queries.registry_page, after, _PAGE, "", None, "{}", False):  # noqa: FBT003  # the query's
            for record in page:
                yield _entry(record)
            after = page[-1]["device_id"]


async def listed(pool: asyncpg.Pool[asyncpg.Record], selection: Selection) -> AsyncIterator[Listed]:
    """The devices of a selection, by id; those too that are held and in no registry."""
    states, labels, prefix, never_heard = selection
    held = {
        record["device_id"]: record["held"] for record in await pool.fetch(queries.held_by_device, prefix)
    }
    is_any = not labels and not never_heard and (not states or "unknown" in states)
    strangers = deque(held if is_any else ())
    after = ""
    arguments = prefix, list(states) or None, encoded(labels), never_heard
    while page := await pool.fetch(queries.registry_page, after, _PAGE, *arguments):
        for record in page:
            device = _listed(record, held.get(record["device_id"], 0))
            while strangers and strangers[0] <= device.device_id:
                if (stranger := strangers.popleft()) != device.device_id:
                    yield _stranger(stranger, held[stranger])
            yield device
        after = page[-1]["device_id"]
    for stranger in strangers:
        yield _stranger(stranger, held[stranger])


def _stranger(device_id: str, held: int) -> Listed:
    return Listed(device_id, None, "unknown", {}, None, None, None, None, held)


def _listed(record: asyncpg.Record, held: int) -> Listed:
    device_id, name, state, labels, expected_s = _entry(record)
    times = record["region"], record["first_seen"], record["last_seen"]
    return Listed(device_id, name, state, dict(labels), expected_s, *times, held)


def _entry(record: asyncpg.Record) -> Entry:
    every: timedelta | None = record["expected_every"]
    return Entry(
        record["device_id"],
        record["name"],
        record["state"],
        _labels(record["labels"]),
        None if every is None else round(every.total_seconds()),
    )


def _labels(text: str) -> dict[str, str]:
    """Labels as somebody may have put them there by hand too."""
    found: dict[str, Any] = msgspec.json.decode(text)
    return {
        name: value if isinstance(value, str) else msgspec.json.encode(value).decode()
        for name, value in found.items()
    }
