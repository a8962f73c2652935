"""`GET /devices/{device_id}/history` and `…/windows`: one device over time, out of minutes and hours."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final

from litestar import Router, get
from litestar.exceptions import NotFoundException
from litestar.params import QueryParameter
from msgspec.structs import astuple

from projector.api.answers import SeriesAnswer, problem, unknown_device
from projector.api.parameters import Id, Name, refuse, refuse_unknown
from projector.history.series import MOST_POINTS
from projector.history.windows import DeviceWindows  # noqa: TC001  # Litestar reads the handlers' signatures
from runtime.http import ESCAPED_SLASH, STORABLE
from runtime.settings import duration_s

if TYPE_CHECKING:
    from litestar.types import ControllerRouterHandler

    from projector.history.series import History
    from projector.history.windows import Windows
    from projector.meters import Meters
    from projector.query import Queries

_MINUTE: Final = timedelta(minutes=1)
_A_DAY: Final = timedelta(days=1)
_FIRST_YEAR: Final = 1970
_LAST_YEAR: Final = 9000
_STEP: Final = "[1-9][0-9]{0,4}(m|h|d)"
_LONGEST: Final = timedelta(days=3650)
_RESPONSES: Final = {
    400: problem("A parameter is unknown or has an impossible value."),
    404: problem("Nothing has been heard of this id."),
    503: problem("History cannot be read now; `Retry-After` says when to ask again."),
}

Metric = Annotated[
    str,
    QueryParameter(
        min_length=1,
        max_length=128,
        pattern=STORABLE,
        description="Which of its metrics.",
    ),
]
From = Annotated[
    str | None,
    QueryParameter(name="from", description="ISO 8601; UTC when it names no offset. A day before `to`."),
]
To = Annotated[str | None, QueryParameter(description="The same. Now.")]
Step = Annotated[
    str | None,
    QueryParameter(
        schema_extra={"pattern": f"^{_STEP}$"},  # a check by it would let a line's end through
        description="Whole minutes, hours or days, such as `5m`. Whole hours are read out of hours, which "
        f"are kept for longer than minutes. The least that keeps to {MOST_POINTS} points.",
    ),
]


def history_routes(history: History, meters: Meters) -> ControllerRouterHandler:
    """The handler of history."""

    @get("/devices/{device_id:str}/history", summary="A metric of one device over time", responses=_RESPONSES)
    async def device_history(
        device_id: Name, metric: Metric, from_: From = None, to: To = None, step: Step = None
    ) -> SeriesAnswer:
        """Count, mean and extremes by steps; one in which nothing was measured has no point."""
        return await _series(device_id.replace(ESCAPED_SLASH, "/"), metric, from_, to, step)

    @get(
        "/device/history",
        summary="A metric of one device over time, the device named beside the path",
        responses=_RESPONSES,
    )
    async def device_history_by_id(
        id_: Id, metric: Metric, from_: From = None, to: To = None, step: Step = None
    ) -> SeriesAnswer:
        """The same as `/devices/{device_id}/history`."""
        return await _series(id_, metric, from_, to, step)

    async def _series(
        device_id: str, metric: str, from_: str | None, to: str | None, step: str | None
    ) -> SeriesAnswer:
        until = datetime.now(UTC) if to is None else _time("to", to)
        since = until - _A_DAY if from_ is None else _time("from", from_)
        if not timedelta() < until - since <= _LONGEST:
            raise refuse("from", f"expected a time before `to`, and at most {_LONGEST.days} days")
        if step is not None and not re.fullmatch(_STEP, step):
            raise refuse("step", "expected whole minutes, hours or days, such as `5m`")
        width = timedelta(seconds=duration_s(step)) if step else _least_step(until - since)
        if (until - since) / width > MOST_POINTS:
            raise refuse("step", f"more than {MOST_POINTS} points; ask for less time or a greater step")
        series = await history.series(device_id, metric, since, until, width)
        if series is None:
            raise NotFoundException(
                f"no device {device_id!r} has sent anything; GET /devices lists those that have"
            )
        return SeriesAnswer(*astuple(series), history=meters.history_freshness())

    return Router("/", route_handlers=[device_history, device_history_by_id], before_request=refuse_unknown)


def window_routes(queries: Queries, windows: Windows) -> ControllerRouterHandler:
    """The handlers of windows."""

    @get(
        "/devices/{device_id:str}/windows",
        summary="All metrics of one device in the last 24 hours, hour and five minutes",
        responses=_RESPONSES,
    )
    async def device_windows(device_id: Name) -> DeviceWindows:
        """Windows end with the minute under way, by the server's clock, and begin whole minutes before that.

        So one of five minutes holds the minute under way and the five before it. What came a moment ago is in
        it, though history is written by whole minutes.
        """
        return await _windows(device_id.replace(ESCAPED_SLASH, "/"))

    @get(
        "/device/windows",
        summary="The same, the device named beside the path",
        responses=_RESPONSES,
    )
    async def device_windows_by_id(id_: Id) -> DeviceWindows:
        """The same as `/devices/{device_id}/windows`."""
        return await _windows(id_)

    async def _windows(device_id: str) -> DeviceWindows:
        stats = await queries.device(device_id)
        if stats is None:
            raise unknown_device(device_id)
        return await windows.of(device_id, [name for name, each in stats.metrics.items() if each.count])

    return Router("/", route_handlers=[device_windows, device_windows_by_id], before_request=refuse_unknown)


def _least_step(span: timedelta) -> timedelta:
    """Minutes as long as these are not too many, else hours."""
    minutes = -(-span // (_MINUTE * MOST_POINTS))
    return _MINUTE * minutes if minutes < 60 else timedelta(hours=-(-minutes // 60))  # noqa: PLR2004  # minutes in an hour


def _time(parameter: str, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise refuse(parameter, "expected a time such as 2026-11-23T09:00:00Z") from None
    if not _FIRST_YEAR < moment.year < _LAST_YEAR:
        raise refuse(parameter, f"expected a time between the years {_FIRST_YEAR} and {_LAST_YEAR}")
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
