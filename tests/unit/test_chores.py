"""Chores: each by itself, whatever becomes of it."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from gateway.chores import Chore, Chores
from runtime.errors import Retry, Stop
from runtime.http import Health


class Clock:
    """Seconds that pass when told to."""

    now = 1000.0

    def __call__(self) -> float:
        """Read it."""
        return self.now


def failing(error: Exception) -> Chore:
    async def turn() -> None:
        raise error

    return Chore("bad", 60.0, 60.0, turn)


def made(chore: Chore, health: Health | None = None, clock: Clock | None = None) -> Chores:
    return Chores([chore], health or Health(), monotonic=clock or Clock())


async def test_one_that_fails_is_told_once_and_then_once_a_minute() -> None:
    """The reason is in the log, the failures are counted, and nothing is unready for it."""
    clock, health = Clock(), Health()
    chore = failing(Retry("partitions", "somebody else's"))
    chores = made(chore, health, clock)
    with capture_logs() as logs:
        for _ in range(7):
            await chores.turn(chore)
            clock.now += 10
    assert [(line["event"], line["reason"]) for line in logs] == [("chore_failed", "somebody else's")] * 2
    record = chores.records["bad"]
    assert (record.failures, record.failing_s(clock.now)) == (7, 70.0)
    assert health.reasons() == {}


async def test_one_that_works_again_says_so() -> None:
    """And has not been failing any more."""
    broken = True

    async def turn() -> None:
        if broken:
            raise OSError("away")

    chore = Chore("mended", 60.0, 60.0, turn)
    chores = made(chore)
    await chores.turn(chore)
    broken = False
    with capture_logs() as logs:
        await chores.turn(chore)
        await chores.turn(chore)
    assert [line["event"] for line in logs] == ["chore_works_again"]
    assert chores.records["mended"].failing_s(2000.0) == 0


async def test_a_turn_is_given_up_after_its_own_time() -> None:
    """One that hangs says for how long it was let."""
    chore = Chore("slow", 60.0, 0.01, asyncio.Event().wait)
    chores = made(chore)
    await chores.turn(chore)
    assert chores.records["slow"].reason == "not done within 0.01 s"


@pytest.mark.parametrize("error", [KeyError("a defect"), OSError("no"), Retry("x", "y")])
async def test_the_others_go_on(error: Exception) -> None:
    """Whatever one dies of, its neighbours have their turns, and it has its next."""
    turns = 0
    done = asyncio.Event()

    async def turn() -> None:
        nonlocal turns
        turns += 1
        if turns == 3:
            done.set()

    good = Chore("good", 0.01, 60.0, turn)
    bad = failing(error)._replace(interval_s=0.001, at_once=True)
    chores = Chores([bad, good], Health())
    running = asyncio.create_task(chores.run())
    await asyncio.wait_for(done.wait(), 20)
    running.cancel()
    await asyncio.wait({running})
    assert chores.records["bad"].failures > 1


async def test_stop_leaves() -> None:
    """Nothing but a person can mend it."""
    chore = failing(Stop("another schema"))
    with pytest.raises(Stop):
        await made(chore).turn(chore)


async def test_while_the_path_waits_for_postgres_chores_are_silent() -> None:
    """One voice is enough, and nobody counts the outage twice."""
    health = Health()
    health.set("postgres", "refused", by="the path")
    chore = failing(OSError("refused"))
    chores = made(chore, health)
    with capture_logs() as logs:
        await chores.turn(chore)
    assert (logs, chores.records["bad"].failures) == ([], 0)
