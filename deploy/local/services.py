"""One launcher of local servers for the demo, the tests and the benchmarks.

A server that the configuration names already (`EDGE_BROKER_HOST` or `_PORT`, `EDGE_POSTGRES_DSN`,
`EDGE_REDIS_URL`, or the file `EDGE_CONFIG`) is used instead of starting one. What is started lives in one
temporary folder and one process group, both ended by the warden (`deploy/local/warden.py`) when the launcher
closes them or dies.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, TypeVar
from urllib.parse import urlsplit

from deploy.local import warden
from deploy.local.install import MissingPackagesError, ensure
from deploy.local.server import Place, Server, ServiceError
from deploy.local.servers import Mosquitto, Postgres, Redis
from runtime.settings import Settings, load
from runtime.settings.addresses import split_redis

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Collection, Mapping

Name = Literal["mosquitto", "postgres", "redis"]
S = TypeVar("S", bound=Server)

_CLASSES: dict[Name, type[Server]] = {"mosquitto": Mosquitto, "postgres": Postgres, "redis": Redis}
_KEYS = {
    "mosquitto": (("broker", "host"), ("broker", "port")),
    "postgres": (("postgres", "dsn"), ("postgres", "dsn_file")),
    "redis": (("redis", "url"), ("redis", "url_file")),
}


class LocalServices:
    """Servers ready to use, as an async context manager; `start` and `close` do the same by hand.

    Bound to no event loop: what one loop starts another may stop.

    Args:
        names: which servers are wanted.
        environ: where servers that run already may be named; None is the process's own, `{}` starts all.

    Raises:
        ServiceError: (on start) a server did not start, or is not installed and cannot be.
        ConfigurationError: (on start) the environment or its configuration file is wrong.
    """

    def __init__(
        self,
        names: Collection[Name] = ("mosquitto", "postgres", "redis"),
        *,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._names = names
        self._environ = os.environ if environ is None else environ
        self._given = Settings()
        self._servers: dict[Name, Server] = {}
        self._standbys: list[Postgres] = []
        self._warden: subprocess.Popen[bytes] | None = None
        self._place: Place | None = None

    async def __aenter__(self) -> Self:
        """Start them."""
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Stop them."""
        await self.close()

    async def start(self) -> None:
        """Start what the configuration does not name, and return when every server has answered."""
        self._given = load(environ=self._environ)
        wanted = [name for name in self._names if not self._is_given(name)]
        for name in self._names:
            if name not in wanted:
                print(f"using the {name} at {self._address(name)}, as configured", file=sys.stderr)
        if not wanted:
            return
        try:
            binaries = await asyncio.to_thread(ensure, wanted)
        except MissingPackagesError as error:
            raise ServiceError(str(error)) from error
        self._place = self._make_place()
        try:
            self._servers = {name: _CLASSES[name](binaries[name], self._place) for name in wanted}
            outcomes = await asyncio.gather(
                *(server.start() for server in self._servers.values()), return_exceptions=True
            )
        except BaseException:
            await self.close()
            raise
        failures = [outcome for outcome in outcomes if outcome is not None]
        if failures:
            await self.close()
            raise failures[0]

    async def start_standby(self, of: Postgres) -> Postgres:
        """Start a copy of a PostgreSQL that follows it, in a place of its own, until it is promoted."""
        standby = Postgres(of.binary, of.place, primary=of)
        self._standbys.append(standby)
        await standby.start()
        return standby

    async def close(self) -> None:
        """Stop every server and remove the folder. Idempotent."""
        if self._warden is None or self._warden.stdin is None:
            return
        self._warden.stdin.close()
        await asyncio.to_thread(self._warden.wait)
        self._warden = None
        for server in (*self._servers.values(), *self._standbys):
            await server.release()
        shutil.rmtree(self.place.folder, ignore_errors=True)

    @property
    def mosquitto(self) -> Mosquitto:
        """The broker that was started here."""
        return self._own("mosquitto", Mosquitto)

    @property
    def postgres(self) -> Postgres:
        """The PostgreSQL that was started here."""
        return self._own("postgres", Postgres)

    @property
    def redis(self) -> Redis:
        """The Redis that was started here."""
        return self._own("redis", Redis)

    @property
    def mqtt_host(self) -> str:
        """The broker's host."""
        return "127.0.0.1" if "mosquitto" in self._servers else self._given.broker.host

    @property
    def mqtt_port(self) -> int:
        """The broker's port."""
        return self.mosquitto.port if "mosquitto" in self._servers else self._given.broker.port

    @property
    def postgres_dsn(self) -> str:
        """The DSN of the database to use."""
        return self.postgres.dsn() if "postgres" in self._servers else self._given.postgres.dsn

    @property
    def redis_url(self) -> str:
        """The URL of the Redis to use."""
        return self.redis.url() if "redis" in self._servers else self._given.redis.url

    @property
    def place(self) -> Place:
        """Folder and process group of what was started; a process put into the group ends with it."""
        if self._place is None:
            raise ServiceError("no server was started here")
        return self._place

    def environment(self) -> dict[str, str]:
        """The variables that point `gateway` and `projector` at these servers."""
        return {
            "EDGE_BROKER_HOST": self.mqtt_host,
            "EDGE_BROKER_PORT": str(self.mqtt_port),
            "EDGE_POSTGRES_DSN": self.postgres_dsn,
            "EDGE_REDIS_URL": self.redis_url,
        }

    def pids(self) -> dict[str, list[int]]:
        """Processes by server, the main one first; servers started here only."""
        return {name: server.pids() for name, server in self._servers.items()}

    def _own(self, name: Name, kind: type[S]) -> S:
        server = self._servers.get(name)
        if not isinstance(server, kind):
            raise ServiceError(f"{name} was not started here")
        return server

    def _is_given(self, name: Name) -> bool:
        default = Settings()
        return any(
            f"EDGE_{section}_{key}".upper() in self._environ
            or getattr(getattr(self._given, section), key) != getattr(getattr(default, section), key)
            for section, key in _KEYS[name]
        )

    def _address(self, name: Name) -> str:
        if name == "mosquitto":
            return f"{self._given.broker.host}:{self._given.broker.port}"
        if name == "redis":
            return ",".join(f"{host}:{port}" for host, port in split_redis(self._given.redis.url).hosts)
        url = urlsplit(self._given.postgres.dsn)
        return f"{url.hostname}:{url.port}"

    def _make_place(self) -> Place:
        folder = Path(tempfile.mkdtemp(prefix="edge-"))
        folder.chmod(0o711)  # the servers' account passes through to its own folders
        self._warden = warden.start(folder)
        return Place(folder, self._warden.pid)
