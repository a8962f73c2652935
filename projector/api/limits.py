"""The query API's answer to who is beyond a limit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from litestar import Router, get
from litestar.params import QueryParameter

from projector.api.answers import problem
from projector.api.parameters import Limit, refuse_unknown
from projector.lag import Freshness  # noqa: TC001  # msgspec and Litestar read annotations
from projector.limits.beyond import Asked, BeyondLimit, LimitCount

if TYPE_CHECKING:
    from litestar.types import ControllerRouterHandler

    from projector.limits.beyond import Beyond
    from projector.meters import Meters

_MAX_NAME = 128

State = Annotated[
    Literal["warn", "crit"] | None, QueryParameter(name="state", description="Only what is in this state.")
]
Metric = Annotated[
    str | None, QueryParameter(min_length=1, max_length=_MAX_NAME, description="Only of this metric.")
]
Region = Annotated[
    str | None,
    QueryParameter(min_length=1, max_length=_MAX_NAME, description="Only of devices of this region."),
]
After = Annotated[
    str | None,
    QueryParameter(
        min_length=1, max_length=_MAX_NAME, description="`next` of the page before: the last device on it."
    ),
]


class LimitPage(msgspec.Struct, frozen=True):
    """Some devices that are beyond a limit, by id, with all that each is beyond.

    Attributes:
        counts: how many devices are within and beyond in all, of each metric and side that has limits.
        next: the `after` of the next page; null when this is the last.
    """

    limits: list[BeyondLimit]
    counts: list[LimitCount]
    next: str | None
    views: Freshness


def limit_routes(beyond: Beyond, meters: Meters) -> ControllerRouterHandler:
    """Who is beyond a limit, as one router."""

    @get(
        "/limits",
        summary="Devices that are beyond a limit, by id",
        responses={
            400: problem("A parameter is unknown or has an impossible value."),
            503: problem("What devices sent last is being read; `Retry-After` says when to ask again."),
        },
    )
    async def limits(
        *,
        state_: State = None,
        metric: Metric = None,
        region: Region = None,
        limit: Limit = 100,
        after: After = None,
    ) -> LimitPage:
        """Limits are set in the configuration, `[[limit]]`; without one the answer is empty."""
        counts = beyond.counts()
        page = await beyond.page(Asked(state_, metric, region), limit=limit, after=after)
        return LimitPage(page.limits, counts, page.after, meters.freshness())

    return Router("/", route_handlers=[limits], before_request=refuse_unknown)
