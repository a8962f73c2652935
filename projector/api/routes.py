"""The handlers of the query API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from litestar import Router, get
from litestar.exceptions import NotFoundException
from litestar.openapi.datastructures import ResponseSpec
from msgspec.structs import astuple, replace

from projector.api.answers import (
    DeviceAnswer,
    DevicePage,
    RegionAnswer,
    RegionPage,
    StatsResponse,
    WatchedDevice,
    heard,
    problem,
    unknown_device,
    version_of,
)
from projector.api.parameters import (
    Above,
    After,
    Below,
    ClockAhead,
    Id,
    Labels,
    Limit,
    Metric,
    Name,
    Online,
    Region,
    SilentFor,
    Tags,
    pairs,
    place,
    refuse_unknown,
    selection,
)
from projector.lag import Lag  # noqa: TC001  # Litestar reads the handler's signature
from runtime.http import ESCAPED_SLASH

if TYPE_CHECKING:
    from litestar.types import ControllerRouterHandler

    from projector.meters import Meters
    from projector.query import Queries
    from projector.watch.said import Watch

_BAD: Final = {400: problem("A parameter is unknown or has an impossible value.")}
_KNOWN: Final = {
    304: ResponseSpec(
        None,
        description="The same as under the `ETag` in `If-None-Match`; the header `views` says how current.",
    )
}
_UNKNOWN: Final = {404: problem("Nothing has been heard of this id.")}
_AWAY: Final = {
    503: problem(
        "The views cannot be read now, or are being made anew; `Retry-After` says when to ask again."
    )
}
_ONE_OF_MANY: Final = _KNOWN | _BAD | _UNKNOWN | _AWAY


def query_routes(queries: Queries, meters: Meters, watch: Watch) -> ControllerRouterHandler:
    """The query API as one router."""

    @get(
        "/lag",
        summary="How far the views are behind, and how long each step takes",
        responses=_BAD,
        sync_to_thread=False,
    )
    def lag() -> Lag:
        """Of each stream, with the way of its newest event; seconds are by the clocks of those it passed."""
        return replace(meters.lag(), devices=watch.counts())

    handlers = [*_device_routes(queries, meters, watch), *_region_routes(queries, meters), lag]
    return Router("/", route_handlers=handlers, before_request=refuse_unknown)


def _device_routes(queries: Queries, meters: Meters, watch: Watch) -> list[ControllerRouterHandler]:
    @get("/devices", summary="Devices, those with the oldest readings first", responses=_BAD | _AWAY)
    async def devices(
        *,
        region: Region = None,
        silent_for: SilentFor = None,
        metric: Metric = None,
        above: Above = None,
        below: Below = None,
        tag: Tags = None,
        label: Labels = None,
        clock_ahead: ClockAhead = None,
        online: Online = None,
        limit: Limit = 100,
        after: After = None,
    ) -> DevicePage:
        """All filters go together; `last_seen` goes by the devices' clocks, as far as these are not ahead.

        So do the order and `silent_for`; `state` and `heard_at` go by when messages came.

        A device that reports moves to the end of the list: who goes from page to page meanwhile may meet it
        again, but misses none.
        """
        chosen = selection(
            region=region,
            silent_for=silent_for,
            metric=metric,
            above=above,
            below=below,
            tags=tag,
            clock_ahead=clock_ahead,
            online=online,
        )
        labels = pairs("label", label).items()
        names = watch.names
        page = await queries.devices(
            chosen,
            limit=limit,
            after=place(after),
            fits=(lambda id_: labels <= names.of(id_).label.items()) if labels else None,
        )
        found = [WatchedDevice(*astuple(each), **heard(watch.of(each.device_id))) for each in page.devices]
        return DevicePage(found, page.after.token if page.after else None, meters.freshness())

    @get(
        "/devices/{device_id:str}/stats",
        summary="Statistics of one device",
        responses=_ONE_OF_MANY,
    )
    async def device_stats(device_id: Name) -> StatsResponse[DeviceAnswer]:
        """Count, sum, mean, extremes and last value of each metric, over all messages ever stored.

        Of a device that has expired (`projector.expire_devices_after`) and come back, over those since then.
        `/devices/{device_id}/windows` has mean and extremes of late, and how fast each metric changes.
        """
        return await _device(device_id.replace(ESCAPED_SLASH, "/"))

    @get("/device/stats", summary="Statistics of one device, named beside the path", responses=_ONE_OF_MANY)
    async def device_stats_by_id(id_: Id) -> StatsResponse[DeviceAnswer]:
        """The same as `/devices/{device_id}/stats`."""
        return await _device(id_)

    async def _device(device_id: str) -> StatsResponse[DeviceAnswer]:
        stats = await queries.device(device_id)
        if stats is None:
            raise unknown_device(device_id, watch.of(device_id))
        said = watch.of(device_id)
        answer = DeviceAnswer(*astuple(stats), **heard(said), views=meters.freshness())
        return StatsResponse(answer, stats.updated_ms, stats.sample_count, *version_of(said))

    return [devices, device_stats, device_stats_by_id]


def _region_routes(queries: Queries, meters: Meters) -> list[ControllerRouterHandler]:
    @get("/regions", summary="Regions by name", responses=_BAD | _AWAY)
    async def regions(limit: Limit = 100, after: After = None) -> RegionPage:
        """Every region that messages have named, but for those that were dropped."""
        page = await queries.regions(limit=limit, after=after)
        return RegionPage(page.regions, page.after, queries.regions_dropped, meters.freshness())

    @get(
        "/regions/{region:str}/stats",
        summary="Statistics of one region",
        responses=_ONE_OF_MANY,
    )
    async def region_stats(region: Name) -> StatsResponse[RegionAnswer]:
        """The same over all messages that named the region, and how many devices call it theirs now."""
        return await _region(region.replace(ESCAPED_SLASH, "/"))

    @get("/region/stats", summary="Statistics of one region, named beside the path", responses=_ONE_OF_MANY)
    async def region_stats_by_id(id_: Id) -> StatsResponse[RegionAnswer]:
        """The same as `/regions/{region}/stats`."""
        return await _region(id_)

    async def _region(region: str) -> StatsResponse[RegionAnswer]:
        stats = await queries.region(region)
        if stats is None:
            raise NotFoundException(
                f"no region {region!r} is in the views; GET /regions lists those that are"
            )
        answer = RegionAnswer(*astuple(stats), views=meters.freshness())
        return StatsResponse(answer, stats.updated_ms, stats.sample_count, stats.device_count)

    return [regions, region_stats, region_stats_by_id]
