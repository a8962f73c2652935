"""A plant: private servers, our own processes between them, devices, and the audit at the end.

Every scenario has its own, because it breaks it. A path between two of them can go through a proxy that
fails on demand (`Site.open(..., through=("postgres",))`).
"""

from __future__ import annotations

import os
import signal
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Literal

import asyncpg
import httpx
import psutil

from deploy.local.server import free_port
from deploy.local.services import LocalServices
from gateway.migrate import migrate
from runtime.redis import open_redis
from tests.faults.audit import CURSOR_WITHIN_S, Auditor, Books
from tests.faults.fleet import Fleet
from tests.faults.proxy import Proxy
from tests.faults.shapes import ROUTES
from tests.faults.watch import until
from tests.support.commands import RunningCommand
from tests.support.roles import as_kind, grant_kinds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Mapping
    from pathlib import Path

    from redis.asyncio import Redis

    from tests.faults.messages import Sent

Role = Literal["gateway", "projector"]
Path_ = Literal["mosquitto", "postgres", "redis"]

READY = {"gateway": "gateway_started", "projector": "connected"}


class Site:
    """See the module; made by `Site.open`.

    Attributes:
        postgres: whichever is primary.
        proxies: by the name of the server behind each.
        log: what the site's fleets have sent.
        spools: whether its gateway has a spool; SPOOL=1 gives every site's one.
        views_in: URL and prefix of the views, when they are in another Redis than the site's own.
    """

    def __init__(
        self, services: LocalServices, seed: int, folder: Path, proxies: dict[Path_, Proxy], *, name: str
    ) -> None:
        self.services = services
        self.postgres = services.postgres
        self.seed = seed
        self.proxies = proxies
        self.fleets: list[Fleet] = []
        self.spools = os.environ.get("SPOOL") == "1"
        self.views_in: tuple[str, str] | None = None
        self._folder = folder
        self._name = name
        self._processes: list[RunningCommand] = []
        self._http = {"gateway": free_port(), "projector": free_port()}

    @classmethod
    @asynccontextmanager
    async def open(
        cls, seed: int, folder: Path, *, through: Collection[Path_] = (), name: str = "site"
    ) -> AsyncIterator[Site]:
        """Start the servers; end everything on leaving."""
        async with AsyncExitStack() as stack:
            services = await stack.enter_async_context(LocalServices(environ={}))
            ports = {
                "mosquitto": services.mqtt_port,
                "postgres": services.postgres.port,
                "redis": services.redis.port,
            }
            proxies = {path: await stack.enter_async_context(Proxy(ports[path])) for path in through}
            await migrate(services.postgres.dsn())
            await grant_kinds(services.postgres.dsn())
            site = cls(services, seed, folder, proxies, name=name)
            stack.push_async_callback(site._end)
            yield site

    @property
    def auditor(self) -> Auditor:
        """Looks at whichever PostgreSQL is primary."""
        return Auditor(self.postgres.dsn(), *(self.views_in or (self.services.redis.url(),)))

    @property
    def log(self) -> list[Sent]:
        return [sent for fleet in self.fleets for sent in fleet.log]

    def fleet(self, **options: object) -> Fleet:
        """Add a fleet of devices; options as `Fleet`."""
        number = len(self.fleets)
        options.setdefault("name", "d" if not number else f"d{number}-")
        fleet = Fleet(lambda: self.services.mqtt_port, self.seed, **options)  # type: ignore[arg-type]  # passed on
        self.fleets.append(fleet)
        return fleet

    async def start(
        self,
        role: Role,
        environment: Mapping[str, str] | None = None,
        *,
        faults: str = "",
        ready: bool = True,
    ) -> RunningCommand:
        """Start `gateway run` or `projector run` and wait until it works.

        Args:
            role: which of the two.
            environment: further settings, as `EDGE_…`.
            faults: its `FAULT_POINTS`; a process that has some may end before it is ready.
            ready: whether to wait.
        """
        env = {**self.settings(), **(environment or {})}
        if faults:
            env["FAULT_POINTS"] = faults
        process = await self.command(role, "run", "--log-level", "debug", environment=env)
        if ready and not faults:
            await process.event(READY[role])
            if role == "gateway":
                await process.event("connected", client_id=env["EDGE_BROKER_CLIENT_ID"])
        return process

    async def command(self, *arguments: str, environment: Mapping[str, str] | None = None) -> RunningCommand:
        """Start any of our commands at this site; `environment` replaces the site's settings.

        In PostgreSQL each has the rights of its list, and no more.
        """
        env = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        env |= {"HOME": str(self._folder), "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1"}
        env |= environment or self.settings()
        if env.get("EDGE_POSTGRES_DSN") == self.settings()["EDGE_POSTGRES_DSN"]:
            env["EDGE_POSTGRES_DSN"] = as_kind(env["EDGE_POSTGRES_DSN"], arguments[0])
        process = await RunningCommand.start(*arguments, env=env, process_group=self.services.place.group)
        self._processes.append(process)
        return process

    async def start_both(self) -> tuple[RunningCommand, RunningCommand]:
        """Start a gateway and a projector."""
        return await self.start("gateway"), await self.start("projector")

    def forget(self, process: RunningCommand) -> None:
        """Drop what an ended process has said."""
        self._processes.remove(process)

    async def crash(self, role: Role, faults: str, environment: Mapping[str, str] | None = None) -> None:
        """Start it with fault points and wait until one has killed it."""
        process = await self.start(role, environment, faults=faults)
        code = await process.exit_code(timeout_s=100)  # history is written once a minute
        assert code == -signal.SIGKILL, f"{faults} was not reached:\n" + "\n".join(process.output[-40:])

    def settings(self) -> dict[str, str]:
        """The environment of our processes."""
        postgres, redis = self.postgres, self.services.redis
        ports = {"mosquitto": self.services.mqtt_port, "postgres": postgres.port, "redis": redis.port}
        ports |= {path: proxy.port for path, proxy in self.proxies.items()}
        url, prefix = self.views_in or (f"redis://127.0.0.1:{ports['redis']}/0", "")
        config = self._folder / f"{self._name}.toml"
        config.write_text(ROUTES, encoding="utf-8")
        return {
            "EDGE_CONFIG": str(config),
            "EDGE_BROKER_PORT": str(ports["mosquitto"]),
            "EDGE_BROKER_CLIENT_ID": f"{self._name}-gateway",
            "EDGE_POSTGRES_DSN": f"postgresql://postgres@127.0.0.1:{ports['postgres']}/postgres",
            "EDGE_REDIS_URL": url,
            "EDGE_REDIS_PREFIX": prefix,
            "EDGE_GATEWAY_HTTP": f"127.0.0.1:{self._http['gateway']}",
            "EDGE_GATEWAY_OUTBOX_RETENTION": "30d",  # the audit reads all of it
            "EDGE_SPOOL_PATH": str(self._folder / f"{self._name}-spool") if self.spools else "",
            "EDGE_SPOOL_MIN_FREE_BYTES": "1MB",
            "EDGE_PROJECTOR_HTTP": f"127.0.0.1:{self._http['projector']}",
            "EDGE_PROJECTOR_CLIENT_ID": f"{self._name}-projector",
        }

    async def settled(self, *, within_s: float = 60) -> None:
        """Wait for the quiet: everything acknowledged is stored or a dead letter."""
        await until(lambda: self.auditor.lacks(self.log), within_s=within_s)

    async def audit(
        self,
        *,
        dropped: int = 0,
        excused: Callable[[float], bool] = lambda _acked_at: False,
        cursor_within_s: float = CURSOR_WITHIN_S,
    ) -> Books:
        """Wait for the quiet and check every invariant: a scenario's last word. See `Auditor.audit`."""
        if not dropped:
            await until(lambda: self.auditor.lacks(self.log, excused), within_s=60)
        return await self.auditor.audit(
            self.log, dropped=dropped, excused=excused, cursor_within_s=cursor_within_s
        )

    async def sql(self, query: str, *arguments: object) -> object:
        """Run a statement as an operator would and return its first value."""
        connection = await asyncpg.connect(self.postgres.dsn())
        try:
            return await connection.fetchval(query, *arguments)
        finally:
            await connection.close()

    def redis(self) -> Redis:
        """A client past any proxy, which loses no cancellation; use it as a context manager."""
        return open_redis(self.services.redis.url(), decode=True)

    async def metric(self, name: str, role: Role = "gateway") -> int:
        """Read one of a process's metrics."""
        async with httpx.AsyncClient() as client:
            text = (await client.get(f"http://127.0.0.1:{self._http[role]}/metrics")).text
        return int(sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(f"{name} ")))

    @staticmethod
    def rss_mb(process: RunningCommand) -> float:
        """Its resident memory now."""
        return float(psutil.Process(process.pid).memory_info().rss) / 1e6

    async def subscribed(self, client_id: str) -> str:
        """Say that a client has not subscribed yet, by the broker's log; empty when it has."""
        log = self.services.mosquitto.log.read_text(encoding="utf-8")
        return "" if f"as {client_id} (" in log else f"{client_id} is not at the broker"

    async def frozen(self, process: RunningCommand) -> None:
        """Wait until a process has stopped itself with SIGSTOP."""

        async def ask() -> str:
            state = psutil.Process(process.pid).status()
            return "" if state == psutil.STATUS_STOPPED else f"it is {state}"

        await until(ask, within_s=30)

    async def lag(self, wanted: Callable[[int], bool]) -> str:
        """Say how many rows the cursor lacks to the head, when it is not as wanted."""
        async with self.redis() as redis:
            cursor = int(await redis.hget("projector:cursor", "0") or 0)
        head = int(str(await self.sql("SELECT head FROM streams WHERE stream = 0")))
        return "" if wanted(head - cursor) else f"the cursor is at {cursor}, the head at {head}"

    async def applied(self, messages: int) -> None:
        """Wait until the views hold so many messages."""

        async def ask() -> str:
            async with self.redis() as redis:
                counts = [
                    int(await redis.hget(key, "sample_count") or 0)
                    async for key in redis.scan_iter("device:stats:*")
                ]
            return "" if sum(counts) >= messages else f"{sum(counts)} of {messages} messages"

        await until(ask, within_s=60)

    async def _end(self) -> None:
        for process in self._processes:
            await process.kill()
