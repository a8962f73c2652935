"""Dashboards and rules on a real Prometheus that scrapes a real gateway and a real projector."""

from __future__ import annotations

import asyncio
import json
import math
import re
import subprocess
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import yaml

from deploy.local.install import ensure
from deploy.local.server import free_port
from tests.support.devices import publish
from tests.support.grafana import Range, expand_promql, find_queries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from deploy.local.services import LocalServices
    from runtime.settings import Settings
    from tests.support.commands import RunningCommand

FOLDER = Path(__file__).parents[2] / "deploy/prometheus"
VARIABLES = {"gateway": ".*", "projector": ".*"}
OFTEN_EMPTY = ("annotation", "Rejected a second", "Dropped fields")  # nothing to say is what one hopes for
SCRAPE_S = 1


class Prometheus:
    """A running Prometheus."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def ask(self, expression: str) -> list[float]:
        """Evaluate an expression now: the values of its series."""
        answer = await self._client.get("/api/v1/query", params={"query": expression})
        assert answer.status_code == 200, answer.text
        return [float(each["value"][1]) for each in answer.json()["data"]["result"]]

    async def until(self, expression: str) -> None:
        """Wait until an expression has a result."""
        async with asyncio.timeout(30):
            while not (await self._ready() and await self.ask(expression)):  # noqa: ASYNC110  # Prometheus tells nobody
                await asyncio.sleep(0.1)

    async def _ready(self) -> bool:
        try:
            return (await self._client.get("/-/ready")).is_success
        except httpx.TransportError:
            return False


@asynccontextmanager
async def prometheus(services: LocalServices, settings: Settings, folder: Path) -> AsyncIterator[Prometheus]:
    """Prometheus with the repository's configuration; only addresses and intervals are the test's."""
    binary = ensure(["promtool"])["promtool"].with_name("prometheus")
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
    config["global"] = {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"}
    config["rule_files"] = [str(FOLDER / name) for name in config["rule_files"]]
    addresses = {"gateway": settings.gateway.http, "projector": settings.projector.http}
    for job in config["scrape_configs"]:
        job["static_configs"] = [{"targets": [addresses[job["job_name"]]]}]
    path, address = folder / "prometheus.yml", f"127.0.0.1:{free_port()}"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    with (folder / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            binary,
            f"--config.file={path}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address}",
            stderr=log,
            process_group=services.place.group,
        )
        try:
            async with httpx.AsyncClient(base_url=f"http://{address}", trust_env=False) as client:
                yield Prometheus(client)
        finally:
            process.kill()
            await process.wait()


async def test_dashboards_and_rules_have_data(
    run_command: Callable[..., Awaitable[RunningCommand]],
    services: LocalServices,
    settings: Settings,
    topic_prefix: str,
    tmp_path: Path,
) -> None:
    """Every metric that they name is there, every expression of a panel has a value, and the books add up."""
    await services.mosquitto.stop()  # what it counts it says when it starts, and again only when it changes:
    await services.mosquitto.start()  # a minute later it is not to be had
    route = {"topic": f"{topic_prefix}/{{device_id}}/telemetry", "on_bad_field": "drop"}
    routes = json.dumps([route, {"dialect": "sparkplug"}])
    gateway = await run_command("gateway", "run", EDGE_ROUTE=routes, EDGE_SPOOL_PATH=str(tmp_path / "spool"))
    await gateway.event("connected", client_id=settings.broker.client_id)
    limits = json.dumps([{"metric": "x", "warn": 100}])
    projector = await run_command("projector", "run", "--log-level", "debug", EDGE_LIMIT=limits)
    await projector.event("watch_begins")
    await projector.event("connected")
    good = [(f"{topic_prefix}/a1/telemetry", json.dumps({"id": str(n), "x": n}).encode()) for n in range(49)]
    flawed = (f"{topic_prefix}/a1/telemetry", b'{"id": "49", "x": 49, "": 1}')
    await publish(services.mqtt_port, [*good, flawed, (f"{topic_prefix}/a1/telemetry", b"{")])
    async with prometheus(services, settings, tmp_path) as server:
        rate = "instance:gateway_commit_seconds:p99_5m"
        for name in ("gateway_broker_dropped_messages_total", rate, "projector_devices", "projector_limits"):
            await server.until(name)
        await server.until("count_over_time(projector_rebuilds_total[1m]) > 3")

        rules = [
            rule
            for name in ("recording.yml", "alerts.yml")
            for group in yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))["groups"]
            for rule in group["rules"]
        ]
        queries = [
            each for each in find_queries("edge-prometheus") if "label_values" not in each.body["expr"]
        ]
        expressions = [rule["expr"] for rule in rules] + [query.body["expr"] for query in queries]
        names = set(
            re.findall(r"\b(?:gateway|projector|process|instance:)[a-z0-9_:]+\b", " ".join(expressions))
        )
        names -= {f"{program}_certificate_expires_timestamp_seconds" for program in ("gateway", "projector")}
        assert len(names) > 30  # and there are no certificates here
        for name in sorted(names):
            assert await server.ask(f"count({name})"), f"{name} is on no /metrics"

        recorded = {rule["record"] for rule in rules if "record" in rule}
        assert all(any(record in text for text in expressions) for record in recorded)

        assert len(queries) > 30
        for query in queries:
            text = expand_promql(query, VARIABLES, Range.last(query.since_s), scrape_s=SCRAPE_S)
            values = await server.ask(text)
            assert values or any(word in query.name for word in OFTEN_EMPTY), f"{query.name}: {text}"
        (received,) = await server.ask("gateway_received_total")
        assert (received, await server.ask("instance:gateway_unaccounted:sum")) == (51, [0])
        assert all(not math.isnan(value) for value in await server.ask("instance:gateway_received:rate5m"))
        assert await server.ask('ALERTS{alertstate="firing"}') == []


async def test_metrics_follow_the_conventions(
    run_command: Callable[..., Awaitable[RunningCommand]], settings: Settings
) -> None:
    """Promtool's linter finds nothing in what both processes expose: names, units, types and help."""
    promtool = ensure(["promtool"])["promtool"]
    gateway = await run_command("gateway", "run")
    await gateway.event("connected", client_id=settings.broker.client_id)
    projector = await run_command("projector", "run")
    await projector.event("connected")
    async with httpx.AsyncClient(trust_env=False) as client:
        for address in (settings.gateway.http, settings.projector.http):
            exposed = (await client.get(f"http://{address}/metrics")).content
            assert await asyncio.to_thread(lint, promtool, exposed) == (0, b"")


def lint(promtool: Path, exposed: bytes) -> tuple[int, bytes]:
    """What promtool says of metrics."""
    done = subprocess.run([promtool, "check", "metrics"], input=exposed, capture_output=True, check=False)
    return done.returncode, done.stdout + done.stderr
