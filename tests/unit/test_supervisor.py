"""What systemd is told, as it reads it from its socket."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING

import pytest

from runtime.http import Health
from runtime.supervisor import interval_s, keep_told, notify, status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket at which systemd listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(0)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listener


async def told(systemd: socket.socket) -> list[str]:
    """The lines of the next message."""
    async with asyncio.timeout(5):
        return (await asyncio.get_running_loop().sock_recv(systemd, 4096)).decode().splitlines()


async def test_started_then_alive_with_what_is_waited_for(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """READY is said once it listens, though a server is away; each later word keeps the watchdog quiet."""
    monkeypatch.setenv("WATCHDOG_USEC", "30000")
    health, listening, stop = Health(), asyncio.Event(), asyncio.Event()
    health.set("postgres", "connection refused")
    task = asyncio.create_task(keep_told(health, listening, stop))
    await asyncio.sleep(0)
    with pytest.raises(BlockingIOError):
        systemd.recv(1)
    listening.set()
    assert await told(systemd) == ["READY=1", "STATUS=Waiting for postgres: connection refused"]
    assert await told(systemd) == ["WATCHDOG=1", "STATUS=Waiting for postgres: connection refused"]
    health.set("postgres", None)
    while (lines := await told(systemd))[1] != "STATUS=Ready":
        assert lines[0] == "WATCHDOG=1"
    stop.set()
    await task


async def test_nothing_is_said_of_what_never_listened(systemd: socket.socket) -> None:
    """A process that stops before it listens has not started."""
    stop = asyncio.Event()
    stop.set()
    await keep_told(Health(), asyncio.Event(), stop)
    with pytest.raises(BlockingIOError):
        systemd.recv(1)


async def test_without_systemd_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody asked, the task ends at once."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    await keep_told(Health(), asyncio.Event(), asyncio.Event())
    assert not notify("READY=1")


def test_an_abstract_socket_is_reached() -> None:
    """`@name` is a name in the abstract namespace, as containers get it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0edge-{os.getpid()}")
        assert notify("STOPPING=1", environ={"NOTIFY_SOCKET": f"@edge-{os.getpid()}"})
        assert listener.recv(100) == b"STOPPING=1"


def test_a_socket_that_is_gone_ends_nothing(tmp_path: Path) -> None:
    """A systemd that went away is no error."""
    assert not notify("READY=1", environ={"NOTIFY_SOCKET": str(tmp_path / "gone")})


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, 5.0),
        ({"WATCHDOG_USEC": "60000000"}, 5.0),
        ({"WATCHDOG_USEC": "3000000"}, 1.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 1.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, 5.0),
        ({"WATCHDOG_USEC": "soon"}, 5.0),
    ],
)
def test_words_come_three_times_as_often_as_the_watchdog_asks(
    environ: dict[str, str], seconds: float
) -> None:
    """Two may be late before systemd ends the process; another process's watchdog is not ours."""
    assert interval_s(environ) == seconds


def test_a_status_is_one_short_line() -> None:
    """Whatever a reason holds, the status is a line that systemd takes."""
    assert status({}) == "Ready"
    assert status({"a": "x\ny", "b": "z"}) == "Waiting for a: x y; b: z"
    assert len(status({"a": "x" * 9000})) == 500
