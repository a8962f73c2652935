"""`GET /devices/{device_id}/history` of a running projector, on history as the database holds it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from runtime.settings import Settings
    from tests.support.commands import RunningCommand

    RunCommand = Callable[..., Awaitable[RunningCommand]]

NINE = datetime(2026, 10, 5, 9, tzinfo=UTC)


@pytest.fixture
async def http(
    run_command: RunCommand, settings: Settings, database: str
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a projector whose device `a1` has minutes and hours of `t`."""
    connection = await asyncpg.connect(database)
    await connection.execute("INSERT INTO devices VALUES ('a1', NULL, now(), now())")
    for minute, count, total in ((0, 1, 2.0), (1, 3, 12.0), (7, 2, -4.0)):
        await connection.execute(
            "INSERT INTO open_minutes VALUES ('a1', 't', $1, NULL, NULL, $2, $3, -9, 9)",
            *(NINE + timedelta(minutes=minute), count, total),
        )
    for hour in (0, 30):
        await connection.execute(
            "INSERT INTO measurements_1h VALUES ('a1', 't', $1, NULL, NULL, 6, 10, -9, 9)",
            NINE + timedelta(hours=hour),
        )
    await connection.close()
    projector = await run_command("projector", "run")
    await projector.event("connected")
    async with httpx.AsyncClient(base_url=f"http://{settings.projector.http}") as client:
        yield client


async def series(http: httpx.AsyncClient, **parameters: str) -> dict[str, Any]:
    """Ask for a series of `t`."""
    answer = await http.get("/devices/a1/history", params={"metric": "t", **parameters})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.full
async def test_series_at_any_step(http: httpx.AsyncClient) -> None:
    """Steps of minutes come out of minutes, longer ones out of hours, weighted by their counts."""
    minutes = await series(
        http, **{"from": "2026-10-05T09:00:30Z", "to": "2026-10-05T09:08:00Z", "step": "1m"}
    )
    assert [(p["at"][11:16], p["count"], p["avg"]) for p in minutes["points"]] == [
        ("09:00", 1, 2),
        ("09:01", 3, 4),
        ("09:07", 2, -2),
    ]
    assert (minutes["since"], minutes["until"]) == (
        "2026-10-05T09:00:00.000000Z",
        "2026-10-05T09:08:00.000000Z",
    )
    span = {"from": "2026-10-05T11:00:00+02:00", "to": "2026-10-05T09:20:00"}
    fives = await series(http, **span, step="5m")
    assert [(p["count"], p["avg"], p["min"], p["max"]) for p in fives["points"]] == [
        (4, 3.5, -9, 9),
        (2, -2, -9, 9),
    ]
    assert (await series(http, **span))["step_seconds"] == 60
    month = {"from": "2026-09-20T00:00:00Z", "to": "2026-10-20T00:00:00Z"}
    assert (await series(http, **month, step="1d"))["points"] == [
        {
            "at": f"2026-10-0{day}T00:00:00.000000Z",
            "count": 6,
            "avg": pytest.approx(10 / 6),
            "min": -9,
            "max": 9,
        }
        for day in (5, 6)
    ]
    assert (await series(http, **month))["step_seconds"] == 29 * 60
    assert (await series(http))["points"] == [], "the last day"


WRONG: list[tuple[dict[str, str], str]] = [
    ({}, "metric"),
    ({"metric": "t", "step": "1s"}, "step"),
    ({"metric": "t", "step": "1m", "from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z"}, "step"),
    ({"metric": "t", "from": "2026-02-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, "from"),
    ({"metric": "t", "from": "yesterday"}, "from"),
    ({"metric": "t", "from": "0001-01-01T00:00:00Z"}, "from"),
    ({"metric": "t", "from": "0001-01-01T00:00:00+14:00"}, "from"),
    ({"metric": "t", "to": "9999-12-31T23:59:59Z", "step": "1d"}, "to"),
    ({"metric": "t", "from": "0001-01-01T00:00:00+05:00", "to": "2026-01-01T00:00:00Z"}, "from"),
    ({"metric": "t", "to": "0001-01-01T00:00:00Z"}, "to"),
    ({"metric": "t", "until": "2026-01-01"}, "until"),
]


async def test_what_is_wrong_is_named(http: httpx.AsyncClient) -> None:
    """A parameter that is missing or has an impossible value is named in a problem document."""
    for parameters, named in WRONG:
        answer = await http.get("/devices/a1/history", params=parameters)
        kind = answer.headers["content-type"]
        assert (answer.status_code, kind) == (400, "application/problem+json"), parameters
        assert named in answer.text, parameters


async def test_characters_that_fit_nowhere(http: httpx.AsyncClient) -> None:
    """What PostgreSQL cannot hold, and a line's end behind a step, are refused and no fault of ours."""
    for path, named in (
        ("/device/history?id=a1&metric=%00", "metric"),
        ("/device/history?id=a%001&metric=t", "id"),
        ("/device/history?id=a1&metric=t&step=5m%0A", "step"),
        ("/live/message?device=a%001", "device"),
    ):
        answer = await http.get(path)
        assert (answer.status_code, named in answer.json()["detail"]) == (400, True), answer.text


async def test_an_unknown_device(http: httpx.AsyncClient) -> None:
    """An id that nothing has been heard of is a 404, whatever characters it has."""
    for device in ("nobody", "a%2Fb", "a%00b", "%F0%9F%90%9F"):
        answer = await http.get(f"/devices/{device}/history", params={"metric": "t"})
        kind = answer.headers["content-type"]
        assert (answer.status_code, kind) == (404, "application/problem+json"), device
        assert "no device" in answer.json()["detail"]
