"""`gateway discover` on a real broker: it writes what then stores everything, and disturbs nobody."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import signal
import stat
import sys
import tomllib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import aiomqtt
import asyncpg
import httpx
import pytest

from deploy.local.services import LocalServices
from gateway.decode import Decoder, Limits
from gateway.decode.dialects import complete_routes, names
from gateway.decode.routes import compile_routes
from gateway.discover.heard import Sample
from gateway.simulate.dialects import Dialects
from runtime.settings import load
from tests.faults.watch import until
from tests.support.devices import publish
from tests.support.layouts import LAST, LAYOUTS, SPACING, become, messages
from tests.support.simulated import Row, unlike

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from runtime.settings import Settings
    from tests.support.commands import RunningCommand

    Run = Callable[..., Awaitable[RunningCommand]]

BORN = {("line-1", ("online", True)), ("line-1/press", ("online", True))}  # which the gateway tells of births
SAME_NAMES = "two sites alike, with the same names"  # whose topics differ from the first level on


@pytest.fixture
async def own_broker() -> AsyncIterator[str]:
    """The port of a broker of this test alone: what else is on one is discovered too."""
    async with LocalServices(["mosquitto"], environ={}) as own:
        yield str(own.mqtt_port)


async def discovered(run_command: Run, port: str, *arguments: str, seconds: str = "6") -> RunningCommand:
    """A command that listens, once it does."""
    command = await run_command(
        "gateway", "discover", *arguments, "--seconds", seconds, EDGE_BROKER_PORT=port
    )
    await command.said("listening")
    return command


async def simulated(run_command: Run, port: str, *arguments: str) -> dict[str, Any]:
    """The summary of examples of all dialects, each sent so often."""
    command = await run_command(
        "gateway",
        "simulate",
        "--dialect",
        "all",
        "--json",
        "--connections",
        "1",
        "--seed",
        "5",
        *arguments,
        EDGE_BROKER_PORT=port,
    )
    assert await command.exit_code() == 0, command.output
    summary: dict[str, Any] = json.loads(command.stdout[-1])
    return summary


@pytest.mark.parametrize("prefix", ["", pytest.param("site/north/", marks=pytest.mark.full)])
async def test_all_dialects_at_once(
    run_command: Run,
    own_broker: str,
    settings: Settings,
    unique: str,
    tmp_path: Path,
    prefix: str,
) -> None:
    """All dialects publish; what is written makes the right readings of every message, and no dead letter."""
    fleet = Dialects(["all"], prefix=prefix, seed=1)
    count = str(3 * len(fleet.speakers))
    path = tmp_path / "found.toml"
    discover = await discovered(run_command, own_broker, "--write", str(path), seconds="60")
    where = ["--prefix", prefix] if prefix else []
    await simulated(run_command, own_broker, "--messages", count, "--rate", "400", *where)
    await asyncio.sleep(1)  # QoS 0: nothing says when the last has arrived
    discover.signal(signal.SIGINT)
    assert await discover.exit_code(40) == 0, discover.output
    written = tomllib.loads(path.read_text())
    assert {route.get("dialect", "").partition("/")[0] for route in written["route"]} >= set(names())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600

    check = await run_command("gateway", "check", EDGE_CONFIG=str(path), EDGE_BROKER_PORT=own_broker)
    assert await check.exit_code(30) == 0, check.output
    gateway = await run_command("gateway", "run", EDGE_CONFIG=str(path), EDGE_BROKER_PORT=own_broker)
    await gateway.event("connected", client_id=f"{unique}-gateway")
    began = datetime.now(UTC)
    summary = await simulated(run_command, own_broker, "--messages", count, "--rate", "400", *where)
    assert summary["acknowledged"] == int(count)
    readings, deaths = readings_and_deaths(fleet)
    told_once = len(BORN) + deaths  # who is offline already does not die again
    stored = 3 * (readings - deaths) + told_once

    async def all_there() -> str:
        async with httpx.AsyncClient(trust_env=False) as http:
            lines = (await http.get(f"http://{settings.gateway.http}/metrics")).text.splitlines()
        kinds = "gateway_committed_total", "gateway_duplicate_total"
        found = sum(float(line.split()[-1]) for line in lines if line.startswith(kinds))
        return "" if found >= stored else f"{found} of {stored}"

    await until(all_there, within_s=30)
    assert await gateway.terminate() == 0
    connection = await asyncpg.connect(settings.postgres.dsn)
    try:
        letters = await connection.fetch("SELECT topic, reason, error FROM dead_letters")
        found = await connection.fetch(
            "SELECT device_id, region, tags, metrics, ts, received_at, message_key FROM measurements"
        )
        states = await connection.fetch("SELECT device_id, online FROM devices")
    finally:
        await connection.close()
    assert letters == []
    rows = [
        Row(device, region, json.loads(tags or "{}"), json.loads(metrics), *rest)
        for device, region, tags, metrics, *rest in found
    ]
    missing, others = unlike(fleet.speakers, rows, began)
    assert missing == []
    assert {(row.device_id, *row.metrics.items()) for row in others} == BORN
    books = dict(each.split("=") for each in gateway.stdout[-1].split())
    said = last_words(fleet)
    assert len(said) >= 10
    assert {device: online for device, online in states if device in said} == said
    assert int(books["committed"]) + int(books["duplicate"]) == stored


def last_words(fleet: Dialects) -> dict[str, bool]:
    """Whether devices are online, of those that say so last; a reading after that brings one back."""
    said: dict[str, bool] = {}
    for speaker in fleet.speakers:
        for reading in speaker.expect:
            said.pop(device := str(reading["device_id"]), None)
            if "online" in reading:
                said[device] = bool(reading["online"])
    return said


def readings_and_deaths(fleet: Dialects) -> tuple[int, int]:
    """How many readings all messages of a round have, and how many of them say that an edge node died."""
    every = [(speaker.dialect, reading) for speaker in fleet.speakers for reading in speaker.expect]
    deaths = [each for each in every if each[0] == "ignition" and each[1]["metrics"] == {"online": False}]
    return len(every), len(deaths)


async def test_sites_that_nobody_knows(run_command: Run, own_broker: str, tmp_path: Path) -> None:
    """Sites of no dialect share a broker; what is written is checked, and reads their messages right."""
    port, path = int(own_broker), tmp_path / "found.toml"
    layouts = [each for each in LAYOUTS if each.name not in {"a date in the topic", SAME_NAMES}]
    start = datetime.now(UTC).replace(microsecond=0) - LAST * SPACING
    every = [(at, topic, payload, each) for each in layouts for topic, payload, at in messages(each, start)]
    every.sort(key=lambda each: each[0])
    for _, topic, payload, layout in every:
        if layout.retained:
            await publish(port, [(topic, payload)], retain=True)
    discover = await discovered(run_command, own_broker, "--write", str(path), "--examples", seconds="60")
    await publish(port, [(topic, payload) for _, topic, payload, layout in every if not layout.retained])
    await asyncio.sleep(1)  # QoS 0: nothing says when the last has arrived
    discover.signal(signal.SIGINT)
    assert await discover.exit_code(40) == 0, discover.output

    check = await run_command("gateway", "check", "--offline", EDGE_CONFIG=str(path))
    assert await check.exit_code(30) == 0, check.output
    assert "[[route.example]]" in path.read_text()
    loaded = load(path, environ={}, complete=complete_routes)
    decoder = Decoder(compile_routes(loaded.route), Limits())
    last = {topic: Sample(topic, payload, at, layout.retained) for at, topic, payload, layout in every}
    for layout in layouts:
        for topic, expected in layout.becomes.items():
            assert become(decoder, last[topic]) == expected, topic


@pytest.mark.parametrize("driver", ["mqtt5", "aiomqtt"])
async def test_a_broker_that_refuses_the_filter(run_command: Run, driver: str) -> None:
    """It is not waited for: it says what to name instead."""
    refusing = await asyncio.start_server(_refuse, "127.0.0.1", 0)
    async with refusing:
        port = str(refusing.sockets[0].getsockname()[1])
        discover = await run_command(
            "gateway", "discover", "--seconds", "60", EDGE_BROKER_PORT=port, EDGE_BROKER_DRIVER=driver
        )
        assert await discover.exit_code(20) == 1, discover.output
        assert "name a filter that this user may subscribe" in "\n".join(discover.output)


async def _refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A broker that takes anybody, and refuses every subscription (MQTT5 §3.9.3, 3.1.1 §3.9.3)."""
    try:
        while True:
            kind = (await reader.readexactly(1))[0]
            body = await reader.readexactly((await reader.readexactly(1))[0])
            if kind >> 4 == 1:
                newer = body[6] == 5  # the protocol's level
                writer.write(b"\x20\x03\x00\x00\x00" if newer else b"\x20\x02\x00\x00")
            elif kind >> 4 == 8:  # SUBSCRIBE
                answer = body[:2] + (b"\x00\x87" if newer else b"\x80")
                writer.write(bytes([0x90, len(answer)]) + answer)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_it_changes_nothing(run_command: Run, own_broker: str) -> None:
    """A session of its own at QoS 0: others get every message, and retained ones stay."""
    port = int(own_broker)
    await publish(port, [("a/d1/x", b'{"t": 1}')], retain=True)
    discover = await discovered(run_command, own_broker, "a/#", "--json", seconds="2")
    async with aiomqtt.Client("127.0.0.1", port, identifier="watcher") as watcher:
        await watcher.subscribe("a/#", qos=1)
        await publish(port, [(f"a/d{i}/x", b'{"t": 2}') for i in (2, 3)])
        await publish(port, [("b/elsewhere", b'{"t": 2}')])
        seen = [await asyncio.wait_for(anext(aiter(watcher.messages)), 5) for _ in range(3)]
    assert {str(message.topic) for message in seen} == {"a/d1/x", "a/d2/x", "a/d3/x"}
    assert await discover.exit_code() == 0
    said = json.loads(discover.stdout[-1])
    assert (said["messages"], said["topics"]) == (3, 3)
    assert [route["route"]["topic"] for route in said["routes"]] == ["a/{device_id}/x"]


async def test_a_file_that_exists(run_command: Run, own_broker: str, tmp_path: Path) -> None:
    """It is left as it is, and told at once; --force overwrites it."""
    path = tmp_path / "found.toml"
    path.write_text("mine")
    refused = await run_command("gateway", "discover", "--write", str(path), EDGE_BROKER_PORT=own_broker)
    assert await refused.exit_code() == 2
    assert path.read_text() == "mine"
    forced = await discovered(run_command, own_broker, "--write", str(path), "--force", seconds="2")
    await publish(int(own_broker), [(f"a/d{i}/x", b'{"t": 2}') for i in range(3)])
    assert await forced.exit_code() == 0
    assert tomllib.loads(path.read_text())["route"][0]["topic"] == "a/{device_id}/x"


async def test_a_broker_that_is_away(run_command: Run, tmp_path: Path) -> None:
    """It says so, writes nothing and fails."""
    path = tmp_path / "found.toml"
    discover = await run_command(
        "gateway", "discover", "--seconds", "1", "--write", str(path), EDGE_BROKER_PORT="1"
    )
    assert await discover.exit_code() == 1
    assert "error: broker 127.0.0.1:1: " in "\n".join(discover.output)
    assert not path.exists()


async def test_a_quiet_broker(run_command: Run, own_broker: str) -> None:
    """Where nothing is heard there is nothing to write, which a script can tell."""
    discover = await discovered(run_command, own_broker, seconds="1")
    assert await discover.exit_code() == 1


async def test_stopped_early(run_command: Run, own_broker: str) -> None:
    """Ctrl-C ends the listening, and what was heard by then is shown."""
    discover = await discovered(run_command, own_broker, "--json", seconds="60")
    await publish(int(own_broker), [(f"a/d{i}/x", b'{"t": 2}') for i in range(3)])
    await asyncio.sleep(0.5)  # QoS 0: nothing says when it has arrived
    discover.signal(signal.SIGINT)
    assert await discover.exit_code() == 0
    assert json.loads(discover.stdout[-1])["messages"] == 3


async def test_progress_on_a_terminal(own_broker: str) -> None:
    """On a terminal it draws on stderr how many messages and topics it has heard, and stdout stays clean."""
    terminal, inside = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "discover", "--seconds", "2", "--json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=inside,
        env={"PATH": os.environ["PATH"], "TERM": "xterm-256color", "EDGE_BROKER_PORT": own_broker},
    )
    os.close(inside)
    drawn = b""
    while b"listening" not in drawn:
        drawn += await asyncio.to_thread(os.read, terminal, 4096)
    await publish(int(own_broker), [(f"a/d{i}/x", b'{"t": 2}') for i in range(3)])
    with contextlib.suppress(OSError):  # it is gone
        while piece := await asyncio.to_thread(os.read, terminal, 4096):
            drawn += piece
    os.close(terminal)
    said, _ = await process.communicate()
    assert process.returncode == 0
    assert b"3 messages" in drawn
    assert b"3 topics" in drawn
    assert json.loads(said)["messages"] == 3


PEAK = """
import contextlib, sys
from gateway.cli import main
with contextlib.suppress(SystemExit):
    main(sys.argv[1:])
status = dict(line.split(":") for line in open("/proc/self/status"))
print(status["VmHWM"].split()[0], file=sys.stderr)
"""  # in kB, of this process since it began


@pytest.mark.full
async def test_ten_thousand_topics(own_broker: str) -> None:
    """Of a broker with as many, in four forms and with large messages, it stays below 100 MB of memory."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PEAK, "discover", "--seconds", "25", "--json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "EDGE_BROKER_PORT": own_broker},
    )
    assert process.stderr is not None
    while b"listening" not in await process.stderr.readline():
        pass
    now = datetime.now(UTC).timestamp()
    for device in range(0, 10_000, 500):
        await publish(
            int(own_broker), [message for each in range(device, device + 500) for message in kinds(each, now)]
        )
    said, told = await process.communicate()
    found = json.loads(said)
    assert found["topics"] == 10_000
    assert found["messages"] + found["not_looked_at"] == 20_000
    assert len(found["routes"]) == 3
    assert int(told.split()[-1]) < 100_000


def kinds(device: int, now: float) -> list[tuple[str, bytes]]:
    """Two messages of a device."""
    sites = (
        (f"plant/hall{device % 12}/machine-{device}/temp", b"%d.5" % (device % 90)),
        (f"fab/dev-{device}/up", json.dumps({"ts": now, "pad": "x" * 900, "t": device}).encode()),
        (f"log/logger{device}", b"%d;2%d,5" % (now, device % 9)),
        (f"raw/n{device}/up", bytes([0xF1, 0x80, device % 256, 0xFF, 0x9A])),
    )
    return 2 * [sites[device % 4]]


@pytest.mark.parametrize(
    "wrong", [["a/#/b"], ["x+/a"], ["$share/g/a"], ["--force"], ["--seconds", "0"], ["$SYS/#"]]
)
async def test_wrong_usage(run_command: Run, wrong: list[str]) -> None:
    """What is no filter, or would take messages from others, is refused with exit code 2."""
    discover = await run_command("gateway", "discover", *wrong)
    assert await discover.exit_code() == 2
