"""Turns: who waits for whom, and who is told to begin again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from gateway.turns import OutOfTurn, Turns

if TYPE_CHECKING:
    from collections.abc import Awaitable


async def waits(what: Awaitable[object]) -> asyncio.Task[None]:
    """Start something, and make sure that it waits."""

    async def run() -> None:
        await what

    task = asyncio.create_task(run())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    return task


async def test_claims_and_appends_come_in_order() -> None:
    """A batch claims when the one before has claimed, and appends when that has ended."""
    turns = Turns()
    first, second = turns.take(), turns.take()
    await first.may_claim()
    claiming = await waits(second.may_claim())
    first.claim()
    await claiming
    second.claim()
    appending = await waits(second.may_append())
    await first.may_append()
    first.end()
    await appending
    assert turns.under_way == 1


async def test_a_withdrawn_claim_sends_back_who_waits() -> None:
    """When an attempt fails, whoever claimed after it begins again, at once, and after it."""
    turns = Turns()
    first, second, third = turns.take(), turns.take(), turns.take()
    await first.may_claim()
    first.claim()
    await second.may_claim()
    second.claim()
    await third.may_claim()
    appending = await waits(second.may_append())
    with pytest.raises(OSError, match="gone"), first.attempt():
        raise OSError("gone")
    with pytest.raises(OutOfTurn), second.attempt():
        await appending
    with pytest.raises(OutOfTurn):
        third.claim()
    claiming = await waits(second.may_claim())
    first.claim()
    await claiming
    second.claim()
    first.end()
    await second.may_append()


async def test_who_says_that_all_before_is_stored_goes_behind_wholes_only() -> None:
    """Behind a call that may leave something it waits until that has ended; behind any other it is sent."""
    turns = Turns()
    first, second, third = turns.take(), turns.take(), turns.take()
    first.send(7)
    assert await second.may_send(behind=True) == 7
    waiting = await waits(second.may_send(behind=True, wholes=True))
    second.send(8, whole=True)
    assert await third.may_send(behind=True, wholes=True) == 8
    first.end()
    await waiting


async def test_a_failure_before_the_claim_concerns_nobody() -> None:
    """Nobody can have claimed after a batch that had not, so nobody is sent back."""
    turns = Turns()
    first, second = turns.take(), turns.take()
    with pytest.raises(OSError, match="gone"), first.attempt():
        raise OSError("gone")
    first.claim()
    await second.may_claim()
    second.claim()
    first.end()
    await second.may_append()


async def test_ended_turns_are_forgotten() -> None:
    """A turn holds on to the one before only as long as that has not ended."""
    turns = Turns()
    for _ in range(3):
        turn = turns.take()
        await turn.may_claim()
        assert turn._before is None
        turn.end()
    assert turns.under_way == 0


async def test_a_call_goes_behind_one_whose_place_is_known() -> None:
    """It may be sent before that has ended, gets the next place, and ends after it however it is answered."""
    turns = Turns()
    first, second, third = turns.take(), turns.take(), turns.take()
    assert await first.may_send(behind=True) is None
    sending = asyncio.create_task(second.may_send(behind=True))
    first.send(7)
    assert await sending == 7
    second.send(None)
    ending = await waits(second.may_end())
    waiting = asyncio.create_task(third.may_send(behind=True))
    first.end()
    await ending
    second.end()
    assert await waiting is None


async def test_nothing_goes_behind_a_call_that_failed() -> None:
    """Its place is not known any more; who is sent again waits until all before it has ended."""
    turns = Turns()
    first, second = turns.take(), turns.take()
    first.send(7)
    with pytest.raises(OSError, match="gone"), first.attempt():
        raise OSError("gone")
    assert first.place is None
    first.send(7)
    assert await second.may_send(behind=True) == 7
    again = asyncio.create_task(second.may_send(behind=False))
    first.end()
    assert await again is None
