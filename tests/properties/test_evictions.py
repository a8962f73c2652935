"""Eviction of dead letters over any mix of senders: fair, exact and no more than must be."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.bounds import evict_dead_letters
from runtime.postgres import lent
from tests.support.effort import examples

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.support.databases import Databases

BURY = """INSERT INTO dead_letters (received_at, topic, device_id, reason, error, payload)
SELECT now(), 't', d, r, 'e', convert_to(repeat('x', s), 'UTF8')
FROM unnest($1::text[], $2::text[], $3::integer[]) WITH ORDINALITY AS l (d, r, s, i) ORDER BY i"""
TOTALS = "SELECT letters, bytes FROM dead_letter_totals"
SHARES = "SELECT device_id, reason, letters, bytes FROM dead_letter_shares"
LEFT = "SELECT coalesce(device_id, ''), reason, array_agg(id ORDER BY id) FROM dead_letters GROUP BY 1, 2"


class Letter(NamedTuple):
    """Of whom, why, and how long."""

    device: str | None
    reason: str
    size: int

    @property
    def sender(self) -> tuple[str, str]:
        """Whose share it is of."""
        return self.device or "", self.reason


LETTERS = st.lists(
    st.builds(
        Letter,
        st.sampled_from([None, "a", "b", "é"]),
        st.sampled_from(["r", "q"]),
        st.sampled_from([0, 9, 99]),
    ),
    min_size=1,
    max_size=60,
)


@pytest.fixture(scope="module")
def dsn(databases: Databases) -> Iterator[str]:
    """A database for all examples."""
    made = asyncio.run(databases.create())
    yield made
    asyncio.run(databases.drop(made))


def fair(shares: dict[tuple[str, str], int], bound: int) -> dict[tuple[str, str], int]:
    """Take one at a time from whoever has most."""
    left = dict(shares)
    while sum(left.values()) > bound:
        left[max(left, key=lambda sender: (left[sender], sender))] -= 1
    return left


@settings(max_examples=examples(40), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(letters=LETTERS, bound=st.integers(1, 60), max_bytes=st.sampled_from([10**9, 2000, 300]))
def test_who_has_most_gives_most(dsn: str, letters: list[Letter], bound: int, max_bytes: int) -> None:
    """Letters: exactly what taking one at a time from the largest leaves. Bytes: none who has less loses."""
    asyncio.run(_evict(dsn, letters, bound, max_bytes))


async def _evict(dsn: str, letters: Sequence[Letter], bound: int, max_bytes: int) -> None:
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool, lent(pool) as connection:
        await connection.execute("TRUNCATE dead_letters RESTART IDENTITY")
        for letter in letters:  # a statement each: shares are folded from many changes
            await connection.execute(BURY, [letter.device], [letter.reason], [letter.size])
        evicted = await evict_dead_letters(connection, bound, max_bytes)
        kept: dict[tuple[str, str], list[int]] = {
            (row[0], row[1]): row[2] for row in await connection.fetch(LEFT)
        }
        ids = defaultdict(list)
        for i, letter in enumerate(letters, 1):
            ids[letter.sender].append(i)
        for sender, left in kept.items():
            assert left == ids[sender][-len(left) :], "the oldest of a sender go first"
        counts = {sender: len(kept.get(sender, ())) for sender in ids}
        if max_bytes == 10**9:
            wanted = fair(dict(Counter(letter.sender for letter in letters)), bound)
            assert sorted(counts.values()) == sorted(wanted.values())
        sizes = {i: letter.size + 1 for i, letter in enumerate(letters, 1)}
        whole = {sender: sum(sizes[i] for i in sent) for sender, sent in ids.items()}
        now = {sender: sum(sizes[i] for i in kept.get(sender, ())) for sender in ids}
        assert sum(now.values()) <= max_bytes
        assert sum(counts.values()) <= bound
        if bound >= len(letters) and evicted.letters:
            largest = max(sizes.values())
            for sender in ids:
                if now[sender] < whole[sender]:
                    assert now[sender] >= max(now.values()) - 2 * largest, (
                        "a small sender lost to a large one"
                    )
        # A second look finds nothing to do, and the books are exact.
        assert await evict_dead_letters(connection, bound, max_bytes) == (0, 0)
        assert evicted == (len(letters) - sum(counts.values()), sum(whole.values()) - sum(now.values()))
        row = await connection.fetchrow(TOTALS)
        assert row is not None
        assert tuple(row) == (sum(counts.values()), sum(now.values()))
        shares = {(row[0], row[1]): (row[2], row[3]) for row in await connection.fetch(SHARES)}
        assert {s: v for s, v in shares.items() if v != (0, 0)} == {
            sender: (counts[sender], now[sender]) for sender in ids if counts[sender]
        }
