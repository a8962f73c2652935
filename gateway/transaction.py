"""One batch's transaction: keys, measurements, devices, dead letters, an outbox row; or nothing.

A batch is claimed key by key first; what could not be claimed is a repeat, or a conflict when its content
differs from what holds the key. The outbox row comes last, so that its position follows commit order
(promises 1, 2 and 4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import asyncpg
import structlog

from contract.events import encode_events
from runtime.errors import Retry
from runtime.postgres import load_queries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import datetime
    from uuid import UUID

    from gateway.decode import Reading, Rejection
    from gateway.devices import DeviceSighting
    from runtime.postgres import Connection

log = structlog.get_logger()
queries = load_queries("gateway")

_COLUMNS = ("ts", "device_id", "message_key", "region", "metrics", "tags", "received_at")


@dataclass(frozen=True, slots=True)
class Appended:
    """One outbox row.

    Attributes:
        payload: the encoded events, as the table holds them.
    """

    n: int
    events: int
    payload: bytes
    created_at: datetime


class DeadLetter(NamedTuple):
    """A rejection with the id it was stored under."""

    id: int
    rejection: Rejection


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a batch, or of a part of it.

    Attributes:
        appended: None when nothing of it was new.
        committed: readings stored now.
        duplicates: readings that were stored before.
        unkeyed: of the stored ones, those whose key was made here.
        transaction_id: by which the server remembers the transaction; empty when it wrote nothing.
    """

    appended: Appended | None
    committed: int
    duplicates: int
    unkeyed: int
    dead_letters: list[DeadLetter]
    transaction_id: str


class Claimed(NamedTuple):
    """What claiming the keys of a batch came to."""

    new: Sequence[Reading]
    duplicates: int
    conflicts: list[Rejection]


class Position(NamedTuple):
    """Where a batch is to be appended, and what must still hold then.

    Attributes:
        owner: the fencing token under which the stream was claimed.
        generation: of the keys that the batch claimed from.
        published: up to where the stream is known to be published; noted in passing.
    """

    stream: int
    owner: UUID
    generation: int
    published: int


class AppendRefused(Exception):  # noqa: N818  # no error yet: whoever catches it finds out why
    """The stream has another owner, or the dedup window has turned: the transaction must not commit."""


async def claim(connection: Connection, generation: int, readings: Sequence[Reading]) -> Claimed:
    """Claim the keys of a batch in the current generation."""
    if not readings:
        return Claimed([], 0, [])
    statement = queries.claim_keys_1 if generation else queries.claim_keys_0
    identities = [reading.identity for reading in readings]
    contents = [reading.content for reading in readings]
    status = await connection.execute(statement, identities, contents)
    if int(status.rpartition(" ")[2]) == len(readings):
        return Claimed(readings, 0, [])
    repeats = {
        row["ord"] - 1: row["conflict"]
        for row in await connection.fetch(queries.find_repeats, identities, contents)
    }
    new = [reading for i, reading in enumerate(readings) if i not in repeats]
    conflicts = [
        readings[i].reject(
            "conflict",
            f"key {readings[i].event.key!r} is stored with other content; a device whose counter starts "
            f'again needs identity = "key+time" on its route',
        )
        for i, conflict in repeats.items()
        if conflict
    ]
    return Claimed(new, len(repeats) - len(conflicts), conflicts)


async def insert_measurements(connection: Connection, readings: Sequence[Reading]) -> None:
    """Store the rows of new readings."""
    await connection.copy_to_table(
        "measurements", source=_copy_lines(readings), columns=_COLUMNS, format="text"
    )


async def touch_devices(connection: Connection, sightings: Sequence[DeviceSighting]) -> None:
    """Add devices and move their times."""
    if sightings:
        await connection.execute(
            queries.touch_devices,
            [seen.device_id for seen in sightings],
            [seen.region for seen in sightings],
            [seen.first_seen for seen in sightings],
            [seen.last_seen for seen in sightings],
        )


async def bury(connection: Connection, rejections: Sequence[Rejection]) -> tuple[list[DeadLetter], str]:
    """Keep rejections as dead letters; returns them with their ids, and the transaction's id."""
    if not rejections:
        return [], ""
    columns = list(zip(*map(_storable, rejections), strict=True))
    rows = await connection.fetch(queries.insert_dead_letters, *columns)
    letters = [DeadLetter(row["id"], rejection) for row, rejection in zip(rows, rejections, strict=True)]
    return letters, rows[0]["transaction_id"]


async def append(
    connection: Connection, position: Position, readings: Sequence[Reading]
) -> tuple[Appended, str]:
    """Write the outbox row, the last statement before COMMIT; returns it and the transaction's id.

    Raises:
        AppendRefused: what the batch was written for no longer holds.
    """
    payload = encode_events([reading.event for reading in readings])
    row = await connection.fetchrow(
        queries.append_outbox,
        position.stream,
        position.owner,
        len(readings),
        payload,
        position.published,
        position.generation,
    )
    if row is None:
        raise AppendRefused
    return Appended(row["n"], len(readings), payload, row["created_at"]), row["transaction_id"]


async def took_effect(connection: Connection, transaction_id: str) -> bool:
    """Whether a transaction whose COMMIT got no answer did commit; False when the server has forgotten it.

    Raises:
        Retry: the server is still at it.
    """
    if not transaction_id:
        return False
    try:
        fate = await connection.fetchval(queries.transaction_outcome, transaction_id)
    except asyncpg.DataError:  # an id from the future: another, older database answers now
        fate = None
    log.info("commit_resolved", outcome=fate or "forgotten")
    if fate == "in progress":
        raise Retry("postgres", "a commit that got no answer is still in progress")
    return bool(fate == "committed")


async def _copy_lines(readings: Sequence[Reading]) -> AsyncIterator[bytes]:
    yield "".join([reading.line for reading in readings]).encode()


def _storable(rejection: Rejection) -> tuple[str, str, str | None, str, str, bytes]:
    """The rejection as a row: PostgreSQL's text cannot hold NUL, which a hostile topic may have."""
    received_at, topic, device_id, reason, error, payload = rejection
    topic, error = topic.replace("\x00", "\ufffd"), error.replace("\x00", "\ufffd")
    return received_at, topic, device_id, reason, error, payload
