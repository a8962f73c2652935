"""PostgreSQL stopped, cut off, slow, full and put back to an older state."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.faults.watch import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from tests.faults.site import Site

    OpenSite = Callable[..., Awaitable[Site]]

END_OURS = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE '%site-%'"
)


async def run(*command: str) -> None:
    """Run a program as an operator would."""
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0, command


async def test_immediate_stop(site: Site) -> None:
    """PostgreSQL stopped without a farewell and started again: the gateway waits, and nothing is lost."""
    gateway, projector = await site.start_both()
    async with site.fleet().load(500):
        for turn in range(2):
            await gateway.event(
                "batch_stored", skip=sum(e["event"] == "batch_stored" for e in gateway.events) + 5
            )
            await site.postgres.stop("immediate")
            await gateway.event("waiting", what="postgres", skip=turn)
            await site.postgres.start()
            await gateway.event("available", what="postgres", skip=turn)
    await site.audit()
    assert await gateway.terminate() == 0
    assert await projector.terminate() == 0


async def test_answer_to_commit_lost(open_site: OpenSite) -> None:
    """The answer to what commits is lost again and again: each is stored once, and its events go out."""
    site = await open_site(through=("postgres",))
    # So few that each is a call: of a batch by statements the answer to the rows would be taken for good.
    gateway = await site.start("gateway", {"EDGE_GATEWAY_BATCH_MESSAGES": "50"})
    await site.start("projector")
    proxy = site.proxies["postgres"]
    async with site.fleet().load(500):
        proxy.swallow_answer(b'{"device_id"', times=1000)
        await gateway.event("commit_resolved", skip=5)
        proxy.swallow_answer(b"", times=0)
    assert proxy.swallowed >= 6
    await site.audit()
    resolved = {event["outcome"] for event in gateway.events if event["event"] == "commit_resolved"}
    assert resolved == {"committed"}


@pytest.mark.full
async def test_backends_terminated(site: Site) -> None:
    """Every session of ours ended by an administrator, thirty times under load, the lock's own too."""
    gateway, projector = await site.start_both()
    async with site.fleet().load(500):
        for _ in range(30):
            stored = sum(e["event"] == "batch_stored" for e in gateway.events)
            await gateway.event("batch_stored", skip=stored)
            await site.sql(END_OURS)
    await site.audit()
    assert await gateway.terminate() == 0
    assert await projector.terminate() == 0


@pytest.mark.full
async def test_cut_at_any_moment(open_site: OpenSite) -> None:
    """Connections to PostgreSQL cut forty times without regard to what is under way."""
    site = await open_site(through=("postgres",))
    gateway, _ = await site.start_both()
    async with site.fleet().load(500):
        for _ in range(40):
            stored = sum(e["event"] == "batch_stored" for e in gateway.events)
            await gateway.event("batch_stored", skip=stored)
            site.proxies["postgres"].cut()
    await site.audit()


@pytest.mark.full
@pytest.mark.timeout(180)
async def test_blackholed(open_site: OpenSite) -> None:
    """Packets to PostgreSQL vanish for longer than a command may take: the gateway waits, then goes on."""
    site = await open_site(through=("postgres",))
    gateway, _ = await site.start_both()
    async with site.fleet().load(200):
        await gateway.event("batch_stored")
        site.proxies["postgres"].blackhole()
        await gateway.event("waiting", what="postgres", timeout_s=60)
        site.proxies["postgres"].heal()
        site.proxies["postgres"].cut()
        await gateway.event("available", what="postgres", timeout_s=60)
    await site.audit(cursor_within_s=40)
    assert await gateway.terminate() == 0


@pytest.mark.full
async def test_slow(open_site: OpenSite) -> None:
    """Every packet to and from PostgreSQL takes a tenth of a second: batches grow, nothing is lost."""
    site = await open_site(through=("postgres",))
    gateway, _ = await site.start_both()
    site.proxies["postgres"].delay_s = 0.1
    fleet = site.fleet()
    await fleet.send(3000, rate=1000)
    await site.settled()
    stored = [e for e in gateway.events if e["event"] == "batch_stored"]
    assert max(event["committed"] for event in stored) > 100
    site.proxies["postgres"].delay_s = 0.0
    await site.audit()


@pytest.fixture
def small_disk(site: Site) -> Iterator[Path]:
    """A file system of a few megabytes that belongs to PostgreSQL's account."""
    folder = site.services.place.make_folder("small")
    owner = folder.stat()
    size = f"size=12m,mode=0700,uid={owner.st_uid},gid={owner.st_gid}"
    mount = ["mount", "-t", "tmpfs", "-o", size, "faults", str(folder)]
    mounted = subprocess.run(mount, check=False, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> Path:
    """Take all the room that is left with one file."""
    ballast = folder / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return ballast


@pytest.mark.full
async def test_disk_full(small_disk: Path, site: Site) -> None:
    """The disk of the tables is full: the gateway waits, loses nothing, and goes on when there is room."""
    await site.sql(f"CREATE TABLESPACE small LOCATION '{small_disk}'")
    await site.sql("ALTER DATABASE postgres SET default_tablespace = small")
    gateway, _ = await site.start_both()
    async with site.fleet().load(1000):
        await gateway.event("batch_stored")
        ballast = fill(small_disk)
        waiting = await gateway.event("waiting", what="postgres", timeout_s=40)
        assert "No space left" in waiting["reason"]
        ballast.unlink()
        await run("mount", "-o", "remount,size=200m", str(small_disk))
        await gateway.event("available", what="postgres", timeout_s=40)
    await site.audit(cursor_within_s=20)
    assert await gateway.terminate() == 0
    assert not await site.sql("SELECT count(*) FROM dead_letters WHERE reason = 'refused_by_database'")
    await site.postgres.stop("immediate")


@pytest.mark.full
async def test_disk_of_the_log_full(small_disk: Path, site: Site) -> None:
    """The disk of the write-ahead log is full: PostgreSQL goes down; with room and a start all goes on."""
    postgres = site.postgres
    log, room = postgres.folder / "data" / "pg_wal", str(small_disk)
    await run("mount", "-o", "remount,size=60m", room)
    await postgres.stop()
    await run("cp", "-a", f"{log}/.", room)
    shutil.rmtree(log)
    log.symlink_to(small_disk)
    await postgres.start()
    gateway, _ = await site.start_both()
    async with site.fleet().load(1000):
        await gateway.event("batch_stored")
        ballast = fill(small_disk)
        await gateway.event("waiting", what="postgres", timeout_s=60)
        await postgres.kill()
        assert "No space left" in postgres.log.read_text(encoding="utf-8")
        ballast.unlink()
        await run("mount", "-o", "remount,size=400m", room)
        await postgres.start()
        await gateway.event("available", what="postgres", timeout_s=40)
    await site.audit(cursor_within_s=20)
    assert await gateway.terminate() == 0
    await postgres.stop("immediate")


@pytest.mark.full
@pytest.mark.timeout(120)
@pytest.mark.parametrize("looks", ["at a new epoch", "at once", "when running again", "when started again"])
async def test_restored_to_an_older_state(site: Site, tmp_path: Path, looks: str) -> None:
    """An older copy of the database is put back: what came since is gone with it, and Redis follows.

    Whether the operator gives the streams a new epoch or not, and whether the projector looks while its
    cursor is beyond the head or was stopped until the head had passed it.
    """
    gateway, projector = await site.start_both()
    before, after = site.fleet(), site.fleet()
    await before.send(800)
    await site.audit()
    assert await gateway.terminate() == 0
    postgres = site.postgres
    data, backup = postgres.folder / "data", tmp_path / "backup"
    await postgres.stop()
    await run("cp", "-a", str(data), str(backup))
    await postgres.start()
    gateway = await site.start("gateway")
    lost = site.fleet()
    await lost.send(800)
    await site.settled()
    await until(lambda: site.lag(lambda rows: rows == 0), within_s=20)
    if looks == "when running again":
        projector.signal(signal.SIGSTOP)
    elif looks == "when started again":
        assert await projector.terminate() == 0
    assert await gateway.terminate() == 0
    await postgres.stop()
    shutil.rmtree(data)
    await run("cp", "-a", str(backup), str(data))
    await postgres.start()
    site.fleets.remove(lost)
    if looks == "at a new epoch":
        await site.sql("UPDATE streams SET epoch = gen_random_uuid()")
    elif looks == "at once":
        await until(lambda: site.lag(lambda rows: rows >= 0), within_s=20)
    await site.start("gateway")
    if looks.startswith("when"):
        while await site.lag(lambda rows: rows > 0):
            await after.send(400)
            await site.settled()
        if looks == "when running again":
            projector.signal(signal.SIGCONT)
        else:
            projector = await site.start("projector")
        await projector.event("history_replaced")
    await after.send(800)
    await site.audit(cursor_within_s=30)


@pytest.mark.full
async def test_flapping(open_site: OpenSite) -> None:
    """Connections to PostgreSQL refused and allowed in turns: the pools and the lock come back each time."""
    site = await open_site(through=("postgres",))
    gateway, _ = await site.start_both()
    proxy = site.proxies["postgres"]
    async with site.fleet().load(300):
        for turn in range(4):
            proxy.refuse()
            await gateway.event("waiting", what="postgres", skip=turn)
            proxy.heal()
            await gateway.event("available", what="postgres", skip=turn)
            stored = sum(e["event"] == "batch_stored" for e in gateway.events)
            await gateway.event("batch_stored", skip=stored)
    await site.audit(cursor_within_s=20)
