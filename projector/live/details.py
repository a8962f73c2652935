"""What is asked for on a closer look: a newest message, a rejected payload; and what the site says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from litestar import Request, get
from litestar.exceptions import NotFoundException
from litestar.params import Parameter
from msgspec.structs import replace

from projector.live.state import Message, Payload, Site  # noqa: TC001  # Litestar reads the handlers' signatures
from runtime.http import COOKIE, STORABLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from litestar.types import ControllerRouterHandler

    from projector.live.board import Board

_LONGEST_ID = 2**63 - 1


def detail_routes(board: Board, site: Callable[[], Site]) -> list[ControllerRouterHandler]:
    """Handlers of `/live/site`, `/live/message` and `/live/letters`."""

    @get("/live/site", sync_to_thread=False, include_in_schema=False)
    def told(request: Request[Any, Any, Any]) -> Site:
        token = request.scope.get("auth")
        return replace(site(), signed_in=token.name) if token and COOKIE in request.cookies else site()

    @get("/live/message", include_in_schema=False)
    async def message(
        device: Annotated[str, Parameter(min_length=1, max_length=1000, pattern=STORABLE)],
    ) -> Message:
        found = await board.message(device)
        if found is None:
            raise NotFoundException(f"no message of {device!r} from the last five weeks is stored")
        return found

    @get("/live/letters/{letter:int}", include_in_schema=False)
    async def letter(letter: Annotated[int, Parameter(ge=0, le=_LONGEST_ID)]) -> Payload:
        found = await board.payload(letter)
        if found is None:
            raise NotFoundException(f"dead letter {letter} is not kept any more")
        return found

    return [told, message, letter]
