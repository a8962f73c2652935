"""Random faults at random times under a steady load, and the audit at the end: `make soak MINUTES=20`.

Only faults at which nothing may be lost. `SEED` plays the order of faults and the messages again; when each
falls, in the course of things, is the machine's affair.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import click

from tests.faults.cluster import Cluster
from tests.faults.site import Site

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.faults.site import Role
    from tests.support.commands import RunningCommand

    Fault = Callable[["Plant"], Awaitable[None]]

RATE = 300
REPORT_S = 30.0
PAUSE_S = (0.5, 6.0)
LENGTH_S = (0.2, 9.0)
END_OURS = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE '%site-%'"
)
POINTS: dict[Role, tuple[str, ...]] = {
    "gateway": ("before_commit", "after_commit", "after_ack", "after_publish"),
    "projector": ("before_apply", "after_apply", "before_history", "after_history", "rebuild"),
}


class Plant:
    """A site whose processes a supervisor starts again, whatever they end with."""

    def __init__(self, site: Site, seed: int) -> None:
        self.site = site
        self.cluster = Cluster(site)
        self.random = Random(seed)  # noqa: S311  # a replayable scenario, no secret
        self.running: dict[Role, RunningCommand] = {}
        self.next_points: dict[Role, str] = {}
        self.exits: Counter[tuple[Role, int]] = Counter()

    async def supervise(self, role: Role) -> None:
        while True:
            process = await self.site.start(role, faults=self.next_points.pop(role, ""), ready=False)
            self.running[role] = process
            code = await process.exit_code(timeout_s=1e9)
            self.exits[role, code] += 1
            self.site.forget(process)

    async def wait(self, bounds: tuple[float, float]) -> None:
        await asyncio.sleep(self.random.uniform(*bounds))

    def signal(self, role: Role, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, KeyError):
            self.running[role].signal(number)


def end(role: Role, number: signal.Signals) -> Fault:
    async def fault(plant: Plant) -> None:
        plant.signal(role, number)

    return fault


def end_at_a_point(role: Role) -> Fault:
    async def fault(plant: Plant) -> None:
        point = plant.random.choice(POINTS[role])
        most = 2 if "history" in point else 40  # which is written once a minute
        plant.next_points[role] = f"{point}:{plant.random.randint(1, most)}"
        plant.signal(role, signal.SIGKILL)

    return fault


def freeze(role: Role) -> Fault:
    async def fault(plant: Plant) -> None:
        process = plant.running[role]
        with contextlib.suppress(ProcessLookupError):
            process.signal(signal.SIGSTOP)
            await plant.wait(LENGTH_S)
            process.signal(signal.SIGCONT)

    return fault


def cut(path: str) -> Fault:
    async def fault(plant: Plant) -> None:
        for _ in range(plant.random.randint(1, 4)):
            plant.site.proxies[path].cut()  # type: ignore[index]  # one of ours
            await plant.wait((0.0, 0.5))

    return fault


def blackhole(path: str) -> Fault:
    async def fault(plant: Plant) -> None:
        proxy = plant.site.proxies[path]  # type: ignore[index]  # one of ours
        proxy.blackhole()
        await plant.wait(LENGTH_S)
        proxy.heal()
        if plant.random.random() < 0.5:
            proxy.cut()

    return fault


def slow(path: str) -> Fault:
    async def fault(plant: Plant) -> None:
        proxy = plant.site.proxies[path]  # type: ignore[index]  # one of ours
        proxy.delay_s = plant.random.uniform(0.01, 0.3)
        await plant.wait(LENGTH_S)
        proxy.delay_s = 0.0

    return fault


def lose_answers(path: str, pattern: bytes) -> Fault:
    async def fault(plant: Plant) -> None:
        plant.site.proxies[path].swallow_answer(pattern, plant.random.randint(1, 5))  # type: ignore[index]  # ours

    return fault


async def stop_postgres(plant: Plant) -> None:
    await plant.site.postgres.stop("immediate")
    await plant.wait(LENGTH_S)
    await plant.site.postgres.start()


async def fail_over(plant: Plant) -> None:
    """Nothing may be lost: the standby is synchronous."""
    if plant.random.random() < 0.5:
        await plant.cluster.unplug()
        await plant.wait(PAUSE_S)
    await plant.cluster.fail_over(others_write=plant.random.random() < 0.5)
    await plant.wait(PAUSE_S)
    await plant.cluster.protect()


async def end_sessions(plant: Plant) -> None:
    await plant.site.sql(END_OURS)


async def flush_redis(plant: Plant) -> None:
    async with plant.site.redis() as redis:
        await redis.flushall()


async def kill_redis(plant: Plant) -> None:
    await plant.site.services.redis.kill()
    await plant.wait(LENGTH_S)
    await plant.site.services.redis.start()


async def restart_broker(plant: Plant) -> None:
    await plant.site.services.mosquitto.stop()
    await plant.wait((0.0, 2.0))
    await plant.site.services.mosquitto.start()


FAULTS: dict[str, Fault] = {
    "gateway killed": end("gateway", signal.SIGKILL),
    "gateway killed at a point": end_at_a_point("gateway"),
    "gateway stopped": end("gateway", signal.SIGTERM),
    "gateway frozen": freeze("gateway"),
    "projector killed": end("projector", signal.SIGKILL),
    "projector killed at a point": end_at_a_point("projector"),
    "projector stopped": end("projector", signal.SIGTERM),
    "projector frozen": freeze("projector"),
    "postgres stopped": stop_postgres,
    "postgres failed over": fail_over,
    "postgres sessions ended": end_sessions,
    "postgres cut": cut("postgres"),
    "postgres dark": blackhole("postgres"),
    "postgres slow": slow("postgres"),
    "commits unanswered": lose_answers("postgres", b"COMMIT"),
    "calls unanswered": lose_answers("postgres", b'{"device_id"'),
    "redis flushed": flush_redis,
    "redis killed": kill_redis,
    "redis cut": cut("redis"),
    "redis dark": blackhole("redis"),
    "scripts unanswered": lose_answers("redis", b"EVALSHA"),
    "broker restarted": restart_broker,
    "broker cut": cut("mosquitto"),
    "broker dark": blackhole("mosquitto"),
}


async def soak(minutes: float, seed: int) -> None:
    """Run for so long, then audit.

    Raises:
        AssertionError: an invariant does not hold; it says which.
    """
    with tempfile.TemporaryDirectory(prefix="edge-soak-") as folder:
        async with Site.open(seed, Path(folder), through=("mosquitto", "postgres", "redis")) as site:
            await (await site.start("gateway")).terminate()  # so that its session is there before the load
            plant = Plant(site, seed)
            await plant.cluster.protect()
            fleet = site.fleet(devices=100)
            keepers = [asyncio.create_task(plant.supervise(role)) for role in ("gateway", "projector")]
            try:
                async with fleet.load(RATE):
                    injected = await _inject(plant, minutes * 60)
                books = await site.audit(cursor_within_s=60)
            finally:
                for keeper in keepers:
                    keeper.cancel()
                await asyncio.wait(keepers)
    click.echo("\n".join(f"{count:6d}  {name}" for name, count in sorted(injected.items())))
    click.echo(
        "\n".join(f"{n:6d}  {role} ended with {code}" for (role, code), n in sorted(plant.exits.items()))
    )
    click.echo(
        f"seed={seed} minutes={minutes:g} faults={injected.total()} sent={books.sent} acked={books.acked} "
        f"stored={books.stored} dead_letters={books.buried} lost={len(books.missing)}"
    )


async def _inject(plant: Plant, seconds: float) -> Counter[str]:
    injected: Counter[str] = Counter()
    until, report = time.monotonic() + seconds, time.monotonic() + REPORT_S
    while time.monotonic() < until:
        await plant.wait(PAUSE_S)
        name = plant.random.choice(list(FAULTS))
        injected[name] += 1
        await FAULTS[name](plant)
        if time.monotonic() > report:
            report += REPORT_S
            left = max(0.0, until - time.monotonic())
            click.echo(
                f"{injected.total()} faults, {len(plant.site.log)} messages, {left:.0f} s left", err=True
            )
    return injected


@click.command()
@click.option("--minutes", default=20.0, show_default=True)
@click.option("--seed", default=lambda: int(os.environ.get("SEED") or secrets.randbelow(10**6)))
def main(minutes: float, seed: int) -> None:
    """Inject random faults for so many minutes; exit code 1 when an invariant does not hold."""
    click.echo(f"SEED={seed}", err=True)
    try:
        asyncio.run(soak(minutes, seed))
    except* AssertionError as failed:
        for error in failed.exceptions:
            click.echo(f"SEED={seed}: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
