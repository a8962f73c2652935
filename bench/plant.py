"""What is measured: the local servers with a gateway and a projector, as their own processes.

    async with Plant.open() as plant:
        async with Generator(plant.mqtt_port, Load(seconds=10)) as load: ...
        counters = await plant.counters()

Servers are fresh and as `deploy.local` makes them: fsync and synchronous commit on, mosquitto with the
repository's configuration. Both processes have their default settings, whatever the environment of whoever
measures says. Counts come from the processes' own `/metrics`, of which only the lines that are
wanted are parsed, so that looking costs the plant little.
"""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
import time
import urllib.request
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Self

import asyncpg
import msgspec

from bench import meter
from deploy.local.children import Children
from deploy.local.figures import is_ready
from deploy.local.server import free_port
from deploy.local.services import LocalServices
from runtime import faults
from runtime.postgres import load_queries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from deploy.local.children import Child

Process = Literal["gateway", "projector"]

PROCESSES: Final[tuple[Process, ...]] = ("gateway", "projector")
SERVERS: Final = ("mosquitto", "postgres", "redis")

queries: Final = load_queries("bench")

_STOP_S = 30.0
_POLL_S = 0.05
_READ_S = 5.0
_LINE = re.compile(
    r"^(gateway_(?:received|committed|duplicate|dead_lettered)_total|gateway_in_flight|projector_events_applied_total)"
    r"(?:\{.*\})? (\S+)$",
    re.MULTILINE,
)


class Counters(msgspec.Struct, frozen=True):
    """What gateway and projector have counted since they started.

    Attributes:
        at: when, in seconds of the monotonic clock, which all processes of a machine share.
        received: readings taken from the broker; the sum of the four that follow.
        applied: events that the projector has put into Redis.
    """

    at: float
    received: int
    committed: int
    duplicate: int
    dead_lettered: int
    in_flight: int
    applied: int

    @property
    def settled(self) -> int:
        """Readings whose fate is stored."""
        return self.committed + self.duplicate + self.dead_lettered

    def since(self, before: Counters) -> Counters:
        """The difference, field by field."""
        pairs = zip(msgspec.structs.astuple(self), msgspec.structs.astuple(before), strict=True)
        return Counters(*(now - then for now, then in pairs))


class Plant:
    """Servers, gateway and projector; see the module. Made by `Plant.open`.

    Attributes:
        services: the servers, to stop and start them.
        children: where further processes can be started.
    """

    def __init__(self, services: LocalServices, children: Children, settings: Mapping[str, str]) -> None:
        self.services = services
        self.children = children
        self._settings = dict(settings)
        self._running: dict[Process, Child] = {}
        self._http = {name: f"127.0.0.1:{free_port()}" for name in PROCESSES}

    @classmethod
    @asynccontextmanager
    async def open(
        cls, settings: Mapping[str, str] | None = None, *, services: LocalServices | None = None
    ) -> AsyncIterator[Self]:
        """Start everything and wait until it is ready; end it on leaving.

        Args:
            settings: further environment of both processes, `EDGE_…`.
            services: servers that run already and are to stay; None is fresh ones.
        """
        if services is None:
            async with LocalServices(environ={}) as fresh, cls.open(settings, services=fresh) as plant:
                yield plant
            return
        with (
            tempfile.TemporaryDirectory(prefix="edge-bench-") as folder,
            Children(Path(folder), services.environment(), inherited=_surroundings()) as children,
        ):
            plant = cls(services, children, settings or {})
            for name in PROCESSES:
                await plant.start(name)
            yield plant

    @property
    def mqtt_port(self) -> int:
        """Where to publish."""
        return self.services.mqtt_port

    @property
    def dsn(self) -> str:
        """The database that the gateway writes to."""
        return self._settings.get("EDGE_POSTGRES_DSN", self.services.postgres_dsn)

    @property
    def redis_url(self) -> str:
        """The Redis that the projector writes to."""
        return self._settings.get("EDGE_REDIS_URL", self.services.redis_url)

    def url(self, name: Process) -> str:
        """Where a process serves HTTP."""
        return f"http://{self._http[name]}"

    def pid(self, name: Process) -> int:
        """A process's id."""
        return self._running[name].pid

    async def start(self, name: Process) -> None:
        """Start a process and wait until it says that it is ready."""
        settings = self._settings | {f"EDGE_{name}_HTTP".upper(): self._http[name]}
        self._running[name] = self.children.start(name, self.module(name), "run", **settings)
        while not await asyncio.to_thread(is_ready, self.url(name)):
            self.check()
            await asyncio.sleep(_POLL_S)

    def module(self, name: Process) -> str:
        """What is run for a process."""
        return name

    async def stop(self, name: Process) -> None:
        """Ask a process to stop, and wait until it has."""
        await self._running.pop(name).stop(_STOP_S)

    def check(self) -> None:
        """Do nothing while all processes run.

        Raises:
            ChildError: one has ended by itself.
        """
        self.children.check()

    async def counters(self) -> Counters:
        """What the processes have counted; the projector is asked last."""
        return await asyncio.to_thread(self._counters)

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds by process, servers with all their children, and of the machine as a whole."""
        pids = self.services.pids()
        own: dict[str, float] = {name: meter.cpu_s([self.pid(name)]) for name in self._running}
        servers: dict[str, float] = {name: meter.cpu_s(pids[name]) for name in SERVERS if name in pids}
        return {**own, **servers, "machine": meter.machine_cpu_s()}

    def peak_mb(self) -> dict[str, float]:
        """The most resident memory (RSS) that each process has had since its start, in MB (10⁶ bytes)."""
        return {name: meter.peak_rss_mb(self.pid(name)) for name in self._running}

    async def fetch_count(self, statement: str, *arguments: object) -> int:
        """Ask PostgreSQL for one number."""
        connection = await asyncpg.connect(self.dsn)
        try:
            return int(await connection.fetchval(statement, *arguments))
        finally:
            await connection.close()

    def _counters(self) -> Counters:
        totals = dict.fromkeys(
            (
                "gateway_received_total",
                "gateway_committed_total",
                "gateway_duplicate_total",
                "gateway_dead_lettered_total",
                "gateway_in_flight",
                "projector_events_applied_total",
            ),
            0,
        )
        for name in self._running:
            with urllib.request.urlopen(f"{self.url(name)}/metrics", timeout=_READ_S) as answer:  # noqa: S310  # our own http URL
                for metric, value in _LINE.findall(str(answer.read(), "utf-8")):
                    totals[metric] += int(float(value))
        return Counters(time.monotonic(), *totals.values())


def _surroundings() -> dict[str, str]:
    """The environment without what would change the product: its settings and fault points."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("EDGE_") and name != faults.VARIABLE
    }
