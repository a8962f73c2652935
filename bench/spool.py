"""The spool: how fast it fills and drains, beside the direct way, and how long the disk lasts.

PostgreSQL is stopped under a gateway that has stored a flood. Then devices send at a few steady rates, and as
fast as messages become durable; PostgreSQL comes back, and all of it is drained while nothing else comes.
Tables are the slower the more they hold; so then comes a flood once more, and what is drained between the two
is measured by both.
Bytes are those of the spool's file, and those that the kernel wrote to disk for the gateway
(`/proc/PID/io`), the journal of the file system left aside.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
import time
import urllib.request
from typing import TYPE_CHECKING, Any, Final

import msgspec
import psutil

from bench import meter
from bench.flood import AHEAD_READINGS, flood
from bench.generator import Generator
from bench.load import Load
from bench.packets import Shape
from bench.plant import Plant
from bench.scenario import PlantError, Scenario, check, run_alone
from bench.tables import Line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_SPOOLING: Final = 30_000 / 35_000  # of the direct way
_IDLE: Final = 0.98
_GB: Final = 1e9
_DAY_S: Final = 86_400.0
_POLL_S: Final = 0.2  # as the flood's: to be asked takes the gateway 3 ms
_CLOSE_POLL_S: Final = 0.02
_CLOSE: Final = 5000  # messages
_STALLED_S: Final = 40.0
_LINE: Final = re.compile(r"^gateway_(spool\w+?)(?:_total)? (\S+)$", re.MULTILINE)


class Options(msgspec.Struct, frozen=True):
    """For how long devices flood, at which steady rates they send, and for how long at each."""

    seconds: float = 8.0
    rates: tuple[int, ...] = (100, 1000)
    rate_seconds: float = 4.0
    devices: int = 1000


class Filled(msgspec.Struct, frozen=True):
    """What a way into the spool came to.

    Attributes:
        per_s: messages a second that became durable.
        cpu_us: µs of the gateway's CPU a message.
        file_bytes: of the spool's file, a message.
        disk_bytes: written to disk, a message.
    """

    per_s: float
    cpu_us: float
    file_bytes: float
    disk_bytes: float


class Figures(msgspec.Struct, frozen=True):
    """One round; rates are messages a second, CPU is µs of the gateway's a message.

    Attributes:
        off_per_s: stored directly, without a spool.
        on_per_s: likewise, with one that has nothing to do.
        flood: into the spool, as fast as it goes.
        rates: into the spool, by messages a second.
        drained_per_s: out of it into PostgreSQL.
        after_per_s: stored directly afterwards.
    """

    off_per_s: float
    on_per_s: float
    off_cpu_us: float
    on_cpu_us: float
    flood: Filled
    rates: dict[str, Filled]
    drained_per_s: float
    drained_cpu_us: float
    after_per_s: float
    after_cpu_us: float


async def measure(number: int, options: Options) -> Figures:
    """Measure the direct way without a spool and with one, by turns, and the spool."""
    off: tuple[float, float] | None = None
    if number % 2:
        off = await _without(options, number)
    with tempfile.TemporaryDirectory(prefix="edge-spool-") as folder:
        settings = {"EDGE_SPOOL_PATH": folder, "EDGE_SPOOL_MAX_BYTES": "20GB"}
        async with Plant.open(settings) as plant:
            on = await _direct(plant, options, f"on{number}")
            await plant.services.postgres.stop("immediate")
            rates = {
                str(rate): await _fill(
                    plant,
                    Load(rate=rate, seconds=options.rate_seconds, shape=_shape(options, f"{number}-{rate}-")),
                )
                for rate in options.rates
            }
            flooded = await _fill(plant, Load(seconds=options.seconds, shape=_shape(options, f"f{number}")))
            await plant.services.postgres.start()
            drained = await _drain(plant)
            after = await _direct(plant, options, f"after{number}")
    off = off or await _without(options, number)
    return Figures(off[0], on[0], off[1], on[1], flooded, rates, *drained, *after)


def _shape(options: Options, run: str) -> Shape:
    return Shape(run=run, devices=options.devices)


async def _without(options: Options, number: int) -> tuple[float, float]:
    async with Plant.open({"EDGE_SPOOL_PATH": ""}) as plant:
        return await _direct(plant, options, f"off{number}")


async def _direct(plant: Plant, options: Options, run: str) -> tuple[float, float]:
    """Messages a second, and the gateway's CPU a message."""
    flooded = await flood(plant, Load(seconds=options.seconds, shape=_shape(options, run)))
    check("committed", flooded.counted.committed, flooded.sent.messages)
    return flooded.sent.messages / flooded.settled_s, flooded.cpu_us["gateway"]


async def _fill(plant: Plant, load: Load) -> Filled:
    """Send, and wait until all of it is durable."""
    if not load.rate:
        load = msgspec.structs.replace(load, limit=AHEAD_READINGS)
    process = psutil.Process(plant.pid("gateway"))
    async with Generator(plant.mqtt_port, load) as generator:
        before = await _spool(plant)
        cpu_s, disk = meter.cpu_s([process.pid]), process.io_counters().write_bytes
        started = time.monotonic()
        generator.go()
        sending = asyncio.create_task(generator.result(), name="load")
        while not sending.done():
            kept = (await _spool(plant))["spool_kept"] - before["spool_kept"]
            generator.limit(int(kept) + AHEAD_READINGS)
            await asyncio.wait((sending,), timeout=_POLL_S)
        sent = sending.result().messages
        after = await _until(plant, lambda now: now["spool_kept"] - before["spool_kept"] >= sent)
    took_s = time.monotonic() - started
    return Filled(
        sent / took_s,
        (meter.cpu_s([process.pid]) - cpu_s) / sent * 1e6,
        (after["spool_bytes"] - before["spool_bytes"]) / sent,
        (process.io_counters().write_bytes - disk) / sent,
    )


async def _drain(plant: Plant) -> tuple[float, float]:
    """Wait until the spool is empty; messages a second from the first that came out, and CPU a message."""
    before = await _spool(plant)
    begun = await _until(plant, lambda now: now["spool_drained"] > before["spool_drained"])
    started, cpu_s = time.monotonic(), meter.cpu_s([plant.pid("gateway")])
    after = await _until(plant, lambda now: not now["spooling"])
    drained = after["spool_drained"] - begun["spool_drained"]
    used_s = meter.cpu_s([plant.pid("gateway")]) - cpu_s
    return drained / (time.monotonic() - started), used_s / drained * 1e6


async def _until(plant: Plant, done: Callable[[dict[str, float]], bool]) -> dict[str, float]:
    last: dict[str, float] = {}
    moved_at = time.monotonic()
    while True:
        now = await _spool(plant)
        if done(now):
            return now
        if now["spool_kept"] + now["spool_drained"] != last.get("moved"):
            last, moved_at = {"moved": now["spool_kept"] + now["spool_drained"]}, time.monotonic()
        if time.monotonic() - moved_at > _STALLED_S:
            raise PlantError(f"nothing moves: {now}")
        is_close = now["spool_kept"] - now["spool_drained"] < _CLOSE
        await asyncio.sleep(_CLOSE_POLL_S if is_close else _POLL_S)


async def _spool(plant: Plant) -> dict[str, float]:
    """The gateway's metrics of its spool."""

    def ask() -> dict[str, float]:
        plant.check()
        with urllib.request.urlopen(f"{plant.url('gateway')}/metrics", timeout=5) as answer:  # noqa: S310  # our own http URL
            return {name: float(value) for name, value in _LINE.findall(str(answer.read(), "utf-8"))}

    return await asyncio.to_thread(ask)


def lines(median: Figures) -> Sequence[Line]:
    """The table."""
    off, on, flooded = median.off_per_s, median.on_per_s, median.flood
    idle, cpu = on / off, median.off_cpu_us / median.on_cpu_us
    drained = median.drained_per_s / ((on + median.after_per_s) / 2)
    found = [
        Line("stored directly, without a spool", f"{off:,.0f} messages/s, {median.off_cpu_us:.1f} µs"),
        Line(
            "stored directly, with a spool that has nothing to do",
            f"{on:,.0f} messages/s, {median.on_cpu_us:.1f} µs: {idle:.2f} of it, by CPU {cpu:.2f}",
            f"≥ {_IDLE}",
            max(idle, cpu) >= _IDLE,
        ),
        Line(
            "into the spool",
            f"{flooded.per_s:,.0f} messages/s, {flooded.cpu_us:.1f} µs: {flooded.per_s / off:.2f} of it",
            f"≥ {_SPOOLING:.2f}",
            flooded.per_s / off >= _SPOOLING,
        ),
        Line(
            "out of the spool",
            f"{median.drained_per_s:,.0f} messages/s, {median.drained_cpu_us:.1f} µs: "
            f"{drained:.2f} of directly before and after",
            "≥ 1",
            drained >= 1,
        ),
        Line(
            "stored directly afterwards, into the same tables",
            f"{median.after_per_s:,.0f} messages/s, {median.after_cpu_us:.1f} µs",
        ),
    ]
    for rate, filled in (*median.rates.items(), (f"{flooded.per_s:.0f}", flooded)):
        days = _GB / filled.file_bytes / float(rate) / _DAY_S
        lasts = f"{days:,.1f} days" if days >= 1 else f"{days * 24:.1f} hours"
        found.append(
            Line(
                f"at {float(rate):,.0f} messages/s",
                f"{filled.file_bytes:.0f} bytes a message, so that 1 GB lasts {lasts}; "
                f"{filled.disk_bytes:.0f} bytes written, {filled.cpu_us:.0f} µs",
            )
        )
    return found


SCENARIO: Scenario[Any] = Scenario(
    name="spool",
    title="Days without PostgreSQL",
    text="The flood's messages of about 105 bytes, stored directly, into the spool and out of it; CPU is "
    "that of the gateway, a message.",
    options=Options(),
    quick=Options(seconds=1.0, rates=(100,), rate_seconds=1.0, devices=100),
    figures=Figures,
    measure=measure,
    lines=lines,
)

if __name__ == "__main__":
    run_alone(SCENARIO)
