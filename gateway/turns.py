"""Turns: what arrived first is committed first, while the next batch is already being written.

What has been committed is always a prefix of what arrived. So a message that comes again after a crash is
never older than one that is stored, and order of arrival can be told from what is stored (ADR 8).

Two rules, for batches in order of receipt: a batch claims keys only after the batch before it has claimed all
of its own, and appends and commits only after the batch before it has ended. Between the two it writes its
rows, and that is where two batches overlap.

Why nobody waits for ever. Here a batch waits for the one before it, inside this process, where PostgreSQL
does not see it; there it may hold keys that others wait for. So what is waited for here must never wait for
keys:

- A batch holds keys and waits here only while the one before it has claimed everything it will claim. That
  one has its rows and its COMMIT before it, and both wait for nobody's keys.
- When an attempt of a batch fails, its claim is withdrawn: whoever began after it rolls back where it waits,
  `OutOfTurn`, and begins again once the batch has claimed anew. It is told at once, not when the batch tries
  again, and a rollback waits for nobody.
- So between processes that share keys every wait for a key ends at a batch that waits for none. Two batches
  that claim at the same moment do it in one order of keys, and if it came to a circle of claims alone
  PostgreSQL would see it.
- What is left are locks on whole tables. Whoever asks for one that writers are in the way of must give up
  soon (`lock_timeout`), because the batch before may queue behind it. For everybody else's there is
  `idle_in_transaction_session_timeout`: it ends the batch that waits here, which begins again.

A batch that is one call (`gateway/one_call.py`) waits in the database, where it is seen, and holds nothing
while it does. So it may be sent before the one before has been answered, if that is a call too whose place in
the stream is known: the database carries them out by their places. It has claimed, as far as those after it
are concerned, when it has ended, and it ends after the one before, however they are answered. One that says
with what it stores that everything before it is stored, as a batch out of the spool does, is sent behind such
calls only as store all of theirs or nothing.

A batch that ends otherwise than by `end` holds up all later ones for good, so that nothing is stored behind a
gap; the process is on its way out then.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class OutOfTurn(Exception):  # noqa: N818  # no error: begin again
    """The batch before has to be written anew: roll back, and begin again after it."""


class Turns:
    """Hands out turns, in order of receipt.

    Attributes:
        under_way: turns that have not ended.
    """

    def __init__(self) -> None:
        self.under_way = 0
        self._last: Turn | None = None

    def take(self) -> Turn:
        """The next turn."""
        self.under_way += 1
        self._last = Turn(self, self._last)
        return self._last


class Turn:
    """A batch's place in the order; made by `Turns`.

    Attributes:
        claimed: whether all keys of the batch are claimed.
        ended: whether it has been committed and acknowledged.
        withdrawals: how often a claim turned out to be for nothing.
        place: in the stream, of a call that the next one may be sent behind; None of any other.
        is_whole: whether that stores all of its batch or nothing.
    """

    def __init__(self, turns: Turns, before: Turn | None) -> None:
        self.claimed = False
        self.ended = False
        self.withdrawals = 0
        self.place: int | None = None
        self.is_whole = False
        self._turns = turns
        self._before = before
        self._began_after = 0  # so many withdrawals of the one before
        self._changed = asyncio.Event()

    async def may_claim(self) -> None:
        """Wait until everything that came before has claimed its keys."""
        while (before := self._predecessor()) is not None and not before.claimed:
            await before.change()
        self._began_after = before.withdrawals if before else 0

    def claim(self) -> None:
        """Note that all keys of the batch have been claimed.

        Raises:
            OutOfTurn: the claim was made beside one that is withdrawn.
        """
        self._check()
        self.claimed = True
        self._tell()

    async def may_append(self) -> None:
        """Wait until everything that came before has ended.

        Raises:
            OutOfTurn: some of it has to be written anew.
        """
        while (before := self._predecessor()) is not None:
            self._check()
            await before.change()

    async def may_send(self, *, behind: bool, wholes: bool = False) -> int | None:
        """Wait until everything that came before has ended.

        Args:
            behind: or has been sent, with places that are known.
            wholes: and as calls that store all of their batches or nothing.

        Returns:
            The place of the one before, if that has not ended.
        """
        while (before := self._predecessor()) is not None:
            if behind and before.place and (before.is_whole or not wholes):
                break
            await before.change()
        return before.place if before else None

    def send(self, place: int | None, *, whole: bool = False) -> None:
        """Note that it is sent, for those behind it."""
        self.place, self.is_whole = place, whole
        self._tell()

    async def may_end(self) -> None:
        """Wait until everything that came before has ended, of a call that has been answered."""
        while (before := self._predecessor()) is not None:
            await before.change()

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Withdraw the claim when the block fails."""
        try:
            yield
        except BaseException:
            if self.claimed:
                self.claimed = False
                self.withdrawals += 1
                self._tell()
            self.place = None
            raise

    def end(self) -> None:
        """Let the next one go on: everything has been committed and acknowledged."""
        self.claimed = self.ended = True
        self._turns.under_way -= 1
        self._tell()

    async def change(self) -> None:
        """Wait until something about it changes."""
        await self._changed.wait()

    def _predecessor(self) -> Turn | None:
        """The one before, as long as it has not ended."""
        if self._before is not None and self._before.ended:
            self._before = None  # and with it all before it
        return self._before

    def _check(self) -> None:
        before = self._predecessor()
        if before is not None and before.withdrawals != self._began_after:
            raise OutOfTurn

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
