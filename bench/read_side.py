"""How fast `GET /devices/{device_id}/stats` is answered: alone, and while messages come in.

Alone it is compared with the same framework that answers one bare HGETALL (`bench/bare_http.py`), asked by
the same readers, one after the other in one round; what the readers can do themselves is measured against a
socket that always gives the same answer. Then the query API is asked while an open-loop load comes in, at a
rate a little above the target's; the load's messages must all be in Redis a moment after its end.
"""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from bench.flood import flood
from bench.generator import Generator
from bench.http_load import Asked, Reading
from bench.ingest import memory_line
from bench.load import Load
from bench.packets import Shape
from bench.plant import Plant
from bench.scenario import PlantError, Scenario, check, run_alone
from bench.tables import Line
from deploy.local.figures import is_ready
from deploy.local.server import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

_TARGET_RATIO: Final = 0.8
_TARGET_PER_S: Final = 500
_TARGET_P99_MS: Final = 60.0
_ANSWER: Final = b"HTTP/1.1 200 OK\r\ncontent-length: 600\r\n\r\n" + b" " * 600
_WARM_UP: Final = 20_000  # messages, so that every device has some
_WARM_UP_S: Final = 1.0
_POLL_S: Final = 0.05


class Options(msgspec.Struct, frozen=True):
    """Readers, and the load beside them.

    Attributes:
        rate: messages a second that come in meanwhile.
        beside_rate: requests a second while they do.
    """

    connections: int = 16
    seconds: float = 8.0
    rate: int = 10_000
    beside_rate: float = 600.0
    devices: int = 1000


class Figures(msgspec.Struct, frozen=True):
    """One round.

    Attributes:
        ceiling: the readers asking a socket.
        bare: asking the same framework.
        idle: asking the projector.
        beside_ingest: asking the projector while messages come in.
        ratio: of requests a second, idle to bare.
        behind_ms: how long after the load's end all its messages were in Redis.
        peak_mb: most resident memory (RSS), by process.
    """

    ceiling: Asked
    bare: Asked
    idle: Asked
    beside_ingest: Asked
    ratio: float
    behind_ms: float
    peak_mb: dict[str, float]


async def measure(_number: int, options: Options) -> Figures:
    """Ask on a fresh plant that knows the devices."""
    reading = Reading(connections=options.connections, seconds=options.seconds, devices=options.devices)
    async with Plant.open() as plant, _bare(plant) as bare_port, _socket() as socket_port:
        await flood(plant, Load(messages=_WARM_UP, shape=Shape(run="warm", devices=options.devices)))
        port = int(plant.url("projector").rpartition(":")[2])
        ceiling = await _ask(socket_port, reading)
        for each in (bare_port, port):
            await _ask(each, msgspec.structs.replace(reading, seconds=_WARM_UP_S))
        bare, idle = await _ask(bare_port, reading), await _ask(port, reading)
        beside, behind_ms = await _ask_beside_ingest(plant, port, reading, options)
        peak_mb = plant.peak_mb()
    return Figures(ceiling, bare, idle, beside, idle.per_s / bare.per_s, behind_ms, peak_mb)


async def _ask_beside_ingest(
    plant: Plant, port: int, reading: Reading, options: Options
) -> tuple[Asked, float]:
    before = await plant.counters()
    load = Load(
        rate=options.rate, seconds=options.seconds + 2 * _WARM_UP_S, shape=Shape(devices=options.devices)
    )
    async with Generator(plant.mqtt_port, load) as generator:
        generator.go()
        await asyncio.sleep(_WARM_UP_S)
        asked = await _ask(port, msgspec.structs.replace(reading, rate=options.beside_rate))
        sent = await generator.result()
        ended = time.monotonic()
        async with asyncio.timeout(reading.seconds):
            while (now := (await plant.counters()).since(before)).applied < sent.messages:
                plant.check()
                await asyncio.sleep(_POLL_S)
    check("applied", now.applied, sent.messages)
    return asked, (time.monotonic() - ended) * 1000


async def _ask(port: int, reading: Reading) -> Asked:
    words = [sys.executable, "-m", "bench.http_load", "--port", str(port)]
    for name, value in msgspec.structs.asdict(reading).items():
        words += [f"--{name}", str(value)]
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    if process.returncode:
        raise PlantError(f"bench.http_load ended with {process.returncode}")
    return msgspec.json.decode(output, type=Asked)


@asynccontextmanager
async def _bare(plant: Plant) -> AsyncIterator[int]:
    port = free_port()
    where = ["--http", f"127.0.0.1:{port}", "--redis", plant.redis_url]
    child = plant.children.start("bare_http", "bench.bare_http", *where)
    try:
        while not await asyncio.to_thread(is_ready, f"http://127.0.0.1:{port}"):
            plant.check()
            await asyncio.sleep(_POLL_S)
        yield port
    finally:
        await child.stop(10)


@asynccontextmanager
async def _socket() -> AsyncIterator[int]:
    server = await asyncio.get_running_loop().create_server(_Answering, "127.0.0.1")
    async with server:
        yield server.sockets[0].getsockname()[1]


class _Answering(asyncio.Protocol):
    """Gives one answer for each read, which is one request of our readers."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:  # noqa: ARG002  # whatever it asks
        self._transport.write(_ANSWER)


def lines(median: Figures) -> Sequence[Line]:
    """The table."""
    beside = median.beside_ingest
    return [
        Line("the readers by themselves", f"{median.ceiling.per_s:,.0f} requests/s"),
        Line("bare HGETALL", _speed(median.bare)),
        Line("device statistics, idle", _speed(median.idle)),
        Line(
            "of the bare HGETALL's rate",
            f"{median.ratio:.2f}",
            f"≥ {_TARGET_RATIO}",
            median.ratio >= _TARGET_RATIO,
        ),
        Line(
            "beside ingest",
            _speed(beside),
            f"≥ {_TARGET_PER_S} requests/s, p99 ≤ {_TARGET_P99_MS:.0f} ms",
            beside.per_s >= _TARGET_PER_S and beside.p99_ms <= _TARGET_P99_MS,
        ),
        Line("all in Redis after the load's end", f"{median.behind_ms:,.0f} ms"),
        memory_line("peak memory", median.peak_mb),
    ]


def _speed(asked: Asked) -> str:
    return f"{asked.per_s:,.0f} requests/s, p50 {asked.p50_ms:.1f} ms, p99 {asked.p99_ms:.1f} ms"


SCENARIO: Scenario[Any] = Scenario(
    name="read_side",
    title="Reading",
    text="`GET /devices/{device_id}/stats` over keep-alive connections, each asking again as soon as it is "
    "answered, alone and beside the same framework answering one bare HGETALL; then at `beside_rate` "
    "requests a second, answered or not, while an open-loop load brings `rate` messages a second.",
    options=Options(),
    quick=Options(seconds=0.5, rate=500, beside_rate=100.0, devices=50),
    figures=Figures,
    measure=measure,
    lines=lines,
)

if __name__ == "__main__":
    run_alone(SCENARIO)
