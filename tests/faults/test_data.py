"""Messages that cannot be stored, among those that can; and clocks that are wrong."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import chain, islice, repeat
from typing import TYPE_CHECKING

import pytest

from gateway import app
from runtime.settings import load
from tests.faults.corpus import hostile, hostile_payloads
from tests.faults.messages import STORED_ONLY, Mix, Sent
from tests.faults.watch import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.ledger import Ledger
    from tests.faults.site import Site

BATCH = 6


def poisoned(sent: Sent) -> Sent:
    """The same message with a value that the database of the scenario refuses."""
    sent.payload = sent.payload.replace(b'"temperature":', b'"poison":1,"temperature":')
    sent.metrics = {"poison": 1, **sent.metrics}
    return sent


async def test_poison_in_each_position(site: Site) -> None:
    """A row that PostgreSQL refuses, at each place of a batch: it alone becomes a dead letter."""
    await site.start_both()
    await site.sql("ALTER TABLE measurements ADD CHECK (NOT metrics ? 'poison')")
    fleet = site.fleet(mix=STORED_ONLY)
    for position in range(BATCH):
        batch = [fleet.generator.good() for _ in range(BATCH)]
        poisoned(batch[position])
        await fleet.deliver(batch, rate=10_000)
    everything = [fleet.generator.good() for _ in range(300)]
    for sent in everything[::7]:
        poisoned(sent)
    await fleet.deliver(everything, rate=10_000)
    books = await site.audit()
    refused = await site.sql("SELECT count(*) FROM dead_letters WHERE reason = 'refused_by_database'")
    assert refused == BATCH + len(everything[::7])
    assert (books.stored, books.buried) == (books.sent - refused, refused)


@pytest.mark.full
@pytest.mark.parametrize("poison", [True, False], ids=["refused by the database", "undecodable"])
@pytest.mark.parametrize("position", range(BATCH))
async def test_poison_in_a_batch_of_six(site: Site, position: int, *, poison: bool) -> None:
    """The same with batches of exactly six, and with rubbish instead of a refused row."""
    await site.start("projector")
    await site.start(
        "gateway", {"EDGE_GATEWAY_BATCH_MESSAGES": str(BATCH), "EDGE_GATEWAY_BATCH_LINGER_MS": "10000"}
    )
    await site.sql("ALTER TABLE measurements ADD CHECK (NOT metrics ? 'poison')")
    fleet = site.fleet(mix=STORED_ONLY)
    batch = [fleet.generator.good() for _ in range(BATCH)]
    if poison:
        poisoned(batch[position])
    else:
        batch[position].payload = batch[position].payload[:-1]
        batch[position].sound = False
    await fleet.deliver(batch, rate=10_000)
    books = await site.audit()
    assert (books.stored, books.buried) == (BATCH - 1, 1)


@pytest.mark.full
async def test_ten_thousand_rejects(site: Site) -> None:
    """Ten thousand rejects in a row leave no in-flight slot taken: a good message after them is stored."""
    await site.start("gateway", {"EDGE_BROKER_RECEIVE_MAXIMUM": "50"})
    await site.start("projector")
    rubbish = site.fleet(mix=Mix(shapes=0, repeats=0, conflicts=0, rubbish=1.0, qos0=0, qos2=0))
    await rubbish.send(10_000, rate=20_000)
    good = site.fleet(mix=STORED_ONLY)
    await good.send(1)
    await until(lambda: site.auditor.lacks(good.log), within_s=20)
    books = await site.audit()
    assert (books.stored, books.buried) == (1, 10_000)


def test_the_corpus_is_large() -> None:
    """The hostile corpus has at least 300 distinct payloads, from any seed."""
    assert all(len(set(hostile_payloads(seed))) >= 300 for seed in range(3))


@pytest.mark.full
@pytest.mark.timeout(240)
async def test_hostile_corpus(site: Site) -> None:
    """10,000 messages among three rounds of the corpus: all good stored, all bad kept, memory flat.

    Flat: the second half of the load may take no more than 20 MB more than the first.
    """
    gateway, projector = await site.start_both()
    bad = hostile(site.seed)
    fleet = site.fleet(mix=STORED_ONLY)
    good = [fleet.generator.good() for _ in range(10_000)]

    def mixed(part: list[Sent]) -> Iterator[Sent]:
        rounds = chain.from_iterable(repeat(bad, 3))
        share = len(part) // (3 * len(bad))
        source = iter(part)
        for each in rounds:
            yield each
            yield from islice(source, share)
        yield from source

    await fleet.deliver(mixed(good[:5000]), rate=20_000)
    await site.settled()
    halfway = site.rss_mb(gateway)
    await fleet.deliver(mixed(good[5000:]), rate=20_000)
    await site.settled()
    assert site.rss_mb(gateway) < halfway + 20
    books = await site.audit()
    assert books.stored == 10_000
    assert books.buried >= len(bad) >= 300
    assert await gateway.terminate() == 0
    assert await projector.terminate() == 0


class Clock:
    """The time, and how far it is wrong."""

    def __init__(self) -> None:
        self.wrong_by = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.wrong_by


@pytest.mark.full
async def test_clock_jumps(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway's clock jumps by days: what it then takes for impossible times is kept, nothing is lost."""
    clock, stop = Clock(), asyncio.Event()
    monkeypatch.setattr(app, "_now", clock)
    await site.start("projector")
    books: list[Ledger] = []
    running = asyncio.create_task(app.run(load(environ=site.settings()), stop, books.append))
    try:
        await until(lambda: site.subscribed("site-gateway"), within_s=20)
        fleet = site.fleet(mix=STORED_ONLY)
        for hours in (0, 960, -72, -20, 0):
            clock.wrong_by = timedelta(hours=hours)
            await fleet.send(200)
            await site.settled()
    finally:
        stop.set()
        await running
    found = await site.audit()
    assert (found.stored, found.buried) == (800, 200)
    line = books[0].line()
    assert (line["received"], line["in_flight"]) == (1000, 0)
    assert await site.sql("SELECT array_agg(DISTINCT reason) FROM dead_letters") == ["time_out_of_range"]


@pytest.mark.full
async def test_device_clocks(site: Site) -> None:
    """Devices whose clocks stand at 1970 or run ahead: kept as dead letters, neighbours stored."""
    await site.start_both()
    fleet = site.fleet(mix=STORED_ONLY)
    good = [fleet.generator.good() for _ in range(100)]
    for sent, ts in zip(good[::10], ("1970-01-01T00:00:12Z", "2199-01-01T00:00:00Z") * 5, strict=True):
        sent.payload = sent.payload.replace(str(sent.ts).encode(), ts.encode())
        sent.sound = False
    await fleet.deliver(good)
    books = await site.audit()
    assert (books.stored, books.buried) == (90, 10)
