"""The floors: what the same messages cost when nothing is done with them.

*Drain* takes them from the broker with the bare codec and acknowledges them (`bench/drain.py`), beside the
same load on the same broker: the least that a gateway in Python can use.

*Copy* puts the same rows into a table without key, index or partition, a COPY and a transaction for each
thousand, over one connection: the least that PostgreSQL can use.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import msgspec

from bench import meter
from bench.drain import Drained
from bench.generator import Generator
from bench.load import Load
from bench.scenario import Scenario, run_alone
from bench.tables import Line
from deploy.local.children import Children
from deploy.local.services import LocalServices
from gateway.migrate import migrate
from runtime.postgres import load_queries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from bench.tables import CpuByCase

BATCH: Final = 1000
_COLUMNS: Final = ("ts", "device_id", "message_key", "region", "metrics", "received_at")
_PER_MESSAGE = 1e6
_POLL_S = 0.02

queries = load_queries("bench")


class Options(msgspec.Struct, frozen=True):
    """How many messages to drain, and how many rows to copy."""

    messages: int = 300_000
    rows: int = 1_000_000


class Figures(msgspec.Struct, frozen=True):
    """One round.

    Attributes:
        drained_per_s: messages a second, from the broker into nothing.
        drain_cpu_us: µs of CPU a message, by process.
        copied_per_s: rows a second.
        copy_cpu_us: µs of PostgreSQL's CPU a row.
    """

    drained_per_s: float
    drain_cpu_us: dict[str, float]
    copied_per_s: float
    copy_cpu_us: float


async def measure(_number: int, options: Options) -> Figures:
    """Measure both, one after the other, on fresh servers."""
    async with LocalServices(("mosquitto", "postgres"), environ={}) as services:
        drained, drain_cpu_us = await _drain(services, options.messages)
        copied_per_s, copy_cpu_us = await _copy(services, options.rows)
    return Figures(drained.messages / drained.seconds, drain_cpu_us, copied_per_s, copy_cpu_us)


async def _drain(services: LocalServices, messages: int) -> tuple[Drained, dict[str, float]]:
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as folder, Children(Path(folder), {}) as children:
        port = str(services.mqtt_port)
        child = children.start("drain", "bench.drain", "--port", port, "--messages", str(messages))
        said = await _wait_for(children, child.output, lines=1)
        async with Generator(services.mqtt_port, Load(messages=messages)) as generator:
            before = meter.cpu_s(services.pids()["mosquitto"])
            generator.go()
            sent = await generator.result()
            said = await _wait_for(children, child.output, lines=2)
            mosquitto_s = meter.cpu_s(services.pids()["mosquitto"]) - before
    drained = msgspec.json.decode(said.splitlines()[1], type=Drained)
    used = {"drain": drained.cpu_s, "mosquitto": mosquitto_s, "load": sent.cpu_s}
    return drained, {name: seconds / messages * _PER_MESSAGE for name, seconds in used.items()}


async def _wait_for(children: Children, output: Path, *, lines: int) -> str:
    while (said := await asyncio.to_thread(output.read_text, "utf-8")).count("\n") < lines:
        children.check()
        await asyncio.sleep(_POLL_S)
    return said


async def _copy(services: LocalServices, rows: int) -> tuple[float, float]:
    await migrate(services.postgres_dsn)
    connection = await asyncpg.connect(services.postgres_dsn)
    await connection.execute(queries.bare_table)
    batches = list(_batches(rows))
    cpu, started = meter.cpu_s(services.pids()["postgres"]), time.monotonic()
    for batch in batches:
        await connection.copy_to_table("bare", source=_source(batch), columns=_COLUMNS, format="text")
    took_s = time.monotonic() - started
    cpu_s = meter.cpu_s(services.pids()["postgres"]) - cpu
    await connection.close()
    return rows / took_s, cpu_s / rows * _PER_MESSAGE


async def _source(batch: bytes) -> AsyncIterator[bytes]:
    yield batch


def _batches(rows: int) -> Iterator[bytes]:
    """The rows of the load's messages in COPY's text form, as the gateway writes them."""
    now = datetime.now(UTC).isoformat()
    for start in range(0, rows, BATCH):
        lines = []
        for i in range(start, min(start + BATCH, rows)):
            metrics = f'{{"temperature":{i % 400 / 10},"humidity":40.5}}'
            lines.append(f"{now}\td{i % 1000:06d}\tr0-00-00000-{i:06d}\tr{i % 4}\t{metrics}\t{now}\n")
        yield "".join(lines).encode()


def lines(median: Figures) -> Sequence[Line]:
    """The table."""
    return [
        Line("taken and acknowledged", f"{median.drained_per_s:,.0f} messages/s"),
        Line("CPU of the drain", f"{median.drain_cpu_us['drain']:.1f} µs a message"),
        Line("copied", f"{median.copied_per_s:,.0f} rows/s"),
        Line("CPU of PostgreSQL", f"{median.copy_cpu_us:.1f} µs a row"),
    ]


def cpu(median: Figures) -> CpuByCase:
    """Of both floors."""
    return {"bare drain": median.drain_cpu_us, "bare COPY": {"postgres": median.copy_cpu_us}}


SCENARIO: Scenario[Any] = Scenario(
    name="floors",
    title="Floors",
    text="The same messages taken from the broker by the bare `mqtt5` codec and acknowledged, and the same "
    "rows copied into a table without key or index, a thousand a transaction.",
    options=Options(),
    quick=Options(messages=5_000, rows=5_000),
    figures=Figures,
    measure=measure,
    lines=lines,
    cpu=cpu,
)

if __name__ == "__main__":
    run_alone(SCENARIO)
