from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest

from deploy.local.server import reserve_port

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.commands import RunningCommand


async def test_prints_what_was_sent_and_acknowledged(
    run_command: Callable[..., Awaitable[RunningCommand]],
) -> None:
    """`gateway simulate --json` ends by itself with exit code 0 and one line of JSON on stdout."""
    command = await run_command(
        "gateway", "simulate", "--messages", "300", "--rate", "3000", "--seed", "4", "--json"
    )
    assert await command.exit_code() == 0
    [line] = command.stdout
    summary = json.loads(line)
    assert (summary["sent"], summary["acknowledged"], summary["complete"]) == (300, 300, True)
    assert sum(kind["acknowledged"] for kind in summary["kinds"].values()) == 300


async def test_a_signal_ends_it_with_its_summary(
    run_command: Callable[..., Awaitable[RunningCommand]],
) -> None:
    """Ctrl-C ends an endless simulation with exit code 0 and the table of what was sent."""
    command = await run_command("gateway", "simulate")
    await command.event("connected")
    assert await command.event("connected", skip=3)
    command.signal(signal.SIGINT)
    assert await command.exit_code() == 0
    assert any(line.split()[:1] == ["all"] for line in command.stdout)


@pytest.mark.full
async def test_without_a_broker_it_ends(run_command: Callable[..., Awaitable[RunningCommand]]) -> None:
    """Where nobody listens it gives up by itself, with exit code 1, the address and the reason."""
    with reserve_port() as nobody:
        port = nobody.getsockname()[1]
        command = await run_command("gateway", "simulate", EDGE_BROKER_PORT=str(port))
        assert await command.exit_code(timeout_s=60) == 1
    assert command.stdout == []
    assert any(f"no connection to 127.0.0.1:{port} within 15 s: " in line for line in command.output)
