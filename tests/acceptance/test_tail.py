"""`gateway tail` as an engineer on site uses it: real processes, real servers, real terminals and pipes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from deploy.local.services import LocalServices
from gateway.tail.quiet import Heard, why
from tests.support.devices import publish
from tests.support.terminals import Terminal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from runtime.settings import Settings
    from tests.support.commands import RunningCommand

    Run = Callable[..., Awaitable[RunningCommand]]

TS = "2026-01-02T03:04:05.250Z"


def message(key: str, region: str = "north", **metrics: object) -> bytes:
    return json.dumps({"id": key, "ts": TS, "region": region, **metrics}).encode()


async def start_gateway(run_command: Run, settings: Settings, **environment: str) -> RunningCommand:
    gateway = await run_command("gateway", "run", "--log-level", "debug", **environment)
    await gateway.event("connected", client_id=settings.broker.client_id)
    await gateway.event("connected", client_id=f"{settings.broker.client_id}-relay")
    return gateway


async def start_tail(run_command: Run, *options: str, **environment: str) -> RunningCommand:
    """A tail that listens to what its filters ask for."""
    tail = await run_command("gateway", "tail", *options, **environment)
    if "--reason" not in options:
        await tail.said("listening")
    if "--region" not in options and "--metric" not in options:
        await tail.said("watching dead letters")
    return tail


def objects(tail: RunningCommand) -> list[dict[str, Any]]:
    return [json.loads(line) for line in tail.stdout]


@pytest.mark.full
async def test_each_filter(run_command: Run, settings: Settings, broker_port: int, topic_prefix: str) -> None:
    """Globs and exact names pick by device, region, metric and reason; of one kind any will do."""
    gateway = await start_gateway(run_command, settings)
    wanted = {
        (): ["1", "2", "3", "wrong_root", "malformed_json"],
        ("--device", "pump-*"): ["1", "2", "wrong_root"],
        ("--device", "pump-1", "--device", "fan"): ["1", "3", "wrong_root", "malformed_json"],
        ("--device", "pump"): [],
        ("--region", "sou*"): ["2", "3"],
        ("--region", "south", "--device", "pump-[0-9]"): ["2"],
        ("--metric", "temp*"): ["1", "3"],
        ("--metric", "temp*", "--region", "north"): ["1"],
        ("--reason", "malformed_*"): ["malformed_json"],
        ("--reason", "wrong_root", "--device", "pump-1"): ["wrong_root"],
        ("--reason", "wrong_root", "--device", "fan"): [],
    }
    tails = [await start_tail(run_command, *options, "--json") for options in wanted]
    await publish(
        broker_port,
        [
            (f"{topic_prefix}/pump-1/telemetry", message("1", temperature=21.5, temp2=1, load=3)),
            (f"{topic_prefix}/pump-2/telemetry", message("2", "south", load=4)),
            (f"{topic_prefix}/fan/telemetry", message("3", "south", temperature=-1)),
            (f"{topic_prefix}/pump-1/telemetry", b"17"),
            (f"{topic_prefix}/fan/telemetry", b"{"),
        ],
    )
    for tail, expected in zip(tails, wanted.values(), strict=True):
        for name in expected:
            field = '"reason"' if "_" in name else '"key"'
            await tail.said(f'{field}:"{name}"')
    assert await gateway.terminate() == 0
    for tail, (options, expected) in zip(tails, wanted.items(), strict=True):
        tail.signal(signal.SIGINT)
        assert await tail.exit_code() == 0, tail.output
        shown = [item["key"] if item["kind"] == "measurement" else item["reason"] for item in objects(tail)]
        assert sorted(shown) == sorted(expected), options
    narrowed = next(item for item in objects(tails[6]) if item["key"] == "1")
    assert narrowed["metrics"] == {"temp2": 1, "temperature": 21.5}


async def test_rows_that_no_gateway_wrote(
    run_command: Run, settings: Settings, broker_port: int, topic_prefix: str
) -> None:
    """What a stranger publishes on the internal topic is not shown, nor does it hide what is true."""
    gateway = await start_gateway(run_command, settings)
    tail = await start_tail(run_command, "--json")
    telemetry, internal = f"{topic_prefix}/a1/telemetry", f"{settings.events.topic}/0"
    await publish(broker_port, [(telemetry, message("1", x=1))])
    await tail.said('"key":"1"')
    event = {"device_id": "a1", "region": None, "ts": TS, "received_at": TS, "key": "f", "metrics": {"x": 9}}
    row = {"v": 1, "stream": 0, "n": 10**9, "epoch": "e", "created_at": TS, "events": [event]}
    await publish(broker_port, [(internal, each) for each in (json.dumps(row).encode(), b"[" * 100_000)])
    await tail.said("0: what no gateway has signed is left out")
    await publish(broker_port, [(telemetry, message("2", x=2))])
    await tail.said('"key":"2"')
    assert [item["key"] for item in objects(tail)] == ["1", "2"]
    assert await gateway.terminate() == 0


async def test_what_a_line_says(
    run_command: Run, settings: Settings, broker_port: int, topic_prefix: str
) -> None:
    """Piped, a line is plain text with device, region, metrics, lateness and key; JSON has them as fields."""
    gateway = await start_gateway(run_command, settings)
    plain = await start_tail(run_command, "--count", "2")
    as_json = await start_tail(run_command, "--count", "2", "--json")
    topic = f"{topic_prefix}/a1/telemetry"
    await publish(broker_port, [(topic, message("k-1", temperature=21.5, note="on\x1b[31m", ok=True))])
    await plain.said("k-1")
    await as_json.said("k-1")
    await publish(broker_port, [(topic, b"not json")])
    assert await plain.exit_code() == await as_json.exit_code() == 0
    measurement, letter = plain.stdout
    assert "a1  north  " in measurement
    assert "note=on\\x1b[31m ok=true temperature=21.5" in measurement
    assert "d late, here in " in measurement
    assert measurement.endswith("key=k-1")
    assert "a1  REJECTED malformed_json  " in letter
    assert f"{topic}  8B  dead letter 1" in letter
    first, second = objects(as_json)
    assert list(first) == [
        *("kind", "device_id", "region", "ts", "received_at", "late_s", "here_s", "metrics", "key", "stream"),
        "n",
    ]
    assert (first["kind"], first["ts"], first["stream"], first["n"]) == (
        "measurement",
        "2026-01-02T03:04:05.250000Z",
        0,
        1,
    )
    assert first["late_s"] > 86_400
    assert 0 <= first["here_s"] < 20
    assert list(second) == ["kind", "id", "received_at", "device_id", "reason", "topic", "size", "error"]
    assert await gateway.terminate() == 0


async def test_a_head_that_has_enough(
    run_command: Run, settings: Settings, config_file: Path, broker_port: int, topic_prefix: str
) -> None:
    """When whoever reads goes, the tail goes at once, with exit code 0 and not a word."""
    gateway = await start_gateway(run_command, settings)
    reader, writer = os.pipe()
    tail = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "tail", "--config", config_file),
        stdout=writer,
        stderr=subprocess.PIPE,
    )
    os.close(writer)
    assert tail.stderr is not None
    said = [await tail.stderr.readline(), await tail.stderr.readline()]
    await publish(broker_port, [(f"{topic_prefix}/a1/telemetry", message("1", x=1))])
    line = await asyncio.to_thread(os.read, reader, 4096)
    assert b"key=1\n" in line
    os.close(reader)
    assert await asyncio.wait_for(tail.wait(), 10) == 0
    assert await tail.stderr.read() == b"", said
    assert await gateway.terminate() == 0


async def test_a_terminal_that_is_stopped(
    run_command: Run, settings: Settings, config_file: Path, broker_port: int, topic_prefix: str
) -> None:
    """On a terminal lines are coloured; while it takes none the oldest are left out, counted and said."""
    gateway = await start_gateway(run_command, settings)
    terminal = await Terminal.start("gateway", "tail", env={"EDGE_CONFIG": str(config_file)})
    await terminal.errors.readline()
    await terminal.errors.readline()
    for device in range(5):
        batch = json.dumps([{"id": f"{device}-{i}", "ts": TS, "x": i} for i in range(3000)]).encode()
        await publish(broker_port, [(f"{topic_prefix}/d{device}/telemetry", batch)])
    await gateway.total("batch_stored", 15_000, "committed")
    assert await gateway.terminate() == 0, "everything has been published"
    again = await start_gateway(run_command, settings)
    await publish(broker_port, [(f"{topic_prefix}/last/telemetry", message("end", x=1))])
    await again.event("batch_stored")
    assert await again.terminate() == 0
    await terminal.until("key=end")
    terminal.signal(signal.SIGINT)
    assert await terminal.exit_code() == 0
    await terminal.close()
    assert "\x1b[36mlast\x1b[0m" in terminal.text
    lines = terminal.text.splitlines()
    dropped = [int(line.split()[1]) for line in lines if "left out: what reads this is slower" in line]
    assert sum(dropped) > 0
    assert sum(dropped) + terminal.text.count("key=") == 15_001


async def one_of_each(
    gateway: RunningCommand, tail: RunningCommand, port: int, settings: Settings, prefix: str, *, turn: int
) -> None:
    """A measurement and a dead letter reach the tail once the gateway has connected again."""
    for client_id in (settings.broker.client_id, f"{settings.broker.client_id}-relay"):
        await gateway.event("connected", client_id=client_id, skip=turn)
    await publish(
        port, [(f"{prefix}/a1/telemetry", message(f"k{turn}", x=1)), (f"{prefix}/a1/telemetry", b"7")]
    )
    await tail.said(f'"key":"k{turn}"')
    await tail.said('"kind":"dead_letter"', skip=turn - 1)


async def test_servers_away_and_back(run_command: Run, settings: Settings, topic_prefix: str) -> None:
    """It starts without its servers, says who is away and why, and goes on when they are back."""
    async with LocalServices(["mosquitto", "postgres"], environ={}) as own:
        servers = own.environment() | {"EDGE_REDIS_URL": settings.redis.url}
        gateway = await start_gateway(run_command, settings, **servers)
        await own.mosquitto.stop()
        await own.postgres.stop()
        tail = await run_command("gateway", "tail", "--json", **servers)
        await tail.said(f"broker 127.0.0.1:{own.mosquitto.port}: away, trying again: ")
        await tail.said(f"postgres 127.0.0.1:{own.postgres.port}: away, trying again: ")
        await own.mosquitto.start()
        await own.postgres.start()
        await tail.said("listening")
        await tail.said("watching dead letters")
        await one_of_each(gateway, tail, own.mqtt_port, settings, topic_prefix, turn=1)
        await own.postgres.kill()
        await own.mosquitto.kill()
        await tail.said("away, trying again", skip=3)
        await own.postgres.start()
        await own.mosquitto.start()
        await tail.said("listening", skip=1)
        await tail.said("watching dead letters", skip=1)
        await one_of_each(gateway, tail, own.mqtt_port, settings, topic_prefix, turn=2)
        tail.signal(signal.SIGINT)
        assert await tail.exit_code() == 0
        assert await gateway.terminate() == 0


@pytest.mark.parametrize(
    ("heard", "passed_over", "said"),
    [
        (Heard(), 0, "and PostgreSQL does not say whether a gateway runs"),
        (Heard({0: ("gateway-0 on box, pid 7", 4.0)}), 0, "though gateway-0 on box, pid 7 is there"),
        (
            Heard({0: ("a\x1b[2J", 99.0), 1: ("b", 312.4)}),
            0,
            "no gateway runs; a\\x1b[2J was the last, 99 s ago",
        ),
        (Heard({0: ("a", 1.0)}), 12, "12 measurements came, and none that was asked for"),
    ],
)
def test_silence_and_absence(heard: Heard, passed_over: int, said: str) -> None:
    """Who sees nothing is told whether anybody is there to send it."""
    assert said in why(heard, passed_over)


async def test_a_limit_that_is_not_reached(run_command: Run) -> None:
    """With --for it ends by itself; when fewer than --count came, a script can tell by the exit code."""
    quiet, short = await asyncio.gather(
        run_command("gateway", "tail", "--for", "6s"),
        run_command("gateway", "tail", "--for", "1s", "--count", "1"),
    )
    assert await quiet.exit_code() == 0
    assert quiet.output[-1] == "nothing yet: no gateway has ever run here"
    assert await short.exit_code() == 1
    assert quiet.stdout == short.stdout == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--reason", "conflict", "--metric", "x"], "leave one out"),
        (["--for", "soon"], "no duration such as"),
        (["--count", "0"], "--count"),
    ],
)
async def test_wrong_usage(run_command: Run, options: list[str], said: str) -> None:
    """What cannot match anything, or is no number, is refused with exit code 2 and what would be right."""
    tail = await run_command("gateway", "tail", *options)
    assert await tail.exit_code() == 2
    assert said in "\n".join(tail.output)
