"""The project's commands as processes that are forked from one that has imported what they need.

Importing is most of what a short run costs, and tests start hundreds. Beside that a forked command is as one
that was started: `python -m` runs in it, with an environment, streams and a process group of its own.

This module is also the process that forks: it takes requests at a socket and ends when that is closed, which
is when the tests do.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import gc
import io
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from runtime.faults import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

_IMPORTED = (
    "asyncio.subprocess",
    "gateway.app",
    "gateway.check",
    "gateway.cli",
    "gateway.dead_letters.letters",
    "gateway.dead_letters.run",
    "gateway.migrate",
    "gateway.tail.run",
    "gateway.trace.search",
    "gateway.trace.story",
    "projector.app",
    "projector.cli",
    "projector.report",
    "projector.top.run",
    "rich.console",
    "uvloop",
)
_LONGEST = 1 << 17
_LINE_LIMIT = 1 << 20


class _Request(NamedTuple):
    """What to run, and where its output and the status of its end go."""

    arguments: list[str]
    env: dict[str, str]
    group: int
    stdout: int
    stderr: int
    status: int


class Process:
    """A command that runs, or has.

    Attributes:
        returncode: as `subprocess` has it; None while it runs.
    """

    def __init__(
        self,
        pid: int,
        stdout: asyncio.StreamReader,
        stderr: asyncio.StreamReader,
        status: asyncio.StreamReader,
    ) -> None:
        self.pid = pid
        self.stdout = stdout
        self.stderr = stderr
        self.returncode: int | None = None
        self._waiting = asyncio.create_task(self._wait(status), name=f"end of {pid}")

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)  # nobody waits for it before the server does, who tells us

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        """Wait for its end.

        Returns:
            Its exit code, or the negated number of the signal that ended it.
        """
        return await asyncio.shield(self._waiting)

    async def _wait(self, status: asyncio.StreamReader) -> int:
        self.returncode = os.waitstatus_to_exitcode(int(await status.read()))
        return self.returncode


async def start(*arguments: str, env: Mapping[str, str], process_group: int) -> Process:
    """Run `python -m <arguments>`.

    Args:
        arguments: a module of the project, and what it is told.
        env: the whole environment.
        process_group: the process belongs to it.
    """
    pipes = [os.pipe() for _ in range(3)]
    request = json.dumps([arguments, dict(env), process_group]).encode()
    channel = _server()
    socket.send_fds(channel, [request], [writing for _, writing in pipes])
    for _, writing in pipes:
        os.close(writing)
    pid = int(channel.recv(_LONGEST))
    return Process(pid, *[await _reader(reading) for reading, _ in pipes])


@functools.cache
def _server() -> socket.socket:
    """Where this process asks its server, which is started for the first who asks."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(theirs.fileno())],
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            process_group=0,  # a terminal's Ctrl-C is for the tests
        )
    atexit.register(process.wait)
    atexit.register(ours.close)  # first
    return ours


async def _reader(fd: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=_LINE_LIMIT)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fd, "rb")
    )
    return reader


def _serve(channel: socket.socket) -> _Request | None:
    """Fork whatever is asked for; returns the request in each that was forked, and None in the end."""
    with selectors.DefaultSelector() as selector:
        selector.register(channel, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.data is None:
                    if (request := _receive(channel)) is None:
                        return None
                    if (pid := os.fork()) == 0:
                        return request
                    channel.send(b"%d" % pid)
                    os.close(request.stdout)
                    os.close(request.stderr)
                    selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, request.status))
                else:
                    pid, status = key.data
                    selector.unregister(key.fd)
                    os.close(key.fd)
                    _, how = os.waitpid(pid, 0)
                    with contextlib.suppress(BrokenPipeError):  # nobody waits for it any more
                        os.write(status, b"%d" % how)
                    os.close(status)


def _receive(channel: socket.socket) -> _Request | None:
    message, fds, _, _ = socket.recv_fds(channel, _LONGEST, 3)
    return _Request(*json.loads(message), *fds) if message else None


def _become(request: _Request) -> None:
    """Run a command as if this process had been started for it."""
    os.setpgid(0, request.group)
    os.dup2(request.stdout, 1)
    os.dup2(request.stderr, 2)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(request.env)
    if VARIABLE in request.env:  # which is read by an import
        os.execve(sys.executable, [sys.executable, "-m", *request.arguments], request.env)  # noqa: S606  # a command of ours
    sys.stdout = _unbuffered(1, "surrogateescape")
    sys.stderr = _unbuffered(2, "backslashreplace")
    sys.argv = request.arguments
    runpy.run_module(request.arguments[0], run_name="__main__", alter_sys=True)


def _unbuffered(fd: int, errors: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.FileIO(fd, "w"), "utf-8", errors, write_through=True)  # as -u does


if __name__ == "__main__":
    for each in _IMPORTED:
        import_module(each)
    gc.freeze()
    asked = _serve(socket.socket(fileno=int(sys.argv[1])))
    if asked is not None:
        _become(asked)
