"""A broker of some kind in processes of its own, killed without warning and started again on what it kept."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

import click
import psutil

from deploy.local import warden
from deploy.local.server import free_port
from tests.brokers.client import Client, RefusedError
from tests.brokers.kinds import NATS_CLUSTER, Command, Kind

if TYPE_CHECKING:
    from types import TracebackType

_NODES = 3
_READY_S = 90.0
_LOOK_S = 0.2
_INFLIGHT = 1000


class Broker:
    """A running broker; a context.

    Attributes:
        kind: which.
        port: of MQTT on 127.0.0.1.
        speaks_5: whether it takes MQTT 5.
        inflight: messages that a publisher may have under way.
    """

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.speaks_5 = True
        self.inflight = _INFLIGHT
        self._folder = Path(tempfile.mkdtemp(prefix="edge-broker-"))
        self._ports = [free_port() for _ in range(3 * _NODES)]
        self._commands: list[Command] = []
        self._nodes: list[subprocess.Popen[bytes]] = []
        self._warden: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        """Of the first node."""
        return self._ports[0]

    def __enter__(self) -> Self:
        self._commands = self.kind.nodes(self._folder, self._ports)
        self._warden = warden.start(self._folder)
        try:
            self._nodes.extend(self._start(node) for node in range(len(self._commands)))
            self.wait()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for node in range(len(self._nodes)):
            self._end(node)
        if self._warden is not None and self._warden.stdin is not None:
            self._warden.stdin.close()
            self._warden.wait()

    def kill(self) -> None:
        """End it without warning, and start it again; of several processes the last one.

        What the kernel has not written yet survives this, and would not survive a power cut.
        """
        node = len(self._nodes) - 1
        self._end(node)
        self._nodes[node] = self._start(node)
        if self.kind is not NATS_CLUSTER:
            self.wait()

    def wait(self) -> None:
        """Wait until it takes clients.

        Raises:
            RefusedError: it does not; the end of its log is told.
        """
        until = time.monotonic() + _READY_S
        while not self._greets():
            if time.monotonic() > until:
                log = (self._folder / f"node{len(self._nodes) - 1}.log").read_text(
                    encoding="utf-8", errors="replace"
                )
                click.echo(log[-2000:], err=True)
                raise RefusedError(f"takes no client within {_READY_S:g} s")
            time.sleep(_LOOK_S)

    def _greets(self) -> bool:
        """Whether it takes clients, and of which version; one that still starts may refuse for now."""
        return self._takes(speaks_5=True) or (
            self._takes(speaks_5=False) and (self._takes(speaks_5=True) or self._takes(speaks_5=False))
        )

    def _takes(self, *, speaks_5: bool) -> bool:
        client = Client(self.port, "ready", speaks_5=speaks_5, clean=True)
        try:
            client.connect()
        except (RefusedError, OSError):
            return False
        client.disconnect()
        self.speaks_5 = speaks_5
        self.inflight = min(_INFLIGHT, client.granted.get("ReceiveMaximum", _INFLIGHT))
        return True

    def _start(self, node: int) -> subprocess.Popen[bytes]:
        assert self._warden is not None
        arguments, environment = self._commands[node]
        with (self._folder / f"node{node}.log").open("ab") as log:
            return subprocess.Popen(
                arguments, env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, process_group=self._warden.pid,
            )  # fmt: skip

    def _end(self, node: int) -> None:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(self._nodes[node].pid)
            for each in [*process.children(recursive=True), process]:
                with suppress(psutil.NoSuchProcess):
                    each.kill()
        self._nodes[node].wait()
