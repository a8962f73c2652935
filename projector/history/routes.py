"""`GET /devices/{device_id}/history`: one device's series, out of minutes and hours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final

from litestar import get
from litestar.exceptions import ServiceUnavailableException, ValidationException
from litestar.params import PathParameter, QueryParameter

from projector.history.series import MOST_POINTS, Series
from runtime.errors import Retry
from runtime.settings import duration_s

if TYPE_CHECKING:
    from litestar.types import ControllerRouterHandler

    from projector.history.series import History

_RETRY_AFTER_S: Final = 5
_MINUTE: Final = timedelta(minutes=1)
_A_DAY: Final = timedelta(days=1)
_LONGEST_DAYS: Final = 3650

Name = Annotated[str, PathParameter(min_length=1)]
Metric = Annotated[str, QueryParameter(min_length=1, max_length=128, description="Which of its metrics.")]
From = Annotated[
    datetime | None,
    QueryParameter(name="from", description="ISO 8601; UTC when it names no offset. A day before `to`."),
]
To = Annotated[datetime | None, QueryParameter(name="to", description="The same. Now.")]
Step = Annotated[
    str | None,
    QueryParameter(
        pattern=r"^[1-9][0-9]{0,4}(m|h|d)$",
        description="Whole minutes, hours or days, such as `5m`. Whole hours are read out of hours, which "
        f"are kept for longer than minutes. The least that keeps to {MOST_POINTS} points.",
    ),
]


def history_routes(history: History) -> ControllerRouterHandler:
    """The handler of history."""

    @get("/devices/{device_id:str}/history", summary="A metric of one device over time")
    async def device_history(
        device_id: Name, metric: Metric, from_: From = None, to: To = None, step: Step = None
    ) -> Series:
        until = _utc(to) if to else datetime.now(UTC)
        since = _utc(from_) if from_ else until - _A_DAY
        if not timedelta() < until - since <= timedelta(days=_LONGEST_DAYS):
            raise _refuse("from", f"expected a time before `to`, and at most {_LONGEST_DAYS} days")
        width = timedelta(seconds=duration_s(step)) if step else _least_step(until - since)
        if (until - since) / width > MOST_POINTS:
            raise _refuse("step", f"more than {MOST_POINTS} points; ask for less time or a greater step")
        try:
            return await history.series(device_id, metric, since, until, width)
        except Retry as error:
            raise ServiceUnavailableException(
                f"history cannot be read now: {error}", headers={"Retry-After": str(_RETRY_AFTER_S)}
            ) from error

    return device_history


def _least_step(span: timedelta) -> timedelta:
    """Minutes as long as these are not too many, else hours."""
    minutes = -(-span // (_MINUTE * MOST_POINTS))
    return _MINUTE * minutes if minutes < 60 else timedelta(hours=-(-minutes // 60))  # noqa: PLR2004  # minutes in an hour


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _refuse(parameter: str, message: str) -> ValidationException:
    return ValidationException(extra=[{"key": parameter, "message": message, "source": "query"}])
