"""`python -m deploy.local.demo` as a real process: what it promises, and that nothing of it is left."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
ACCOUNTING = re.compile(
    r"received=(\d+) committed=(\d+) duplicate=(\d+) dead_lettered=(\d+) in_flight=(\d+) "
    r"spooled=0 projected=(\d+)"
)
PICTURE = re.compile(rf"^ *[\d.]+ s  {ACCOUNTING.pattern} .*projected_lag_ms=(\d+) (.*)$")
PROGRESS = (
    *("starting mosquitto", "gateway init", "look ", "ask ", "logs ", "starting the gateway"),
    *("starting the projector", "200 devices connect"),
)
RATE = 1000  # messages a second, unless told otherwise

pytestmark = pytest.mark.timeout(120)


class RunningDemo:
    """A demo that runs, off a terminal.

    Attributes:
        logs: the folder that it names, None before.
        page: the address of the live page that it names, empty before.
        said: what it has printed up to the first messages.
    """

    inherited: ClassVar[dict[str, str]] = {}

    def __init__(self, *arguments: str) -> None:
        self.logs: Path | None = None
        self.page = ""
        self.said: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "deploy.local.demo", *arguments],
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if not name.startswith("EDGE_")}
            | self.inherited,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def family(self) -> list[psutil.Process]:
        """Wait until devices' messages have been committed; then all its processes."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line.rstrip("\n"))
            if line.startswith("look "):
                self.page = line.split()[1]
            if line.startswith("logs "):
                self.logs = Path(line.split()[1])
            found = ACCOUNTING.search(line)
            if found and int(found[2]):
                return psutil.Process(self.process.pid).children(recursive=True)
        _, stderr = self.process.communicate()
        raise AssertionError(f"the demo ended with {self.process.returncode}: {stderr}")

    def end(self) -> tuple[str, str]:
        """Wait for its end; the rest of its stdout, and its stderr."""
        return self.process.communicate(timeout=90)


@pytest.fixture
def demo() -> Iterator[Callable[..., RunningDemo]]:
    """Starts a demo; what still runs when the test ends is killed."""
    started: list[RunningDemo] = []

    def start(*arguments: str) -> RunningDemo:
        started.append(RunningDemo(*arguments))
        return started[-1]

    yield start
    for each in started:
        with each.process:
            each.process.kill()
        if each.logs is not None:
            shutil.rmtree(each.logs)


def check_accounting(stdout: str) -> None:
    """The last line is the accounting line, and it adds up."""
    found = ACCOUNTING.fullmatch(stdout.splitlines()[-1])
    assert found, stdout
    received, committed, duplicate, dead_lettered, in_flight, projected = map(int, found.groups())
    assert committed > 0
    assert duplicate > 0
    assert dead_lettered > 0
    assert received == committed + duplicate + dead_lettered
    assert in_flight == 0
    assert projected == committed


def check_pictures(said: list[str]) -> None:
    """It says what it does before there is something to see, and the figures of each picture agree."""
    begin = next(n for n, line in enumerate(said) if PICTURE.match(line))
    assert len(said[:begin]) == len(PROGRESS), said
    for line, word in zip(said[:begin], PROGRESS, strict=True):
        assert line.startswith(word)
    pictures = [found for line in said if (found := PICTURE.match(line))]
    assert len(pictures) > 1
    for each in pictures:
        received, committed, duplicate, dead_lettered, in_flight, projected, lag_ms = map(
            int, each.groups()[:7]
        )
        assert received == committed + duplicate + dead_lettered + in_flight, each[0]
        assert 0 <= committed - projected <= RATE * (lag_ms / 1000 + 0.5), each[0]
        of_regions = sum(int(region.partition("=")[2]) for region in each[8].split())
        assert of_regions >= projected, "regions are read after the rest"


def check_nothing_left(family: list[psutil.Process]) -> None:
    """All of these processes are gone, or go now."""
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []


def test_ends_by_itself_and_adds_up(
    demo: Callable[..., RunningDemo], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its seconds it exits 0, accounts for every message on the last line, and leaves no process.

    It says what it does, and its figures agree. A database that the environment names is left alone, and it
    says so and how to have it used.
    """
    named = {"EDGE_POSTGRES_DSN": "postgresql://nobody@127.0.0.1:1/none"}
    monkeypatch.setattr(RunningDemo, "inherited", named)
    running = demo("--seconds", "5")
    family = running.family()
    with urllib.request.urlopen(running.page, timeout=10) as answer:  # noqa: S310  # our own http URL
        assert b"<title>MQTT edge gateway</title>" in answer.read()
    assert {process.name() for process in family} >= {"mosquitto", "postgres", "redis-server"}
    assert {process.cmdline()[2] for process in family if "run" in process.cmdline()} == {
        "gateway",
        "projector",
    }
    stdout, stderr = running.end()
    assert running.process.returncode == 0
    assert stderr == (
        "EDGE_POSTGRES_DSN: not used by the demo unless DEMO_WRITES_TO_MY_SERVERS=yes is set too\n"
    )
    check_accounting(stdout)
    check_pictures(running.said + stdout.splitlines())
    assert "CPU per message" in stdout
    check_nothing_left(family)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.full
def test_a_signal_ends_it_as_its_seconds_do(demo: Callable[..., RunningDemo], number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end it early, with exit code 0 and the same accounting."""
    running = demo()
    family = running.family()
    running.process.send_signal(number)
    stdout, stderr = running.end()
    assert (running.process.returncode, stderr) == (0, "")
    check_accounting(stdout)
    check_nothing_left(family)


@pytest.mark.full
def test_nothing_is_left_when_it_is_killed(demo: Callable[..., RunningDemo]) -> None:
    """SIGKILL leaves no server, no gateway, no projector and no device behind."""
    running = demo()
    family = running.family()
    running.process.kill()
    check_nothing_left(family)


@pytest.mark.full
def test_a_process_that_dies_is_reported(demo: Callable[..., RunningDemo]) -> None:
    """When the gateway dies the demo says so, names its log, exits 1 and leaves no process."""
    running = demo()
    family = running.family()
    next(process for process in family if "gateway run" in " ".join(process.cmdline())).kill()
    _, stderr = running.end()
    assert running.process.returncode == 1
    assert "gateway ended by itself with -9" in stderr
    assert f"{running.logs}/gateway.log" in stderr
    check_nothing_left(family)


@pytest.mark.parametrize(
    "when",
    [
        "gateway init",
        pytest.param("starting the gateway", marks=pytest.mark.full),
        pytest.param("starting the projector", marks=pytest.mark.full),
        "look ",
    ],
)
def test_a_signal_while_it_starts_ends_it_cleanly(demo: Callable[..., RunningDemo], when: str) -> None:
    """Ctrl-C before the devices send is no fault, and leaves no process."""
    running = demo()
    assert running.process.stdout is not None
    for line in running.process.stdout:
        if line.startswith("logs "):
            running.logs = Path(line.split()[1])
        if line.startswith(when):
            break
    family = psutil.Process(running.process.pid).children(recursive=True)
    running.process.send_signal(signal.SIGINT)
    _, stderr = running.end()
    assert (running.process.returncode, stderr) == (0, "")
    check_nothing_left(family)
