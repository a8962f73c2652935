"""Turns, whatever fails when: what is committed is a prefix of what arrived, and nobody waits for ever.

Writers of two processes that share keys, played without a database: a key is held from its claim to the end
of the attempt, as an uncommitted row of a unique index is, and a claim waits for whoever holds one.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from hypothesis import example, given
from hypothesis import strategies as st

from gateway.turns import OutOfTurn, Turns

if TYPE_CHECKING:
    from gateway.turns import Turn

Step = Literal["claimed", "written", "appended"]


@dataclass
class Batch:
    """What a batch claims, where its attempts fail, and how many breaths each step takes."""

    keys: list[int]
    failures: list[Step]
    pauses: list[int] = field(default_factory=list)

    async def breathe(self) -> None:
        """Let others go on for a while."""
        for _ in range(self.pauses.pop() if self.pauses else 0):
            await asyncio.sleep(0)


class Broken(Exception):  # noqa: N818  # what a scene does to an attempt
    """An attempt failed."""


class Keys:
    """A unique index."""

    def __init__(self) -> None:
        self._held: dict[int, object] = {}
        self._free = asyncio.Condition()

    async def claim(self, keys: list[int], holder: object) -> None:
        """Wait for each in order, as a sorted insert does."""
        for key in sorted(keys):
            async with self._free:
                await self._free.wait_for(lambda key=key: self._held.get(key, holder) is holder)  # type: ignore[misc]  # mypy and defaults
                self._held[key] = holder
            await asyncio.sleep(0)

    async def release(self, holder: object) -> None:
        """Let go of all."""
        async with self._free:
            self._held = {key: by for key, by in self._held.items() if by is not holder}
            self._free.notify_all()


async def write(batch: Batch, turn: Turn, keys: Keys) -> None:
    """Try until it commits."""
    failures = list(batch.failures)

    def may_fail(at: Step) -> None:
        if failures and failures[0] == at:
            failures.pop(0)
            raise Broken

    while True:
        holder = object()
        await turn.may_claim()
        try:
            with turn.attempt():
                await keys.claim(batch.keys, holder)
                turn.claim()
                may_fail("claimed")
                await batch.breathe()
                may_fail("written")
                await turn.may_append()
                await batch.breathe()
                may_fail("appended")
        except (Broken, OutOfTurn):
            await batch.breathe()
        else:
            return
        finally:
            await keys.release(holder)


batches = st.lists(
    st.builds(
        Batch,
        st.lists(st.integers(0, 5), max_size=4, unique=True),
        st.lists(st.sampled_from(["claimed", "written", "appended"]), max_size=3),
        st.lists(st.integers(0, 6), max_size=6),
    ),
    max_size=7,
)


@example([[Batch([0, 5], []), Batch([5], [])]], 2)  # the second would have a key before the first
@given(st.lists(batches, min_size=1, max_size=2), st.integers(1, 3))
def test_whatever_fails(processes: list[list[Batch]], writers: int) -> None:
    """Every batch commits, each process's in order of arrival, however attempts fail and keys are shared."""
    committed = asyncio.run(_play(processes, writers))
    assert committed == [list(range(len(each))) for each in processes]


async def _play(processes: list[list[Batch]], writers: int) -> list[list[int]]:
    keys = Keys()
    committed: list[list[int]] = [[] for _ in processes]

    async def work(turns: Turns, waiting: list[tuple[int, Batch]], done: list[int]) -> None:
        while waiting:
            number, batch = waiting.pop(0)
            turn = turns.take()
            await write(batch, turn, keys)
            done.append(number)
            turn.end()

    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        for each, done in zip(processes, committed, strict=True):
            turns, waiting = Turns(), list(enumerate(each))
            for _ in range(writers):
                tasks.create_task(work(turns, waiting, done))
    return committed
