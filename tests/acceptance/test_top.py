"""`projector top` on real terminals, over views that a real pipeline made."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from redis.asyncio import Redis

from deploy.local.services import LocalServices
from runtime import tokens
from tests.support.devices import publish
from tests.support.silent import leave_silent
from tests.support.terminals import HOME, Terminal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from runtime.settings import Settings
    from tests.support.commands import RunningCommand

    Run = Callable[..., Awaitable[RunningCommand]]


@pytest.fixture
async def terminal(config_file: Path) -> AsyncIterator[Terminal]:
    """`projector top` on a terminal of 40 lines."""
    made = await Terminal.start("projector", "top", env={"EDGE_CONFIG": str(config_file)})
    yield made
    await made.close()


async def see(redis: Redis, device_id: str, minutes_ago: float, region: str = "north") -> None:
    """Put a device into the views, as far as a list reads them."""
    at = datetime.now(UTC) - timedelta(minutes=minutes_ago)
    await redis.zadd("devices:last_seen", {device_id: int(at.timestamp() * 1000)})
    await redis.hset(f"device:stats:{device_id}", mapping={"region": region, "sample_count": "7"})


async def say(run_command: Run, projector: RunningCommand, redis_url: str) -> None:
    """One device is retired, one muted, and one told of as ahead; a projector knows the former."""
    for words in (("retire", "gone"), ("mute", "quiet", "--for", "3h")):
        command = await run_command("projector", "devices", *words)
        assert await command.exit_code() == 0, command.output
    await projector.event("device_retired", device="gone")
    await projector.event("device_muted", device="quiet")
    async with Redis.from_url(redis_url) as redis:
        await redis.hset("projector:clocks", "busy", "2 1795945200000000")


async def test_once_over_a_pipeline(
    run_command: Run, settings: Settings, broker_port: int, topic_prefix: str, tmp_path: Path
) -> None:
    """Devices, those that the watch calls silent first, regions, streams and lag, also without a projector.

    A device that sends with a clock hours behind is not silent.
    """
    gateway = await run_command("gateway", "run")
    await gateway.event("connected", client_id=settings.broker.client_id)
    await publish(broker_port, [(f"{topic_prefix}/lost/telemetry", b'{"id": 1, "region": "south", "x": 1}')])
    where = {"postgres_dsn": settings.postgres.dsn, "redis_url": settings.redis.url}
    await leave_silent({"lost": 20}, **where)
    projector = await run_command("projector", "run", "--log-level", "debug")
    await projector.event("watch_begins", silent=1)
    await projector.event("connected")
    old = {"id": 1, "region": "south", "ts": (datetime.now(UTC) - timedelta(hours=2)).isoformat(), "x": 1}
    fast = (datetime.now(UTC) + timedelta(hours=3)).isoformat()
    for device, message in (("quiet", old), ("busy", {"id": 1, "region": "north", "ts": fast, "x": 1})):
        await publish(broker_port, [(f"{topic_prefix}/{device}/telemetry", json.dumps(message).encode())])
        await projector.event(
            "run_applied", skip=int(device == "busy")
        )  # the views were made of what was there
    await publish(broker_port, [(f"{topic_prefix}/gone/telemetry", b'{"id": 1, "ts": 1795424700}')])
    await projector.event("run_applied", skip=2)
    await say(run_command, projector, settings.redis.url)
    top = await run_command("projector", "top", "--once", "--json")
    assert await top.exit_code() == 0, top.output
    told: dict[str, Any] = json.loads(top.stdout[0])
    assert (told["devices"], told["silent"], told["redis"], told["projector"]) == (3, 1, None, None)
    assert told["unknown"] == 0
    assert [(each["device_id"], each["silent"]) for each in told["listed"]] == [
        ("lost", True),
        ("quiet", False),
        ("busy", False),
    ]
    assert 1200 <= told["listed"][0]["heard_s"] < 1300
    assert told["listed"][0]["silent_s"] < 100, "its newest reading is newer than what we told the watch"
    assert (told["listed"][1]["silent_s"] > 7000, told["listed"][1]["heard_s"]) == (True, None)
    assert told["listed"][1]["messages_per_s"] == 0
    assert (told["clocks_wrong"], told["retired"]) == (0, 1)
    assert [device["clock"] for device in told["listed"]] == [None, None, "ahead"]
    assert {region["region"]: region["messages"] for region in told["regions"]} == {"north": 1, "south": 2}
    (stream,) = told["streams"]
    assert (stream["cursor"], stream["head"], stream["behind_rows"]) == (4, 4, 0)
    assert set(stream["lag_seconds"]) == {"received", "committed", "published", "projected"}
    assert told["events_per_s"] == 0

    assert await projector.terminate() == 0
    piped = await run_command("projector", "top")
    assert await piped.exit_code() == 0
    text = "\n".join(piped.stdout)
    assert "4 devices   1 silent   " in text
    assert re.search(r"quiet +2\.0h muted", text)
    assert re.search(r"lost +2\d\.\dmin silent", text)
    assert ("clock ahead" in text, "gone" in text) == (True, False)
    assert (
        f"no projector answers: lag is unknown, and silence is as it was told: {settings.projector.http}"
        in text
    )
    assert text.index("lost") < text.index("quiet") < text.index("busy")
    assert "\x1b" not in text
    assert await gateway.terminate() == 0

    await _seen_with_a_token_alone(run_command, tmp_path)


async def _seen_with_a_token_alone(run_command: Run, folder: Path) -> None:
    """Where tokens are needed, and TLS is spoken, it is shown one."""
    keys = _secured(folder)
    again = await run_command("projector", "run", **keys)
    await again.event("watch_begins", silent=1)
    for more, said in (
        ((), "a token is needed"),
        (("--token-file", str(folder / "token")), "3 devices   1 silent, 1 not known yet"),
    ):
        piped = await run_command("projector", "top", *more, **keys)
        assert await piped.exit_code() == 0
        assert said in "\n".join(piped.stdout)


def _secured(folder: Path) -> dict[str, str]:
    """What has a projector ask for a token, which is in the file `token`, and speak TLS."""
    (folder / "token").write_text(tokens.add(folder / "tokens", "top", ("read",)), encoding="utf-8")
    issued = trustme.CA().issue_cert("edge.example")
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    files = {"TOKENS_FILE": "tokens", "TLS_CERT": "cert.pem", "TLS_KEY": "key.pem"}
    return {f"EDGE_PROJECTOR_{key}": str(folder / name) for key, name in files.items()}


async def test_keys(terminal: Terminal, redis_url: str) -> None:
    """`s` turns the order, `/` filters by a part of the id, Esc ends that, `q` leaves with exit code 0."""
    async with Redis.from_url(redis_url) as redis:
        for minutes in range(100):
            await see(redis, f"pump-{minutes:02}", minutes)
        await see(redis, "fan", 9999)
        await terminal.until("101 devices", "silence is not known yet")
        heard = {"": 1, "pump-03": 7, "pump-02": 5, "gone": 3}
        for device, at in heard.items():
            await redis.hset("projector:silent", device, str(at))
    shown = await terminal.until("101 devices", "3 silent", "silent first")
    assert shown.index("pump-02") < shown.index("pump-03") < shown.index("fan") < shown.index("pump-99")
    assert "pump-01" not in shown
    assert "gone" not in shown
    terminal.type("s")
    await terminal.until("101 devices", "fresh first", "pump-01", without="fan")
    terminal.type("/")
    terminal.type("MP-5")
    await terminal.until("MP-5▏")
    terminal.type("0\x7f1\n")
    await terminal.until("101 devices", "MP-51  (Esc: none)", "pump-51", without="pump-50")
    terminal.type("\x1b")
    await terminal.until("101 devices", "fresh first   / filter\x1b", "pump-02")
    terminal.type("q")
    assert await terminal.exit_code() == 0
    assert terminal.text.rindex("\x1b[?1049l") > terminal.text.rindex(HOME), "the screen is given back"


async def test_a_filter_that_nothing_matches(terminal: Terminal, redis_url: str) -> None:
    """Of very many devices it looks at a bounded number, and says so."""
    async with Redis.from_url(redis_url) as redis:
        await redis.zadd("devices:last_seen", {f"d{i}": i for i in range(30_000)})
    await terminal.until("30,000 devices", "q quit")
    terminal.type("/nothing\n")
    await terminal.until("among the first 20,000 of 30,000")
    terminal.signal(signal.SIGINT)
    assert await terminal.exit_code() == 0


async def test_very_many_silent_ones(terminal: Terminal, redis_url: str) -> None:
    """It looks at a bounded number and says so; those that have left the views take no line from others."""
    async with Redis.from_url(redis_url) as redis:
        await see(redis, "pump-1", 60)
        gone = {"": 1, **{f"gone-{i:05}": 1 + i for i in range(2000)}, "pump-1": 5000}
        await redis.hset("projector:silent", items=[each for pair in gone.items() for each in pair])
        shown = await terminal.until("2,001 silent", "pump-1", "q quit", without="gone")
        assert "of the silent ones" not in shown
        more = [each for i in range(20_000) for each in (f"more-{i:05}", 9000 + i)]
        await redis.hset("projector:silent", items=more)
        await terminal.until("22,001 silent", "among ", "of the silent ones")


async def test_redis_away_and_back(run_command: Run, config_file: Path) -> None:
    """The screen says so, keeps what it showed and goes on; a single look ends with exit code 1 and why."""
    async with LocalServices(["redis"], environ={}) as own:
        where = {"EDGE_REDIS_URL": own.redis_url}
        async with Redis.from_url(own.redis_url) as redis:
            await see(redis, "pump-1", 3)
        terminal = await Terminal.start("projector", "top", env={"EDGE_CONFIG": str(config_file), **where})
        await terminal.until("pump-1")
        await own.redis.stop()
        await terminal.until("redis is away, trying again:", "pump-1", "q quit")
        once = await run_command("projector", "top", "--once", **where)
        assert await once.exit_code() == 1
        assert once.output[-1].startswith("error: redis: ")
        assert once.output[-1].endswith("is redis.url right, and does the server run?")
        lines = await run_command("projector", "top", "--json", **where)
        await lines.said('"redis":"')
        await own.redis.start()
        await lines.said('"redis":null')
        await terminal.until("1 devices")
        for ended in (terminal, lines):
            ended.signal(signal.SIGTERM)
            assert await ended.exit_code() == 0
        await terminal.close()


async def test_a_head_that_has_enough(config_file: Path, redis_url: str) -> None:
    """When whoever reads the lines goes, it ends with exit code 0 and not a word."""
    assert redis_url
    top = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "projector", "top", "--json", "--config", config_file),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert top.stdout is not None
    assert top.stderr is not None
    assert json.loads(await top.stdout.readline())["devices"] == 0
    top._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]  # as a reader that ends does
    assert await asyncio.wait_for(top.wait(), 20) == 0
    assert await top.stderr.read() == b""
