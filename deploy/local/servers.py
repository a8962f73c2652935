"""The three servers: how each is prepared, commanded and asked whether it is ready."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal
from uuid import uuid4

import asyncpg
import mqtt5
from redis.asyncio import Redis as RedisClient

from deploy.local.server import Server, ServiceError

if TYPE_CHECKING:
    from deploy.local.server import Place

_SITES_ROLES = "".join(
    f"host edge edge_{kind} 127.0.0.1/32 scram-sha-256\n"
    for kind in ("owner", "gateway", "projector", "grafana")
)
MOSQUITTO_CONF = Path(__file__).parents[2] / "mosquitto.conf"


class Mosquitto(Server):
    """mosquitto with the repository's own configuration; only the port and the path are replaced."""

    name = "mosquitto"

    def prepare(self) -> None:
        """Write the configuration."""
        config = MOSQUITTO_CONF.read_text(encoding="utf-8")
        config = _replace_line(config, "listener", f"listener {self.port} 127.0.0.1")
        config = _replace_line(config, "persistence_location", f"persistence_location {self.folder}/")
        self._config.write_text(config, encoding="utf-8")

    def command(self) -> list[str]:
        """Run in the foreground."""
        return [str(self.binary), "-c", str(self._config)]

    async def round_trip(self) -> None:
        """CONNECT, and wait for CONNACK."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(mqtt5.ConnectPacket("ready-check", clean_start=True).write())
            packet, _ = mqtt5.read(memoryview(await reader.read(1024)))
        finally:
            writer.close()
        if (
            not isinstance(packet, mqtt5.ConnAckPacket)
            or packet.reason_code != mqtt5.ConnAckReasonCode.SUCCESS
        ):
            raise ServiceError(f"unexpected answer to CONNECT: {packet}")

    @property
    def _config(self) -> Path:
        return self.place.folder / f"{self.name}.conf"


class Postgres(Server):
    """A fresh PostgreSQL cluster that writes as a real one does: fsync on, commits synchronous.

    Everyone on this machine may connect as `postgres`: the cluster lives for a run and listens on loopback
    only. Roles of a site that `gateway init` made in its database `edge` need their passwords.

    Args:
        primary: makes this server a standby: a copy of the primary that follows it until it is promoted.
    """

    name = "postgres"
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT
    settings: ClassVar[dict[str, str]] = {
        "listen_addresses": "127.0.0.1",
        "fsync": "on",
        "synchronous_commit": "on",
        "max_connections": "200",
        "shared_buffers": "256MB",
        "max_wal_size": "4GB",
        "dynamic_shared_memory_type": "mmap",  # in the cluster's folder, gone with it even after SIGKILL
        "timezone": "UTC",
        "wal_retrieve_retry_interval": "200ms",  # a standby whose primary restarts is back as soon as it is
    }

    def __init__(self, binary: Path, place: Place, *, primary: Postgres | None = None) -> None:
        if primary is not None:
            self.name = f"standby-of-{primary.port}-{uuid4().hex[:6]}"
        super().__init__(binary, place)
        self._primary = primary

    def prepare(self) -> None:
        """Create or copy the cluster, once."""
        if self._data.exists():
            return
        if self._primary is None:
            command = [str(self.tool("initdb")), "--pgdata", str(self._data), "--username", "postgres"]
            command += ["--auth", "trust", "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync"]
        else:
            command = [str(self.tool("pg_basebackup")), "--pgdata", str(self._data), "--write-recovery-conf"]
            command += ["--dbname", self._primary.dsn(), "--checkpoint", "fast", "--no-sync"]
        with self.log.open("ab") as log:
            done = subprocess.run(
                command, cwd=self.folder, stdout=log, stderr=log, check=False, **self.place.spawn_options()
            )
        if done.returncode != 0:
            raise ServiceError(f"{Path(command[0]).name} failed:\n{self.tail()}")
        if self._primary is None:
            hba = self._data / "pg_hba.conf"
            hba.write_text(_SITES_ROLES + hba.read_text(encoding="utf-8"), encoding="utf-8")
            with (self._data / "postgresql.conf").open("a", encoding="utf-8") as config:
                config.writelines(f"{name} = '{value}'\n" for name, value in self.settings.items())

    def command(self) -> list[str]:
        """Run in the foreground, its socket beside its data."""
        settings = {"port": str(self.port), "unix_socket_directories": str(self.folder)}
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [str(self.binary), "-D", str(self._data), *options]

    async def round_trip(self) -> None:
        """`SELECT 1`."""
        await self._ask("SELECT 1")

    async def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop it: `fast` ends sessions and writes a checkpoint, `immediate` leaves it to the next start."""
        await self._end(signal.SIGINT if mode == "fast" else signal.SIGQUIT)

    async def promote(self) -> None:
        """Make a standby a primary of its own, on a new timeline, with what it has."""
        await self._ask("SELECT pg_promote()")

    def dsn(self, database: str = "postgres") -> str:
        """How to reach one of its databases over TCP."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def tool(self, name: str) -> Path:
        """A program of the same version, such as `createdb`."""
        return self.binary.parent / name

    async def _ask(self, query: str) -> None:
        connection = await asyncpg.connect(self.dsn())
        try:
            await connection.fetchval(query)
        finally:
            await connection.close()

    @property
    def _data(self) -> Path:
        return self.folder / "data"


class Redis(Server):
    """Redis with its append-only file on, and databases enough for one a test."""

    name = "redis"
    databases: ClassVar[int] = 256

    def command(self) -> list[str]:
        """Run in the foreground; the append-only file is its only copy on disk."""
        options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self.folder),
            "save": "",
            "appendonly": "yes",
        }
        options |= {"appendfsync": "everysec", "databases": str(self.databases)}
        # With 100,000 views it would be made anew every eight seconds: a quarter of what Redis does.
        options["auto-aof-rewrite-min-size"] = "512mb"
        return [str(self.binary), *(word for name, value in options.items() for word in (f"--{name}", value))]

    async def round_trip(self) -> None:
        """PING, which answers an error while the append-only file is loading."""
        async with RedisClient.from_url(self.url()) as client:
            await client.ping()

    def url(self, database: int = 0) -> str:
        """How to reach one of its numbered databases."""
        return f"redis://127.0.0.1:{self.port}/{database}"


def _replace_line(config: str, option: str, line: str) -> str:
    config, count = re.subn(rf"^{option} .*$", line, config, flags=re.MULTILINE)
    if count != 1:
        raise ServiceError(f"{MOSQUITTO_CONF.name}: expected one line `{option} …`, found {count}")
    return config
