"""One server process: started, ready-checked by a real round trip, stopped, killed, started again.

A server belongs to its warden's process group from before its `exec` on, so that nothing that happens to the
launcher leaves it behind. When the launcher is root the server runs under an unprivileged account that owns
its folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import random
import select
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from runtime.errors import Stop

if TYPE_CHECKING:
    from collections.abc import Sequence

READY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0
PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


class ServiceError(Stop):
    """A local server cannot be started; the message ends with the last lines of its log."""


class Place:
    """Where servers run: their folder, their process group and, under root, their account.

    Attributes:
        folder: the launcher's temporary folder; each server has a folder of its own in it.
        group: the process group that the warden leads.
    """

    def __init__(self, folder: Path, group: int) -> None:
        self.folder = folder
        self.group = group
        self._account = _unprivileged_account() if os.geteuid() == 0 else None

    def make_folder(self, name: str) -> Path:
        """Create a folder that the servers' account owns."""
        folder = self.folder / name
        folder.mkdir(mode=0o700)
        if self._account:
            os.chown(folder, self._account.pw_uid, self._account.pw_gid)
        return folder

    def spawn_options(self) -> dict[str, Any]:
        """Keyword arguments for `subprocess` that put a process into the group and under the account."""
        options: dict[str, Any] = {"process_group": self.group, "stdin": subprocess.DEVNULL}
        if self._account:
            options |= {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}
        return options


class Server:
    """A server on 127.0.0.1. Subclasses say how it is prepared, commanded and asked whether it is ready.

    Attributes:
        port: the same for all the server's life, and nobody else's even while it is stopped.
        log: what the process wrote.
    """

    name: str
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, binary: Path, place: Place) -> None:
        self.binary = binary
        self.place = place
        self._reservation = reserve_port()
        self.port: int = self._reservation.getsockname()[1]
        self.folder = place.make_folder(self.name)
        self.log = place.folder / f"{self.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Make what the first start needs; blocking, called before every start."""

    def command(self) -> list[str]:
        """The command line, in the foreground."""
        raise NotImplementedError

    async def round_trip(self) -> None:
        """Ask the server something and get the answer; raise anything when there is none."""
        raise NotImplementedError

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def pids(self) -> list[int]:
        """The server's processes, its main process first; empty while it is stopped."""
        return _family(self._process.pid) if self._process and self.running else []

    async def start(self) -> None:
        """Start on the server's port and return when it has answered. Does nothing when it runs.

        Raises:
            ServiceError: it ended, or gave no answer in time.
        """
        if self.running:
            return
        await asyncio.to_thread(self.prepare)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220  # a fork, milliseconds; bound to no loop
                self.command(), cwd=self.folder, stdout=log, stderr=log, **self.place.spawn_options()
            )
        await self._wait_ready()

    async def stop(self) -> None:
        """Ask it to save and leave, and wait until it has. Killed when it takes too long."""
        await self._end(self.stop_signal)

    async def kill(self) -> None:
        """End all its processes at once, as a power cut would, and wait until they are gone."""
        await self._end(signal.SIGKILL)

    async def _end(self, number: signal.Signals) -> None:
        processes = _handles(self.pids())
        try:
            for handle in processes if number == signal.SIGKILL else processes[:1]:
                _signal(handle, number)
            if not await asyncio.to_thread(_wait_gone, processes, STOP_TIMEOUT_S):
                for handle in processes:
                    _signal(handle, signal.SIGKILL)
                await asyncio.to_thread(_wait_gone, processes, STOP_TIMEOUT_S)
        finally:
            for handle in processes:
                os.close(handle)
        if self._process is not None:
            self._process.wait(STOP_TIMEOUT_S)

    async def release(self) -> None:
        """End it if it runs, and give its port up: nothing more can be done with it."""
        await self.kill()
        self._reservation.close()

    async def _wait_ready(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while True:
            try:
                async with asyncio.timeout(1):
                    return await self.round_trip()
            except Exception as error:  # whatever a driver says, the server is not ready yet
                if not self.running or time.monotonic() > deadline:
                    raise ServiceError(
                        f"{self.name} does not answer on port {self.port}: {error}\n{self.tail()}"
                    ) from error
            await asyncio.sleep(0.02)

    def tail(self) -> str:
        """The last lines of its log."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])


def reserve_port() -> socket.socket:
    """Bind a TCP port of 127.0.0.1 that nothing uses, below the range from which clients' own ports come.

    A port of that range could be taken by any client while its server is down, and a client that reconnects
    to it can end up connected to itself. While the socket is held, a server that sets SO_REUSEADDR (all do)
    can listen on the port, and another `reserve_port` cannot have it: the option is set after binding.
    """
    first_ephemeral = int(PORT_RANGE.read_text(encoding="ascii").split()[0])
    while True:
        port = random.randrange(10_000, max(16_000, first_ephemeral))  # noqa: S311  # spreads, hides nothing
        held = socket.socket()
        try:
            held.bind(("127.0.0.1", port))
        except OSError:
            held.close()
            continue
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return held


def free_port() -> int:
    """A port as `reserve_port` finds it, for a server that will take it at once."""
    with reserve_port() as held:
        return int(held.getsockname()[1])


def _unprivileged_account() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise ServiceError(
        "PostgreSQL does not run as root, and there is no account `postgres` or `nobody` to run it as"
    )


def _family(pid: int) -> list[int]:
    pids = [pid]
    with contextlib.suppress(OSError):  # it may end at any moment, and so may each of its threads
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208  # names are all that is asked for
            with contextlib.suppress(OSError):
                children = Path(f"/proc/{pid}/task/{thread}/children").read_text(encoding="ascii")
                for child in children.split():
                    pids += _family(int(child))
    return pids


def _handles(pids: list[int]) -> list[int]:
    """Descriptors that go on meaning these processes when their numbers are used again."""
    handles = []
    for pid in pids:
        try:
            handles.append(os.pidfd_open(pid))
        except ProcessLookupError:
            continue
    return handles


def _signal(handle: int, number: signal.Signals) -> None:
    try:
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return


def _wait_gone(handles: Sequence[int], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    for handle in handles:
        ended = select.poll()
        ended.register(handle, select.POLLIN)
        if not ended.poll(max(0.0, deadline - time.monotonic()) * 1000):
            return False
    return True
