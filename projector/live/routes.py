"""The page with its files, its stream of events, and the part of the list that a viewer scrolled to.

Everything comes from here: the policy that goes with the page forbids the browser to ask anybody else, and
to run or to draw with anything that did not come as a file of ours.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, Final

from litestar import Request, Response, asgi, get
from litestar.exceptions import NotFoundException, ServiceUnavailableException, ValidationException
from litestar.params import FromPath, FromQuery, QueryParameter

from projector.live.feed import VIEWERS, TooManyViewersError
from projector.live.files import read_files
from projector.live.orders import Order
from projector.live.state import Device, Window  # noqa: TC001  # Litestar reads the handlers' signatures
from projector.live.stream import stream
from runtime.http import ESCAPED_SLASH, PAGE_HEADERS, SCOPE, UNCOMPRESSED

if TYPE_CHECKING:
    from litestar.types import ControllerRouterHandler, Receive, Scope, Send

    from projector.live.board import Board
    from projector.live.feed import Feed
    from projector.live.files import File
    from runtime.http import Access

_ROWS: Final = 100
_METRICS: Final = 12
_RETRY_AFTER: Final = {"Retry-After": "5"}


def live_routes(board: Board, feed: Feed, access: Access) -> list[ControllerRouterHandler]:
    """Handlers of `/` and of what lies under `/live`.

    The page's files say nothing of a site: anybody gets them.
    """
    files = read_files()

    @get("/", sync_to_thread=False, include_in_schema=False)
    def page(request: Request[Any, Any, Any]) -> Response[bytes]:
        return _answer(request, files["index.html"])

    @get("/live/{name:str}", sync_to_thread=False, include_in_schema=False, opt={SCOPE: None})
    def file(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
        if name not in files:
            raise NotFoundException(f"no file {name!r} belongs to the live page")
        return _answer(request, files[name])

    @asgi("/live/events", copy_scope=True, opt={UNCOMPRESSED: True})  # a frame is due when it is there
    async def events(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await stream(feed, receive, send, lambda: access.still(scope))
        except TooManyViewersError as error:
            raise ServiceUnavailableException(
                f"{VIEWERS} look at the live page already; there is room again when one is closed, or "
                "has read nothing for half a minute",
                headers=_RETRY_AFTER,
            ) from error

    @get("/live/devices", include_in_schema=False)
    async def devices(
        part: Annotated[str, QueryParameter(name="q", max_length=200)] = "",
        region: Annotated[str | None, QueryParameter(max_length=200)] = None,
        tag: Annotated[str | None, QueryParameter(max_length=600)] = None,
        sort: Annotated[str, QueryParameter(max_length=600)] = "",
        metrics: Annotated[list[str] | None, QueryParameter(name="metric", max_items=_METRICS)] = None,
        *,
        clock: FromQuery[bool] = False,
        recent: FromQuery[bool] = False,
        hot: FromQuery[bool] = False,
        retired: FromQuery[bool] = False,
        never_heard: FromQuery[bool] = False,
        offline: FromQuery[bool] = False,
        start: Annotated[int, QueryParameter(ge=0)] = 0,
        count: Annotated[int, QueryParameter(ge=1, le=_ROWS)] = _ROWS,
    ) -> Window:
        return await board.window(
            part,
            region,
            start,
            count,
            tag=tag,
            clock=clock,
            recent=recent,
            hot=hot,
            retired=retired,
            never_heard=never_heard,
            offline=offline,
            order=_order(sort),
            metrics=metrics or (),
        )

    @get("/live/devices/{device_id:str}", include_in_schema=False)
    async def device(device_id: FromPath[str]) -> Device:
        return await board.device(device_id.replace(ESCAPED_SLASH, "/"))

    @get("/live/device", include_in_schema=False)
    async def device_by_id(id_: Annotated[str, QueryParameter(name="id", min_length=1)]) -> Device:
        return await board.device(id_)  # browsers take `..` out of a path, escaped or not

    return [page, file, events, devices, device, device_by_id]


def _order(sort: str) -> Order | None:
    try:
        return Order.parse(sort) if sort else None
    except ValueError as error:
        raise ValidationException(f"sort: {error}") from None


def _answer(request: Request[Any, Any, Any], file: File) -> Response[bytes]:
    headers = {**PAGE_HEADERS, "ETag": file.etag}
    known = {each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")}
    if file.etag in known:
        return Response(b"", status_code=HTTPStatus.NOT_MODIFIED, headers=headers, media_type=file.media_type)
    return Response(file.content, headers=headers, media_type=file.media_type)
