"""The query API. JSON; errors are RFC 9457 problem documents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litestar import get
from litestar.exceptions import NotFoundException, ServiceUnavailableException

from projector.lag import Lag  # noqa: TC001  # Litestar reads it from the handler's signature
from projector.query import DeviceStats  # noqa: TC001  # likewise
from runtime.errors import Retry

if TYPE_CHECKING:
    from litestar.types import ControllerRouterHandler

    from projector.meters import Meters
    from projector.query import Queries

_RETRY_AFTER_S = 5


def query_routes(queries: Queries, meters: Meters) -> list[ControllerRouterHandler]:
    """Handlers of the query API."""

    @get("/devices/{device_id:str}/stats", summary="Statistics of one device")
    async def device_stats(device_id: str) -> DeviceStats:
        try:
            stats = await queries.device(device_id)
        except Retry as error:
            raise ServiceUnavailableException(
                f"the views cannot be read now: {error}", headers={"Retry-After": str(_RETRY_AFTER_S)}
            ) from error
        if stats is None:
            raise NotFoundException(f"no device {device_id!r} has been seen")
        return stats

    @get("/lag", summary="How far the views are behind, and how long each step takes", sync_to_thread=False)
    def lag() -> Lag:
        return meters.lag()

    return [device_stats, lag]
