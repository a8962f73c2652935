"""The query API against its own description: Schemathesis makes the questions, a live projector answers."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from tests.support.devices import publish

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from runtime.settings import Settings
    from tests.support.commands import RunningCommand

README = Path(__file__).parents[2] / "README.md"

# A description cannot say that `above` needs `metric`, or that `after` is one of our own.
_TOO_STRICT = "positive_data_acceptance"


async def test_answers_are_as_described(
    run_command: Callable[..., Awaitable[RunningCommand]],
    settings: Settings,
    broker_port: int,
    topic_prefix: str,
    tmp_path: Path,
) -> None:
    """Whatever is asked, good or bad, the answer has a documented status, type and form, and is no crash."""
    gateway = await run_command("gateway", "run", "--log-level", "debug")
    await gateway.event("connected", client_id=settings.broker.client_id)
    projector = await run_command("projector", "run", "--log-level", "debug")
    await projector.event("connected")
    messages = [
        (
            f"{topic_prefix}/d{i}/telemetry",
            json.dumps({"id": "1", "region": "0", "t": i, "state": "on"}).encode(),
        )
        for i in range(20)
    ]
    await publish(broker_port, messages)
    await projector.event("run_applied")
    address = f"http://{settings.projector.http}"
    process = await asyncio.create_subprocess_exec(
        *(Path(sys.executable).with_name("st"), "run", f"{address}/docs/openapi.json"),
        *("--seed", "6", "--max-examples", "10", "--phases", "examples,coverage,fuzzing"),
        *("--exclude-checks", _TOO_STRICT, "--continue-on-failure"),
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LANG": "C.UTF-8", "NO_COLOR": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    async with httpx.AsyncClient(base_url=address) as client:
        head = await client.head("/devices/d1/stats")
        assert (head.status_code, head.content) == (200, b"")
        assert (await client.get("/healthz")).status_code == 200
        described = (await client.get("/docs/openapi.json")).json()["paths"].keys()
        told = re.findall(r"^\| `http://127\.0\.0\.1:9102(/.*?)` \|", README.read_text(), re.MULTILINE)
        assert {*told} == {*described, "/", "/docs"}, "README's table of addresses"
    assert not [line for line in projector.events if line["level"] in {"error", "critical"}]
