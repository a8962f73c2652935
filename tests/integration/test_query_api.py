"""The query API over views in a real Redis, without a network in between."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import msgspec
import pytest
from litestar import get
from prometheus_client import CollectorRegistry

from contract.events import Event, Scalar, format_time
from deploy.local.server import free_port
from projector.api import openapi, query_routes
from projector.meters import Meters
from projector.names.book import Known
from projector.query import LOOK, Queries
from projector.views import Keys, Run, Views
from projector.watch.said import Watch
from projector.watch.silence import Silence
from runtime.http import create_app
from runtime.redis import open_redis

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
KEYS = Keys("p:")
PATHS = (
    *("/devices", "/devices?region=x", "/devices/a/stats", "/devices/nobody/stats", "/device/stats?id=a"),
    *("/regions", "/regions/north/stats", "/regions/nowhere/stats", "/region/stats?id=north"),
)


class Plant:
    """Views, what is asked of them, and a way to change them."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.meters = Meters(CollectorRegistry())
        self.watch = Watch()
        self._views = Views(redis, KEYS)
        self._n = 0
        queries = Queries(redis, KEYS, lag=self.meters.lag)
        app = create_app([query_routes(queries, self.meters, self.watch)], openapi=openapi())
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)  # type: ignore[arg-type]  # narrower
        self.http = httpx.AsyncClient(transport=transport, base_url="http://test")

    async def hear(self, *events: Event) -> None:
        """Apply events to the views, as one run."""
        self._n += 1
        await self._views.apply(Run(0, "e", self._n, self._n, events), NOW)

    async def get(self, path: str, **parameters: object) -> dict[str, Any]:
        """Ask, and return the body of a 200."""
        answer = await self.http.get(path, params={name: str(value) for name, value in parameters.items()})
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    async def ids(self, **parameters: object) -> list[str]:
        """Ids on a page of devices."""
        return [device["device_id"] for device in (await self.get("/devices", **parameters))["devices"]]


@pytest.fixture
async def plant(redis_url: str) -> AsyncIterator[Plant]:
    """Empty views."""
    async with open_redis(redis_url) as redis:
        made = Plant(redis)
        async with made.http:
            yield made


def event(
    device: str,
    second: float,
    *,
    region: str | None = "north",
    ahead: float = 0,
    tags: dict[str, str] | None = None,
    **metrics: Scalar,
) -> Event:
    """An event so many seconds past nine, received so many seconds before that."""
    ts = datetime(2026, 11, 23, 9, tzinfo=UTC) + timedelta(seconds=second)
    received_at = ts - timedelta(seconds=ahead)
    return Event(device, region, format_time(ts), format_time(received_at), f"k{second}", metrics, tags)


async def test_says_whether_devices_are_online(plant: Plant) -> None:
    """As messages of theirs say, with the time since when; those that never said have neither."""
    will = msgspec.structs.replace(event("gone", 2, t=1), online=False, online_since=format_time(NOW))
    await plant.hear(event("gone", 1, t=1), will, event("quiet", 3, t=1))
    shown = {each["device_id"]: each for each in (await plant.get("/devices"))["devices"]}
    assert (shown["gone"]["online"], shown["gone"]["online_since"]) == (False, format_time(NOW))
    assert (shown["quiet"]["online"], shown["quiet"]["online_since"]) == (None, None)
    assert (await plant.ids(online="false"), await plant.ids(online="true")) == (["gone"], [])
    alone = await plant.get("/devices/gone/stats")
    assert (alone["online"], alone["online_since"]) == (False, format_time(NOW))
    back = msgspec.structs.replace(
        event("gone", 4, t=1), online=True, online_since=format_time(NOW + timedelta(days=1))
    )
    await plant.hear(back)
    assert (await plant.get("/devices/gone/stats"))["online"] is True


async def test_lists_the_longest_silent_first(plant: Plant) -> None:
    """Devices come with their statistics in the order of when they were last seen, then of their ids."""
    await plant.hear(event("b", 2, t=1), event("a", 2, t=2), event("z", 1, region=None, state="on"))
    page = await plant.get("/devices")
    assert [device["device_id"] for device in page["devices"]] == ["z", "a", "b"]
    assert page["next"] is None
    assert page["devices"][0] == {
        "device_id": "z",
        "region": None,
        "last_seen": "2026-11-23T09:00:01.000000Z",
        "last_seen_ms": 1795424401000,
        "updated_at": "2026-11-23T12:00:00.000000Z",
        "updated_ms": 1795435200000,
        "sample_count": 1,
        "metrics": {"state": {"last": "on", "min": None, "max": None, "avg": None, "sum": None, "count": 0}},
        "tags": {},
        "clock_ahead_ms": None,
        "metrics_dropped": 0,
        "online": None,
        "online_since": None,
        "state": "unknown",
        "heard_at": None,
        "usual_seconds": None,
        "clock_wrong_since": None,
        "clock_error_seconds": None,
        "care": None,
        "name": None,
        "labels": {},
        "expected_seconds": None,
        "blocked": False,
    }
    assert page["devices"][1] == {
        key: value for key, value in (await plant.get("/devices/a/stats")).items() if key != "views"
    }


async def test_who_is_silent_the_watch_says(plant: Plant) -> None:
    """By arrival: who sends with a clock that is hours off is not, one that stopped is, alone and listed.

    Of both the answer changes when only the watch knows more, also for who has the one before.
    """
    await plant.hear(event("slow", -50_000, ahead=-50_000), event("stopped", 0), event("new", 1))
    unknown = await plant.http.get("/devices/stopped/stats")
    assert [unknown.json()[name] for name in ("state", "heard_at", "usual_seconds")] == [
        "unknown",
        None,
        None,
    ]

    silence, begun = Silence({}), int(NOW.timestamp())
    silence.all_known()
    plant.watch.begins(silence)
    for minute in range(40):
        heard = ["slow", *["stopped"] * (minute < 20)]
        silence.hear(0, begun + 60 * minute, [Event(each, None, "", "", "", {}) for each in heard])
        silence.turn()
        silence.learn(dict.fromkeys(silence.unsure, ()))
    listed = {each["device_id"]: each for each in (await plant.get("/devices"))["devices"]}
    assert {
        device: tuple(each[name] for name in ("state", "heard_at", "usual_seconds"))
        for device, each in listed.items()
    } == {
        "slow": ("ok", "2026-11-23T12:39:00.000000Z", 60),
        "stopped": ("silent", "2026-11-23T12:19:00.000000Z", 60),
        "new": ("unknown", None, None),
    }
    known = {"If-None-Match": unknown.headers["etag"]}
    answer = await plant.http.get("/devices/stopped/stats", headers=known)
    assert (answer.status_code, answer.json()["state"]) == (200, "silent")
    known = {"If-None-Match": answer.headers["etag"]}
    assert (await plant.http.get("/devices/stopped/stats", headers=known)).status_code == 304


async def test_tells_how_many_metrics_made_room(plant: Plant) -> None:
    """Whoever reads statistics of few metrics is told that there have been more."""
    many: Any = {f"m{i}": i for i in range(1007)}
    await plant.hear(event("a", 1, **many))
    await plant.hear(event("a", 2, t=1))
    for path in ("/devices/a/stats", "/regions/north/stats"):
        stats = await plant.get(path)
        assert (len(stats["metrics"]), stats["metrics_dropped"]) == (1000, 8)


@pytest.mark.parametrize("limit", [1, 2, 7, 100])
async def test_pages_are_exact(plant: Plant, limit: int) -> None:
    """Page after page gives every device once and in order, also where many were seen at one instant."""
    names = sorted(f"d{i}é" for i in range(20))
    await plant.hear(*(event(name, 5, t=1) for name in names), event("first", 1), event("last", 9))
    found: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = await plant.get("/devices", limit=limit, **after)
        assert len(page["devices"]) <= limit
        found += [device["device_id"] for device in page["devices"]]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert found == ["first", *names, "last"]


async def test_pages_of_devices_that_move(plant: Plant) -> None:
    """Who pages while devices report misses none; only what has reported since may come again."""
    await plant.hear(*(event(name, 1, t=1) for name in "abcdef"))
    page = await plant.get("/devices", limit=2)
    await plant.hear(event("b", 2), event("c", 3), event("new", 0))
    await plant.redis.delete(KEYS.device("d"))
    rest: list[str] = []
    while page["next"]:
        page = await plant.get("/devices", limit=2, after=page["next"])
        rest += [device["device_id"] for device in page["devices"]]
    assert rest == ["e", "f", "b", "c"]


async def test_filters(plant: Plant) -> None:
    """Each filter takes what it says, strings are no numbers, and all of them go together."""
    ago = (datetime.now(UTC) - datetime(2026, 11, 23, 9, tzinfo=UTC)).total_seconds()
    await plant.hear(
        event("cold", ago - 600, t=-5.5),
        event("warm", ago - 400, region="south", t=21),
        event("warm2", ago - 200, t=25.5),
        event("hot", ago - 1, t=1e20, state="up"),
        event("odd", ago - 1, t=1),
        event("odd", ago, t="nan"),
        event("hex", ago, t="0x20"),
    )
    assert await plant.ids(region="south") == ["warm"]
    assert await plant.ids(region="nowhere") == []
    assert await plant.ids(silent_for="5m") == ["cold", "warm"]
    assert await plant.ids(silent_for="9999999d") == []
    assert await plant.ids(metric="state") == ["hot"]
    assert await plant.ids(metric="t") == ["cold", "warm", "warm2", "hot", "hex", "odd"]
    assert await plant.ids(metric="t", above=21) == ["warm2", "hot"]
    assert await plant.ids(metric="t", below=21) == ["cold"]
    assert await plant.ids(metric="t", above=-6, below=25.6) == ["cold", "warm", "warm2"]
    assert await plant.ids(metric="state", above=0) == []
    assert await plant.ids(metric="t", below=30, region="north", silent_for="100s") == ["cold", "warm2"]
    assert await plant.ids(metric="t", above=-6, limit=1) == ["cold"]


async def test_tags(plant: Plant) -> None:
    """Tags are told beside the metrics and select devices; several have to fit."""
    await plant.hear(
        event("a", 1, tags={"line": "3", "hall": "x:y"}, tag_line=7),
        event("b", 2, tags={"line": "3", "hall": "z"}, t=1),
        event("c", 3, t=1),
    )
    stats = await plant.get("/devices/a/stats")
    assert stats["tags"] == {"hall": "x:y", "line": "3"}
    assert list(stats["metrics"]) == ["tag_line"]
    assert await plant.ids(tag="line:3") == ["a", "b"]
    assert await plant.ids(tag="hall:x:y", region="north", metric="tag_line", above=6) == ["a"]
    assert await plant.ids(tag="line:") == []
    answer = await plant.http.get("/devices", params=[("tag", "line:3"), ("tag", "hall:z")])
    assert [device["device_id"] for device in answer.json()["devices"]] == ["b"]


async def test_labels(plant: Plant) -> None:
    """What people call devices selects them too: page by page none is missed; several have to fit."""
    await plant.hear(*(event(f"d{n}", n, tags={"line": "3"}, t=1) for n in range(6)), event("other", 9, t=1))
    for n in range(6):
        plant.watch.names.take(f"d{n}", Known(labels=f'{{"site": "north", "odd": "{n % 2}"}}'))
    assert await plant.ids(label="site:north", limit=2) == ["d0", "d1"]
    first = await plant.get("/devices", label="odd:1", limit=2)
    second = await plant.get("/devices", label="odd:1", limit=2, after=first["next"])
    pages = [[each["device_id"] for each in page["devices"]] for page in (first, second)]
    assert (pages, second["next"]) == ([["d1", "d3"], ["d5"]], None)
    answer = await plant.http.get(
        "/devices", params=[("label", "site:north"), ("label", "odd:0"), ("tag", "line:3")]
    )
    assert [device["device_id"] for device in answer.json()["devices"]] == ["d0", "d2", "d4"]
    assert await plant.ids(label="site:south") == []


async def test_clocks_that_are_ahead(plant: Plant) -> None:
    """A device whose clock is ahead says by how much, and is not taken for the one seen last for as long."""
    await plant.hear(event("fast", 3600, ahead=3600, t=1), event("usual", 301, ahead=-1, t=1))
    assert await plant.ids() == ["fast", "usual"]
    stats = await plant.get("/devices/fast/stats")
    assert (stats["clock_ahead_ms"], stats["last_seen"]) == (3_600_000, "2026-11-23T09:05:00.000000Z")
    assert await plant.ids(clock_ahead="true") == ["fast"]
    assert await plant.ids(clock_ahead="false") == ["usual"]


async def test_a_page_is_bounded_work(plant: Plant) -> None:
    """A filter that few devices pass gives short or empty pages with a next, and finds them all the same."""
    await plant.hear(event("needle", 1, region="south", t=1))
    async with plant.redis.pipeline(transaction=False) as pipeline:
        for i in range(2 * LOOK + 10):
            pipeline.zadd(KEYS.last_seen, {f"d{i:06d}": i // 100})
            pipeline.hset(KEYS.device(f"d{i:06d}"), "region", "north")
        await pipeline.execute()
    page = await plant.get("/devices", region="south")
    assert (page["devices"], page["next"] is None) == ([], False)
    page = await plant.get("/devices", region="south", after=page["next"])
    assert (page["devices"], page["next"] is None) == ([], False)
    page = await plant.get("/devices", region="south", after=page["next"])
    assert [device["device_id"] for device in page["devices"]] == ["needle"]
    assert page["next"] is None


async def test_regions(plant: Plant) -> None:
    """Regions come by name, page by page, and each alone under whatever name it has."""
    names = sorted(["north", "plant/1", "a/b/", "50%2F", "Süd & West?", "..", " x "])
    await plant.hear(*(event("d", i, region=name, t=i) for i, name in enumerate(names)), event("e", 99))
    found: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = await plant.get("/regions", limit=3, **after)
        found += [region["region"] for region in page["regions"]]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert found == names
    for name in set(names) - {".."}:  # which a client takes out of a path
        stats = await plant.get(f"/regions/{quote(name, safe='')}/stats")
        assert stats["region"] == name
    north = await plant.get("/regions/north/stats")
    assert (north["device_count"], north["sample_count"]) == (1 + (names[-1] == "north"), 2)
    assert north["metrics"]["t"]["count"] == 1


async def test_says_how_current_it_is(plant: Plant) -> None:
    """Every answer tells how far the views were behind when last compared with PostgreSQL."""
    await plant.hear(event("d", 1, t=1))
    paths = ("/devices", "/devices/d/stats", "/regions", "/regions/north/stats", "/lag")
    for path in paths:
        answer = await plant.get(path)
        assert answer["views"] == {"as_of": None, "behind_rows": 0, "behind_seconds": 0.0}
    plant.meters.of(0).position(1, 1, None, NOW)
    plant.meters.of(1).position(3, 6, NOW - timedelta(seconds=3), NOW - timedelta(seconds=1))
    for path in paths:
        answer = await plant.get(path)
        assert answer["views"] == {
            "as_of": "2026-11-23T11:59:59.000000Z",
            "behind_rows": 3,
            "behind_seconds": 2.0,
        }


@pytest.mark.parametrize("path", ["/devices/d/stats", "/regions/north/stats"])
async def test_asks_only_for_what_is_new(plant: Plant, path: str) -> None:
    """With the tag of the last answer there is a 304 without a body until the statistics change."""
    await plant.hear(event("d", 1, t=1))
    tag = (await plant.http.get(path)).headers["etag"]
    assert (await plant.http.get(path, headers={"if-none-match": 'W/"other"'})).status_code == 200
    for known in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
        answer = await plant.http.get(path, headers={"if-none-match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
        assert answer.headers["views"] == "behind_rows=0, behind_seconds=0.000"
    plant.meters.of(0).position(1, 2, NOW, NOW)
    answer = await plant.http.get(path, headers={"if-none-match": tag})
    assert (
        answer.headers["views"] == 'as_of="2026-11-23T12:00:00.000000Z", behind_rows=1, behind_seconds=0.000'
    )
    await plant.hear(event("d", 0, t=2))
    answer = await plant.http.get(path, headers={"if-none-match": tag})
    assert answer.status_code == 200
    assert answer.headers["etag"] != tag


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        ("/devices?limit=0", "limit: Expected `int` >= 1"),
        ("/devices?limit=501", "limit: Expected `int` <= 500"),
        ("/devices?limit=x", "limit: Expected `int`, got `str`"),
        ("/devices?after=x", "after: expected the `next` of a page before, or nothing to begin anew"),
        ("/devices?after=WzEsMl0", "after: expected the `next` of a page before"),
        ("/devices?silent_for=5", "silent_for: expected a duration such as `90s`, `5m`, `2h` or `1d`"),
        ("/devices?silent_for=5m%0A", "silent_for: expected a duration such as `90s`, `5m`, `2h` or `1d`"),
        ("/devices?region=", "region: Expected `str` of length >= 1"),
        ("/devices?above=3", "above: needs `metric`, the metric to compare, such as `metric=temperature`"),
        ("/devices?below=3", "below: needs `metric`"),
        ("/devices?metric=t&above=nan", "above: expected a finite number"),
        ("/devices?metric=t&below=cold", "below: "),
        ("/devices?metric=seen_ms", "metric: a metric named seen_ms has no last value to select by"),
        ("/devices?regoin=north", "regoin: unknown; there are region, silent_for, metric, above, below, "),
        ("/devices?region=a&region=b", "region: given more than once"),
        ("/devices?tag=line", "tag: expected a name and a value, such as `tag=line:3`"),
        ("/devices?label=site", "label: expected a name and a value, such as `label=line:3`"),
        ("/devices?tag=line:3&tag=line:4", "tag: line is to have two values, '3' and '4'"),
        ("/devices?clock_ahead=perhaps", "clock_ahead: "),
        ("/devices/d/stats?limit=1", "limit: unknown; there are none"),
        ("/lag?stream=1", "stream: unknown; there are none"),
        ("/regions?limit=0", "limit: Expected `int` >= 1"),
    ],
)
async def test_bad_parameters(plant: Plant, path: str, detail: str) -> None:
    """A parameter that cannot be is refused by a problem document that names it and what is expected."""
    answer = await plant.http.get(path)
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["title"]) == (400, 400, "Bad Request")
    assert problem["detail"].startswith(detail)
    assert [error["key"] for error in problem["errors"]] == [detail.partition(":")[0]]


@pytest.mark.parametrize(
    "path",
    ["/devices/nobody/stats", "/regions/a%2Fb/stats", "/devices//stats", "/nowhere", "/docs/x", "/regions/"],
)
async def test_what_is_not_there(plant: Plant, path: str) -> None:
    """Unknown ids and unknown paths are problem documents; a region's name is told as it was sent."""
    await plant.hear(event("a", 1, region=None, t=1))
    answer = await plant.http.get(path)
    if path == "/regions/":
        assert answer.json()["regions"] == []  # a slash at the end changes nothing
        return
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    if path.startswith("/regions"):
        assert "'a/b'" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("marks", "why"),
    [
        ({"unfinished": "1"}, "they are being made anew"),
        ({"format": "1"}, "another version wrote them"),
        ({"7": "e"}, "a part of them is lost"),
        (None, "PostgreSQL has not been asked yet"),
    ],
)
async def test_views_that_are_not_whole(plant: Plant, marks: dict[str, str] | None, why: str) -> None:
    """Each question is a 503 that says why and when to ask again: no list without devices, and no 404."""
    await plant.hear(event("a", 1, t=1))
    if marks is None:
        await plant.redis.flushdb()
    else:
        await plant.redis.hset(KEYS.epoch, items=[each for pair in marks.items() for each in pair])
    for path in PATHS:
        answer = await plant.http.get(path)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5"), path
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"].startswith("cannot be answered now, ask again: views: ")
        assert why in answer.json()["detail"]


async def test_empty_views(plant: Plant) -> None:
    """They are the truth when nothing was ever stored, and are not whole when something was."""
    stream = plant.meters.of(0)
    stream.position(0, 0, None, NOW)
    assert await plant.ids() == []
    assert (await plant.http.get("/devices/a/stats")).status_code == 404
    stream.position(0, 3, None, NOW)
    for path in PATHS:
        answer = await plant.http.get(path)
        assert answer.status_code == 503, path
        assert "they are empty, and will be made anew" in answer.json()["detail"]


@pytest.mark.parametrize(
    "name", ["..", ".", "a/b", "../a", "/", "%", "%2F", "a%00b", "a?b#c&d", " ", "{id}", "é€😀", "x\n"]
)
async def test_any_name_is_answered(plant: Plant, name: str) -> None:
    """In the path, escaped, as far as the client leaves it there; and beside the path in any case."""
    await plant.hear(event(name, 1, region=name, t=4))
    for kind, key in (("device", "device_id"), ("region", "region")):
        assert (await plant.get(f"/{kind}/stats", id=name))[key] == name
        if name not in {"..", "."}:  # this client takes them out of a path, as browsers do
            assert (await plant.get(f"/{kind}s/{quote(name, safe='')}/stats"))[key] == name
        answer = await plant.http.get(f"/{kind}/stats", params={"id": f"{name}-"})
        assert answer.status_code == 404
        assert repr(f"{name}-") in answer.json()["detail"]


async def test_a_character_that_no_name_has(plant: Plant) -> None:
    """It is not taken for another."""
    await plant.hear(event("a/b", 1, t=4))
    assert (await plant.http.get("/devices/a%00b/stats")).status_code == 404
    assert (await plant.http.get("/devices/a%2F%00/stats")).status_code == 404


async def test_redis_away_or_not_ours(plant: Plant) -> None:
    """While the views cannot be read, each question is a 503 that says why and when to ask again."""
    await plant.redis.set(KEYS.device("d"), "not ours")
    await plant.redis.hset(KEYS.region("north"), "region", "north")
    for path in ("/devices/d/stats", "/regions/north/stats"):
        answer = await plant.http.get(path)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    async with open_redis(f"redis://127.0.0.1:{free_port()}") as redis:
        away = Plant(redis)
        for path in ("/devices", "/devices/d/stats", "/regions", "/regions/north/stats"):
            answer = await away.http.get(path)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["detail"].startswith("cannot be answered now, ask again: redis: ")


async def test_documentation_needs_no_internet(plant: Plant) -> None:
    """`/docs` is one page that names no other host; the description has every route."""
    page = await plant.http.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "//" not in page.text.replace("// ", "")
    description = await plant.get("/docs/openapi.json")
    assert description["paths"].keys() == {
        "/devices",
        "/devices/{device_id}/stats",
        "/device/stats",
        "/regions",
        "/regions/{region}/stats",
        "/region/stats",
        "/lag",
    }
    for path in description["paths"].values():
        assert path["get"]["description"]
    parameters = description["paths"]["/devices"]["get"]["parameters"]
    assert {each["name"] for each in parameters if each["in"] == "query"} == {
        *(
            "region",
            "silent_for",
            "metric",
            "above",
            "below",
            "tag",
            "label",
            "clock_ahead",
            "online",
            "limit",
            "after",
        )
    }


async def test_applications_describe_themselves() -> None:
    """What one application of a process serves is in no other's description."""

    @get("/more")
    async def more() -> None: ...

    for handlers in ([more], []):
        app = create_app(handlers, openapi=openapi())
        transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]  # narrower
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            description = (await http.get("/docs/openapi.json")).json()
        assert list(description["paths"]) == (["/more"] if handlers else [])
