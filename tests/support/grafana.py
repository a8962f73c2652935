"""Grafana's part in a query, done without Grafana: find it in the dashboard, fill it in, read the answer.

Macros and variables are expanded as Grafana 11.6 does (the PostgreSQL data source's `macros.go`, the variable
syntax of its documentation), answers of Redis are shaped as the Redis data source 2.2 does. What is not known
here raises, so that no query passes with a macro left in it.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from redis.asyncio import Redis

FOLDER = Path(__file__).parents[2] / "deploy/grafana"
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Query(NamedTuple):
    """One query of a dashboard.

    Attributes:
        name: the dashboard's uid and where in it the query stands.
        source: uid of the data source.
        body: the target as JSON; of a variable or an annotation a target made of it.
        panel: the panel's JSON; empty for variables and annotations.
        since_s: how far back from now the dashboard looks by itself.
    """

    name: str
    source: str
    body: dict[str, Any]
    panel: dict[str, Any]
    since_s: int


class Range(NamedTuple):
    """What the time picker says."""

    start: datetime
    end: datetime

    @classmethod
    def last(cls, seconds: int, end: datetime | None = None) -> Range:
        """The range that ends now, or at another moment."""
        until = end or datetime.now(UTC)
        return cls(until - timedelta(seconds=seconds), until)

    @property
    def seconds(self) -> int:
        """Its length."""
        return int((self.end - self.start).total_seconds())


def load_dashboards() -> list[dict[str, Any]]:
    """The committed dashboards, the optional one included."""
    paths = sorted(FOLDER.glob("**/dashboards/*.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def find_queries(source: str) -> list[Query]:
    """Every query of every dashboard to one data source: of panels, variables and annotations."""
    found = [query for dashboard in load_dashboards() for query in _queries_of(dashboard)]
    return [query for query in found if query.source == source]


def _queries_of(dashboard: dict[str, Any]) -> Iterator[Query]:
    uid, since = dashboard["uid"], dashboard["time"]["from"].removeprefix("now-")
    since_s = int(since[:-1]) * _UNITS_S[since[-1]]
    for panel in dashboard["panels"]:
        for body in panel.get("targets", []):
            name = f"{uid}: {panel['title']} {body['refId']}"
            yield Query(name, body["datasource"]["uid"], body, panel, since_s)
    for variable in dashboard["templating"]["list"]:
        query, source = variable["query"], variable["datasource"]["uid"]
        body = {"rawSql": query, "expr": query, "query": query, "format": "table"}
        yield Query(f"{uid}: variable {variable['name']}", source, body, {}, since_s)
    for annotation in dashboard["annotations"]["list"]:
        source, body = annotation["datasource"]["uid"], {"expr": annotation["expr"]}
        yield Query(f"{uid}: annotation {annotation['name']}", source, body, {}, since_s)


def fill_in(text: str, variables: Mapping[str, str], shown: Range) -> str:
    """Replace `$name`, `${name}` and `${name:sqlstring}`; names that begin with `__` are left to macros.

    Raises:
        KeyError: there is no such variable.
    """
    values = {**variables, "__from": _ms(shown.start), "__to": _ms(shown.end), "__searchFilter": "%"}

    def value(match: re.Match[str]) -> str:
        name, form = match["braced"] or match["plain"], match["form"]
        if name.startswith("__") and name not in values:
            return match[0]
        if form == "sqlstring":
            return "'" + values[name].replace("'", "''") + "'"
        assert not form, f"a format that is not known here: {match[0]}"
        return values[name]

    return re.sub(r"\$(?:\{(?P<braced>\w+)(?::(?P<form>\w+))?\}|(?P<plain>\w+))", value, text)


def expand_sql(query: Query, variables: Mapping[str, str], shown: Range) -> str:
    """The SQL that PostgreSQL gets."""
    points = query.panel.get("maxDataPoints", 1000)
    least = 60 if query.panel.get("interval") == "1m" else 1
    interval = max(least, math.ceil(shown.seconds / points))
    text = fill_in(query.body["rawSql"], variables, shown)
    for name, value in {
        "$__interval_ms": str(interval * 1000),
        "$__interval": f"{interval}s",
        "$__unixEpochFrom()": str(int(shown.start.timestamp())),
        "$__unixEpochTo()": str(int(shown.end.timestamp())),
        "$__timeFrom()": f"'{shown.start.isoformat()}'",
        "$__timeTo()": f"'{shown.end.isoformat()}'",
    }.items():
        text = text.replace(name, value)
    between = f"BETWEEN '{shown.start.isoformat()}' AND '{shown.end.isoformat()}'"
    text = re.sub(r"\$__timeFilter\(([^)]*)\)", rf"\1 {between}", text)
    group = rf'floor(extract(epoch from \1)/{interval})*{interval} AS "time"'
    text = re.sub(rf"\$__timeGroupAlias\(([^,)]*),\s*{interval}s\)", group, text)
    assert "$" not in text, f"a macro that is not known here: {text}"
    return text


def expand_promql(query: Query, variables: Mapping[str, str], shown: Range, *, scrape_s: int) -> str:
    """The expression that Prometheus gets."""
    text = fill_in(query.body["expr"], variables, shown)
    text = text.replace("$__rate_interval", f"{scrape_s * 4}s").replace("$__range", f"{shown.seconds}s")
    assert "$" not in text, f"a macro that is not known here: {text}"
    return text


async def ask_redis(
    redis: Redis, query: Query, variables: Mapping[str, str], shown: Range
) -> dict[str, list[float | str]]:
    """Column → values, as the Redis data source answers."""
    body = {k: fill_in(v, variables, shown) if isinstance(v, str) else v for k, v in query.body.items()}
    if body.get("query"):
        answer = await run_line(redis, body["query"])
        return {"Value": [_parsed(each) for each in (answer if isinstance(answer, list) else [answer])]}
    pairs: Any
    match body["command"]:
        case "hgetall":
            pairs = (await redis.hgetall(body["keyName"])).items()
        case "hget":
            pairs = [("Value", await redis.hget(body["keyName"], body["field"]))]
        case "zrange":
            pairs = await redis.zrange(body["keyName"], int(body["min"]), int(body["max"]), withscores=True)
        case other:
            raise AssertionError(f"a command that is not known here: {other}")
    return {name: [_parsed(value)] for name, value in pairs}


async def run_line(redis: Redis, line: str) -> Any:  # noqa: ANN401  # whatever Redis answers
    """Send a command as somebody would type it."""
    return await redis.execute_command(*shlex.split(line))  # type: ignore[no-untyped-call]


def _parsed(value: Any) -> float | str:  # noqa: ANN401  # whatever Redis answers
    assert value is not None
    try:
        return float(value)
    except ValueError:
        return str(value)


def _ms(moment: datetime) -> str:
    return str(int(moment.timestamp() * 1000))
