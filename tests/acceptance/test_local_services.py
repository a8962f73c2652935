"""`python -m deploy.local` as a real process: whatever happens to it, nothing of it is left."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]


@pytest.fixture
def launcher() -> Iterator[subprocess.Popen[str]]:
    """The launcher, just started."""
    process = subprocess.Popen(
        [sys.executable, "-m", "deploy.local"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("EDGE_")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        yield process
        process.kill()


def exports(launcher: subprocess.Popen[str]) -> dict[str, str]:
    """Wait until the launcher is ready, and read the environment that it prints."""
    assert launcher.stdout is not None
    lines = "".join(launcher.stdout.readline() for _ in range(4))
    return dict(re.findall(r"^export (\w+)=(\S+)$", lines, flags=re.MULTILINE))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
def test_nothing_is_left_whatever_ends_the_launcher(
    launcher: subprocess.Popen[str], number: signal.Signals
) -> None:
    """Ctrl-C, SIGTERM, a closed terminal, even SIGKILL: every server ends and the folder goes."""
    environment = exports(launcher)
    assert set(environment) == {"EDGE_BROKER_HOST", "EDGE_BROKER_PORT", "EDGE_POSTGRES_DSN", "EDGE_REDIS_URL"}
    family = psutil.Process(launcher.pid).children(recursive=True)
    assert {process.name() for process in family} >= {"mosquitto", "postgres", "redis-server"}
    folder = Path(next(process for process in family if process.name() == "redis-server").cwd()).parent

    launcher.send_signal(number)
    _, alive = psutil.wait_procs(family, timeout=60)

    assert alive == []
    assert not folder.exists()
    code = launcher.wait(60)
    assert code == 0 if number in {signal.SIGINT, signal.SIGTERM} else code == -number
