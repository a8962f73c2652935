"""The flood: as many QoS 1 messages as go in, from a device to the row and to Redis.

`make bench`. Servers, gateway, projector and devices share the machine, so a figure means something only
beside the CPU per message of each; all are medians of the rounds. Messages are made before the clock starts.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil

from deploy.local.children import Children
from deploy.local.figures import Figures, is_ready, read_figures
from deploy.local.server import free_port
from deploy.local.services import LocalServices
from runtime import logs
from runtime.mqtt import Message, MqttSession, SessionOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

_BATCH = 500
_POLL_S = 0.05
_TIMEOUT_S = 300.0
_SERVERS = ("mosquitto", "postgres", "redis")


class Round(NamedTuple):
    """One flood.

    Attributes:
        committed_s: from the first message until all were committed.
        projected_s: until all were in Redis.
        cpu_us: µs of CPU per message, by process.
    """

    committed_s: float
    projected_s: float
    cpu_us: dict[str, float]


class Plant:
    """Servers and processes that stay up for all rounds."""

    def __init__(self, services: LocalServices, children: Children) -> None:
        self._services = services
        self._children = children
        self._gateway = f"127.0.0.1:{free_port()}"
        self._projector = f"127.0.0.1:{free_port()}"

    async def start(self) -> None:
        """Start both processes and wait until they are ready."""
        self._children.start("gateway", "gateway", "run", EDGE_GATEWAY_HTTP=self._gateway)
        self._children.start("projector", "projector", "run", EDGE_PROJECTOR_HTTP=self._projector)
        for address in (self._gateway, self._projector):
            while not await asyncio.to_thread(is_ready, f"http://{address}"):
                self._children.check()
                await asyncio.sleep(_POLL_S)

    async def flood(self, number: int, messages: int, devices: int) -> Round:
        """Send one round's messages and wait until all of them are in Redis."""
        made = list(_messages(number, messages, devices))
        before, cpu_before = await self._read(), self._cpu_s()
        options = SessionOptions("127.0.0.1", self._services.mqtt_port, f"bench-{number}", clean_start=True)
        async with MqttSession(options) as session:
            await session.connected()
            started = time.monotonic()
            sending = asyncio.create_task(_send(session, made))
            committed_s = 0.0
            while True:
                now = await self._read()
                elapsed = time.monotonic() - started
                if not committed_s and now.committed - before.committed >= messages:
                    committed_s = elapsed
                if now.applied - before.applied >= messages:
                    break
                if elapsed > _TIMEOUT_S:
                    raise SystemExit(
                        f"only {now.applied - before.applied} of {messages} after {elapsed:.0f} s"
                    )
                self._children.check()
                await asyncio.sleep(_POLL_S)
            await sending
        cpu = self._cpu_s()
        for name in ("gateway", "projector"):
            cpu_before[name], cpu[name] = before.cpu_s[name], now.cpu_s[name]
        per_message = {name: (cpu[name] - cpu_before[name]) / messages * 1e6 for name in cpu}
        return Round(committed_s, elapsed, per_message)

    async def _read(self) -> Figures:
        return await asyncio.to_thread(read_figures, f"http://{self._gateway}", f"http://{self._projector}")

    def _cpu_s(self) -> dict[str, float]:
        pids = self._services.pids()
        return {name: sum(map(_cpu_of, pids[name])) for name in _SERVERS}


async def _send(session: MqttSession, messages: list[Message]) -> None:
    for start in range(0, len(messages), _BATCH):
        await session.publish(messages[start : start + _BATCH])


def _messages(number: int, messages: int, devices: int) -> Iterator[Message]:
    ts = datetime.now(UTC).isoformat(timespec="milliseconds")
    for i in range(messages):
        identity = f'"id":"{number}-{i:07d}","ts":"{ts}","region":"r{i % 4}"'
        body = f'{{{identity},"temperature":{i % 400 / 10},"humidity":40.5}}'
        yield Message(f"devices/d{i % devices:06d}/telemetry", body.encode())


def _cpu_of(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:  # a server process that came and went
        return 0.0
    return float(times.user + times.system)


async def run(messages: int, devices: int, rounds: int) -> list[Round]:
    """Run all rounds on fresh servers."""
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as folder:
        async with LocalServices(environ={}) as services:
            with Children(Path(folder), services.environment()) as children:
                plant = Plant(services, children)
                await plant.start()
                return [await plant.flood(n, messages, devices) for n in range(rounds)]


def main() -> None:
    """Print a Markdown table of medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    logs.configure("json", "warning")
    rounds = asyncio.run(run(options.messages, options.devices, options.rounds))
    committed = statistics.median(options.messages / each.committed_s for each in rounds)
    projected = statistics.median(options.messages / each.projected_s for each in rounds)
    print(f"{options.messages:,} messages of {options.devices:,} devices, median of {len(rounds)} rounds\n")
    print("| | |\n|---|---|")
    print(f"| committed | {committed:,.0f} messages/s |")
    print(f"| in Redis | {projected:,.0f} messages/s |")
    for name in rounds[0].cpu_us:
        print(f"| CPU, {name} | {statistics.median(each.cpu_us[name] for each in rounds):.1f} µs a message |")


if __name__ == "__main__":
    main()
