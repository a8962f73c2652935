"""The units: what systemd starts, is told by it, and keeps in."""

from __future__ import annotations

import asyncio
import configparser
import ctypes
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runtime.settings import Settings, Spool, duration_s

if TYPE_CHECKING:
    from collections.abc import Iterator

UNITS = Path(__file__).parents[2] / "deploy/systemd"
PROGRAMS = ("gateway", "projector")
_PR_SET_MDWE = 65  # Linux 6.3, what MemoryDenyWriteExecute asks for where there is no seccomp
_WORST = 2.5


def unit(program: str) -> configparser.SectionProxy:
    """The section [Service]; of keys that are given several times the last value."""
    parsed = configparser.ConfigParser(strict=False, interpolation=None, delimiters="=")
    parsed.optionxform = str  # type: ignore[assignment,method-assign]  # the way to keep upper case
    parsed.read(UNITS / f"mqtt-edge-{program}.service", encoding="utf-8")
    return parsed["Service"]


@pytest.mark.parametrize("program", PROGRAMS)
def test_units_keep_programs_in(program: str) -> None:
    """By systemd's own measure of what a service could do, each is below 2.5 of 10."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed here")
    done = subprocess.run(
        [analyze, "security", "--offline=true", "--no-pager", UNITS / f"mqtt-edge-{program}.service"],
        capture_output=True,
        text=True,
        check=True,
    )
    score = re.search(r"exposure level for \S+: ([0-9.]+) ", done.stdout)
    assert score is not None
    assert float(score[1]) < _WORST


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_soft_stop_has_the_time_it_needs(program: str) -> None:
    """Systemd kills only what our own deadline, and the last resort after it, did not end."""
    timeout = duration_s(getattr(Settings(), program).shutdown_timeout)
    assert int(unit(program)["TimeoutStopSec"]) > timeout + 3


def test_the_spool_is_in_the_state_directory() -> None:
    """The folder of the default configuration is the one that systemd makes for the gateway."""
    assert Path(Spool().path).parent == Path("/var/lib", unit("gateway")["StateDirectory"])


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_user_of_a_unit_is_made(program: str) -> None:
    """Each program has a user of its own, which sysusers makes and to which its folder of secrets belongs."""
    user = unit(program)["User"]
    made = (UNITS / "mqtt-edge-gateway.sysusers").read_text(encoding="utf-8")
    assert f"u {user} " in made
    secrets = (UNITS / "mqtt-edge-gateway.tmpfiles").read_text(encoding="utf-8")
    assert f"d /etc/mqtt-edge-gateway/{program} 0750 root {user} -" in secrets


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket at which systemd listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)  # noqa: FBT003  # the standard library's signature
        yield listener


@pytest.mark.parametrize("program", PROGRAMS)
async def test_programs_run_as_the_units_have_them(
    program: str, systemd: socket.socket, config_file: Path, tmp_path: Path
) -> None:
    """With no memory that can be both written and run, each starts, gets ready, says so, and stops softly."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *[program, "run", "--log-format", "json"],
        env={
            "PATH": os.environ["PATH"],
            "EDGE_CONFIG": str(config_file),
            "EDGE_SPOOL_PATH": str(tmp_path / "spool"),
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
            "WATCHDOG_USEC": "300000",
        },
        stderr=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        preexec_fn=lambda: ctypes.CDLL(None).prctl(_PR_SET_MDWE, 1, 0, 0, 0),
    )
    said: list[str] = []

    async def until(line: str) -> None:
        async with asyncio.timeout(20):
            while line not in said:
                said.extend((await asyncio.get_running_loop().sock_recv(systemd, 4096)).decode().split("\n"))

    try:
        await until("STATUS=Ready")
        assert said[0] == "READY=1"
        await until("WATCHDOG=1")
        process.terminate()
        await until("STOPPING=1")
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
