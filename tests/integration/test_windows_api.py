"""`GET /devices/{device_id}/windows` on a real Redis and a real PostgreSQL, or on none."""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg
import httpx
import pytest
from prometheus_client import CollectorRegistry

from contract.events import Event, Scalar, format_time
from deploy.local.server import free_port
from projector.api.history import window_routes
from projector.history.series import History
from projector.history.windows import Windows
from projector.meters import Meters
from projector.query import Queries
from projector.views import Keys, Run, Views
from runtime.http import create_app
from runtime.redis import open_redis

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NOW = datetime(2026, 11, 23, 9, 30, 20, tzinfo=UTC)
KEYS = Keys("p:")


AT = format_time(NOW - timedelta(minutes=1))


@asynccontextmanager
async def asking(redis_url: str, postgres: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an API that has views of some devices, and this history."""
    metrics: dict[str, Scalar] = {"t": 1, "status": "on"}
    events = [Event(device, "r", AT, AT, device, metrics) for device in ("a/b", "..")]
    events.append(Event("mute", None, AT, AT, "k", {}))
    async with open_redis(redis_url) as redis, aclosing(History(postgres, "test")) as history:
        await Views(redis, KEYS).apply(Run(0, "e", 1, 1, events), NOW)
        queries = Queries(redis, KEYS, lag=Meters(CollectorRegistry()).lag)
        app = create_app([window_routes(queries, Windows(history, lambda: NOW))])
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)  # type: ignore[arg-type]  # narrower
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client


@pytest.fixture
async def http(redis_url: str, database: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an API that has views and history."""
    connection = await asyncpg.connect(database)
    for minutes, value in ((0, 1.0), (20, -2.0), (90, 6.0), (1441, 99.0)):
        bucket = (NOW - timedelta(minutes=minutes)).replace(second=0)
        for device in ("a/b", ".."):
            await connection.execute(
                "INSERT INTO open_minutes VALUES ($2, 't', $1, NULL, NULL, 2, $3::float8 * 2, $3, $3)",
                *(bucket, device, value),
            )
    await connection.close()
    async with asking(redis_url, database) as client:
        yield client


@pytest.mark.parametrize(
    "path", ["/devices/a%2Fb/windows", "/device/windows?id=..", "/device/windows?id=a/b"]
)
async def test_windows_of_a_device(http: httpx.AsyncClient, path: str) -> None:
    """Every metric that was ever a number has its windows, beside when they begin and end."""
    body = (await http.get(path)).raise_for_status().json()
    assert {name: at for name, at in body.items() if name.startswith(("since", "until"))} == {
        "until": "2026-11-23T09:31:00.000000Z",
        "since_5m": "2026-11-23T09:25:00.000000Z",
        "since_1h": "2026-11-23T08:30:00.000000Z",
        "since_24h": "2026-11-22T09:30:00.000000Z",
    }
    assert body["metrics"] == {
        "t": {
            "avg_5m": 1,
            "min_5m": 1,
            "max_5m": 1,
            "count_5m": 2,
            "avg_1h": -0.5,
            "min_1h": -2,
            "max_1h": 1,
            "count_1h": 4,
            "avg_24h": 5 / 3,
            "min_24h": -2,
            "max_24h": 6,
            "count_24h": 6,
            "rate_1h": 9,
        }
    }
    assert body["history"] == {"as_of": format_time(NOW), "behind_rows": 0, "behind_seconds": 0}


async def test_devices_without_any(http: httpx.AsyncClient) -> None:
    """A device without a number has no windows; one that nobody knows is a 404, an unknown wish a 400."""
    assert (await http.get("/devices/mute/windows")).json()["metrics"] == {}
    for path, status in (("/devices/nobody/windows", 404), ("/device/windows?id=a/b&metric=t", 400)):
        answer = await http.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


async def test_postgres_is_away(redis_url: str) -> None:
    """Then it is a 503 that says so, and when to ask again; who is not known is a 404 all the same."""
    dark = f"postgresql://postgres@127.0.0.1:{free_port()}/postgres"
    async with asking(redis_url, dark) as http:
        answer = await http.get("/device/windows?id=..")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert "postgres: " in answer.json()["detail"]
        assert (await http.get("/devices/nobody/windows")).status_code == 404
