"""One batch's transaction: keys, measurements, dead letters, an outbox row; or nothing.

A batch is claimed key by key first; what could not be claimed is a repeat, or a conflict when its content
differs from what holds the key. The outbox row comes last, so that its position follows commit order
(promises 1, 2 and 4). It must be the next one of its stream, as the database sees it: whoever appends may be
wrong about that, after a failover or a COMMIT without an answer, and is refused then.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple

import asyncpg

from contract.events import encode_events
from gateway.conflicts import conflict_error
from runtime.postgres import is_data_error, load_queries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import datetime
    from uuid import UUID

    from gateway.decode import Reading, Rejection
    from runtime.postgres import Connection

queries = load_queries("gateway")

_DIGEST: Final = attrgetter("digest")
_SEPARATOR: Final = "\x1d"  # of texts that are one argument; no JSON holds it as it is
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


class Evidence(NamedTuple):
    """What a transaction leaves behind, by which it is found when its COMMIT got no answer.

    Attributes:
        question: the statement that says whether it is there.
        about: its arguments.
        transaction_id: means the transaction only
        server_since: on the run of the server that began then.
    """

    question: str
    about: tuple[object, ...]
    transaction_id: str
    server_since: datetime


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a batch, or of a part of it.

    Attributes:
        appended: None when nothing of it was new.
        committed: readings stored now.
        duplicates: readings that were stored before.
        unkeyed: of the stored ones, those whose key was made here.
        evidence: None when nothing was written.
    """

    appended: Appended | None
    committed: int
    duplicates: int
    unkeyed: int
    dead_letters: list[DeadLetter]
    evidence: Evidence | None = None


class Claimed(NamedTuple):
    """What claiming the keys of a batch came to.

    Attributes:
        duplicates: how many of the readings were stored before.
        known: those that are stored, now or before.
    """

    new: Sequence[Reading]
    duplicates: int
    conflicts: list[Rejection]
    known: Sequence[Reading] = ()


class Position(NamedTuple):
    """Where a batch is to be appended, and what must still hold then.

    Attributes:
        owner: the fencing token under which the stream was claimed.
        generation: of the keys that the batch claimed from.
        n: the row's, which must be the next.
    """

    stream: int
    owner: UUID
    generation: int
    n: int


class AppendRefused(Exception):  # noqa: N818  # no error yet: whoever catches it finds out why
    """What the batch was written for no longer holds: the transaction must not commit."""


class RowsRefused(Exception):  # noqa: N818  # no error yet: whoever catches it finds out which
    """The table of measurements refuses a row of these."""


async def claim(connection: Connection, generation: int, readings: Sequence[Reading]) -> Claimed:
    """Claim the keys of a batch in the current generation."""
    if not readings:
        return Claimed([], 0, [])
    keys = identities_of(readings), contents_of(readings)
    claimed = await connection.fetchrow(queries.claim_keys, generation, *keys, len(readings))
    assert claimed is not None
    if claimed["claimed_1"] is None:
        return Claimed(readings, 0, [], readings)
    rows = await connection.fetch(queries.find_repeats, *keys, claimed["claimed_1"], claimed["claimed_2"])
    repeats = {row["place"] - 1: row["differs"] for row in rows}
    new = [reading for i, reading in enumerate(readings) if i not in repeats]
    conflicts: list[Rejection] = []
    asked = [i for i, conflict in repeats.items() if conflict]
    if asked:
        coming = set(map(_moment, new))
        for i, row in zip(asked, await _look_into(connection, [readings[i] for i in asked]), strict=True):
            repeats[i] = not row["repeat"]
            if repeats[i]:
                same_time = row["same_time"] or _moment(readings[i]) in coming
                conflicts.append(
                    readings[i].reject("conflict", conflict_error(readings[i], same_time=same_time))
                )
    known = [reading for i, reading in enumerate(readings) if not repeats.get(i)]
    return Claimed(new, len(repeats) - len(conflicts), conflicts, known)


def _moment(reading: Reading) -> tuple[str, str, str]:
    return reading.event.device_id, reading.event.key, reading.event.ts


def identities_of(readings: Sequence[Reading]) -> str:
    """All of their identities in one text."""
    return in_one([reading.identity for reading in readings])


def contents_of(readings: Sequence[Reading]) -> str:
    """All of their contents in one text."""
    if any(map(_DIGEST, readings)):  # a payload that many share is not to be there for each
        return in_one([reading.content for reading in readings])
    try:
        text = _SEPARATOR.encode().join([reading.raw for reading in readings]).decode()
    except UnicodeDecodeError:
        text = "\x00"
    if "\x00" not in text and text.count(_SEPARATOR) < len(readings):
        return text
    return in_one([reading.content for reading in readings])


def in_one(texts: list[str]) -> str:
    """Texts as one argument: of an array asyncpg looks at each element, at five times the cost."""
    joined = _SEPARATOR.join(texts)
    return joined if joined.count(_SEPARATOR) < len(texts) else _SEPARATOR.join(map(_separable, texts))


def _separable(text: str) -> str:
    """The text, or a digest of it when it has the separator in it."""
    if _SEPARATOR not in text:
        return text
    return f"\x1c{hashlib.blake2b(text.encode()).hexdigest()}"


async def _look_into(connection: Connection, readings: Sequence[Reading]) -> list[asyncpg.Record]:
    return await connection.fetch(
        queries.look_into_conflicts,
        [_separable(reading.identity) for reading in readings],
        [reading.former_content for reading in readings],
        [reading.event.device_id for reading in readings],
        [reading.event.ts for reading in readings],
        [reading.event.key for reading in readings],
    )


async def insert_measurements(connection: Connection, readings: Sequence[Reading]) -> None:
    """Store the rows of new readings.

    Raises:
        RowsRefused: because of what a row holds, or of what the table no longer takes.
    """
    try:
        await connection.copy_to_table(
            "measurements", source=_copy_lines(readings), columns=_COLUMNS, format="text"
        )
    except asyncpg.PostgresError as error:
        if is_data_error(error):
            raise RowsRefused(str(error)) from error
        raise


async def probe_measurements(connection: Connection) -> None:
    """Store a plain row, to see whether the table takes any.

    Raises:
        RowsRefused: it does not.
    """
    probing = connection.transaction()
    await probing.start()
    try:
        await connection.execute(queries.probe_measurements)
    except asyncpg.PostgresError as error:
        if is_data_error(error):
            raise RowsRefused(str(error)) from error
        raise
    finally:
        await probing.rollback()


async def bury(
    connection: Connection, rejections: Sequence[Rejection]
) -> tuple[list[DeadLetter], Evidence | None]:
    """Keep rejections as dead letters; returns them with their ids."""
    if not rejections:
        return [], None
    rows = await connection.fetch(queries.insert_dead_letters, *columns_of(rejections))
    letters = [DeadLetter(row["id"], rejection) for row, rejection in zip(rows, rejections, strict=True)]
    first = rows[0]
    return letters, _evidence(first, queries.is_dead_letter_there, first["id"], first["received_at"])


async def mark_replayed(connection: Connection, letters: Sequence[int]) -> Evidence | None:
    """Note that everything in these dead letters is stored, and what is not has letters of its own."""
    row = await connection.fetchrow(queries.mark_replayed, letters)
    if row is None:
        return None
    return _evidence(row, queries.were_letters_replayed, letters, row["replayed_at"])


async def append(
    connection: Connection, position: Position, readings: Sequence[Reading]
) -> tuple[Appended, Evidence]:
    """Write the outbox row, the last statement before COMMIT.

    Raises:
        AppendRefused: what the batch was written for no longer holds.
    """
    stream, owner, generation, n = position
    payload = encode_events([reading.event for reading in readings])
    row = await connection.fetchrow(
        queries.append_outbox, stream, owner, len(readings), payload, generation, n
    )
    if row is None:
        raise AppendRefused
    created_at = row["created_at"]
    evidence = _evidence(row, queries.is_outbox_row_there, stream, n, created_at)
    return Appended(n, len(readings), payload, created_at), evidence


async def is_in_progress(connection: Connection, evidence: Evidence) -> bool:
    """Whether the server is still at the transaction: then nothing can be said of it yet."""
    asked = evidence.transaction_id, evidence.server_since
    return await connection.fetchval(queries.is_in_progress, *asked) or False


async def left_its_evidence(connection: Connection, evidence: Evidence) -> bool:
    """Whether what the transaction would have left is there; to be asked once it is not in progress."""
    return bool(await connection.fetchval(evidence.question, *evidence.about))


def _evidence(row: asyncpg.Record, question: str, *about: object) -> Evidence:
    return Evidence(question, about, row["transaction_id"], row["server_since"])


async def _copy_lines(readings: Sequence[Reading]) -> AsyncIterator[bytes]:
    yield "".join([reading.line for reading in readings]).encode()


def joined(stands_for: Sequence[str]) -> str | None:
    """The devices that a letter stands for, as one argument."""
    return _SEPARATOR.join(stands_for) or None


def columns_of(rejections: Sequence[Rejection]) -> list[tuple[str | bytes | None, ...]]:
    """Dead letters as `insert_dead_letters` takes them."""
    return list(zip(*map(_storable, rejections), strict=True))


def _storable(rejection: Rejection) -> tuple[str, str, str | None, str, str, bytes, str | None]:
    """The rejection as a row: PostgreSQL's text cannot hold NUL, which a hostile topic may have."""
    received_at, topic, device_id, reason, error, payload, _, stands_for = rejection
    topic, error = topic.replace("\x00", "\ufffd"), error.replace("\x00", "\ufffd")
    return received_at, topic, device_id, reason, error, payload, joined(stands_for)
