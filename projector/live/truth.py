"""What the page reads of PostgreSQL: dead letters, and the newest message of a device."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from projector.live.state import AtSite, ConstantKey, Letter, Letters, Message, Payload
from projector.outbox import answering, queries
from runtime.errors import Retry
from runtime.postgres import retryable

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

SHOWN: Final = 20
LOOKED_AT: Final = 200
CONSTANT_KEYS: Final = 3
_MINUTE_MS: Final = 60_000
_CONFLICTS: Final = 2  # and the message that is stored: three contents under one key
_KEY: Final = re.compile(r"key (.+?) is stored with other content")  # the words of the write side
_PATIENCE_S: Final = 1.5  # a look has to be over before the next is due, more or less


class Truth:
    """Small questions to PostgreSQL, answered at once or not at all."""

    def __init__(self) -> None:
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None

    def use(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        """Ask over this pool from now on; before that there is no answer."""
        self._pool = pool

    async def letters(self) -> list[Letter]:
        """The newest dead letters, newest first.

        Raises:
            Retry: PostgreSQL is away, or too slow to wait for.
        """
        records = await self._fetch(queries.newest_dead_letters, LOOKED_AT)
        return [
            Letter(
                record["id"],
                record["at_ms"],
                record["reason"],
                record["device_id"],
                record["topic"],
                record["error"],
                record["replayed"],
            )
            for record in records
        ]

    async def at_site(self) -> dict[int, AtSite]:
        """What gateways have yet to store, by stream; none where they do not say.

        Raises:
            Retry: PostgreSQL is away, or too slow to wait for.
        """
        try:
            records = await self._fetch(queries.spools_left, asking=retryable)
        except (asyncpg.UndefinedTableError, asyncpg.InsufficientPrivilegeError):
            return {}
        return {stream: AtSite(*left) for stream, *left in records}

    async def message(self, id_: str) -> Message | None:
        """The newest message of a device as it is stored; None when there is none of the last weeks.

        Raises:
            Retry: PostgreSQL is away, or too slow to wait for.
        """
        records = await self._fetch(queries.newest_message, id_)
        return Message(*records[0]) if records else None

    async def payload(self, letter: int) -> Payload | None:
        """The bytes of a dead letter as text; None when it is gone.

        Raises:
            Retry: PostgreSQL is away, or too slow to wait for.
        """
        for record in await self._fetch(queries.dead_letter_payload, letter):
            said = record["payload"].decode(errors="backslashreplace")
            return Payload(letter, record["topic"], record["size"], said)
        return None

    async def _fetch(
        self,
        query: str,
        *arguments: Any,  # noqa: ANN401  # as the query says
        asking: Callable[[], AbstractContextManager[None]] = answering,
    ) -> list[asyncpg.Record]:
        if self._pool is None:
            raise Retry("postgres", "not connected yet")
        try:
            async with asyncio.timeout(_PATIENCE_S):
                with asking():
                    return await self._pool.fetch(query, *arguments)
        except TimeoutError as error:
            raise Retry("postgres", f"no answer within {_PATIENCE_S:g} s") from error


def summary(letters: list[Letter], read_ms: int) -> Letters:
    """What the page shows of the letters looked at.

    Args:
        letters: newest first.
        read_ms: when they were read: those that came since nobody knows.
    """
    minute = [letter for letter in letters if read_ms - letter.at_ms < _MINUTE_MS]
    reasons = Counter(letter.reason for letter in minute)
    return Letters(
        newest=letters[:SHOWN],
        minute=len(minute),
        more=len(minute) == LOOKED_AT,
        reasons=dict(reasons.most_common()),
        constant_keys=constant_keys(letters),
    )


def constant_keys(letters: list[Letter]) -> list[ConstantKey]:
    """Devices whose message key never changes, as `gateway check` finds them, those with most letters first.

    Args:
        letters: newest first.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    for letter in letters:
        match = _KEY.match(letter.error) if letter.reason == "conflict" and not letter.replayed else None
        if match and letter.device is not None:
            found.setdefault(letter.device, []).append((match[1], letter.topic))
    constant = [
        ConstantKey(device, *conflicts[0], len(conflicts))
        for device, conflicts in found.items()
        if len(conflicts) >= _CONFLICTS and len({key for key, _ in conflicts}) == 1
    ]
    return sorted(constant, key=lambda each: (-each.letters, each.device))[:CONSTANT_KEYS]
