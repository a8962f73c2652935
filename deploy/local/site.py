"""A site on private ports of this machine, as `gateway init` makes it, with devices that have passwords."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Self

from deploy.local.server import ServiceError, reserve_port

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from pathlib import Path

    from deploy.local.servers import Postgres


class Site:
    """A folder of `gateway init`, and ports that nobody else takes, for as long as the context lasts.

    Args:
        folder: to be made; whoever runs the servers must be able to reach it.
        postgres: a server that runs; a database `edge` is made there.

    Attributes:
        port: of the broker, for devices; `inner_port` for gateway and projector.
    """

    def __init__(self, folder: Path, postgres: Postgres) -> None:
        self.folder = folder
        self._postgres = postgres
        self._held: list[socket.socket] = [reserve_port() for _ in range(3)]
        self.port, self.inner_port, self.redis_port = (held.getsockname()[1] for held in self._held)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for held in self._held:
            held.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def make(self, *options: str) -> list[str]:
        """Run `gateway init`; returns the commands that it says come then.

        Raises:
            ServiceError: it failed.
        """
        psql = f"{self._postgres.tool('psql')} {self._postgres.dsn()}"
        said = _run(
            *("init", str(self.folder), "--yes", "--host", "localhost", "--bind", "127.0.0.1"),
            *("--port", str(self.port), "--inner-port", str(self.inner_port), "--psql", psql),
            *("--postgres", f"postgresql://127.0.0.1:{self._postgres.port}/edge"),
            *("--redis", f"redis://127.0.0.1:{self.redis_port}/0", *options),
        )
        return [line.strip() for line in said.splitlines() if line.startswith("  sh ")]

    def passwords(self, names: Sequence[str]) -> str:
        """Give devices passwords; a line `NAME:PASSWORD` each."""
        return _run("devices", "password", "--site", str(self.folder), *names)

    def gateways(self) -> dict[str, str]:
        """The environment of the gateway."""
        return {"EDGE_CONFIG": str(self.folder / "edge.toml")}

    def projectors(self) -> dict[str, str]:
        """The environment of the projector."""
        lines = (self.folder / "projector.env").read_text(encoding="utf-8").splitlines()
        return dict(line.split("=", 1) for line in lines)

    def devices(self) -> dict[str, str]:
        """The environment of who publishes as devices do."""
        return {
            "EDGE_BROKER_HOST": "localhost",
            "EDGE_BROKER_PORT": str(self.port),
            "EDGE_BROKER_TLS": "true",
            "EDGE_BROKER_TLS_CA_FILE": str(self.folder / "ca.crt"),
        }


def _run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "gateway", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ServiceError(f"gateway {arguments[0]} failed: {done.stderr}")
    return done.stdout
