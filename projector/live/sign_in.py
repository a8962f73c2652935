"""Signing in: a token is handed over once, and the browser keeps it in a cookie.

No script and no stranger reads that cookie (HttpOnly, SameSite=Strict; RFC 6265bis §5.4.7). It has no path of
its own: a browser takes the folder that it came from, which behind a proxy is ours alone.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from litestar import Request, Response, get, post
from litestar.datastructures import Cookie
from litestar.exceptions import PermissionDeniedException

from projector.live.files import read_files
from runtime.http import COOKIE, FORWARDED, PAGE_HEADERS, SCOPE
from runtime.tokens import READ

if TYPE_CHECKING:
    from litestar.types import ControllerRouterHandler

    from runtime.http import Access

_ANYBODY: Final = {SCOPE: None}
_KEPT_S: Final = 90 * 86_400
_TROUBLE: Final = b'<p id="trouble" class="trouble" role="alert"></p>'


def sign_in_routes(access: Access) -> list[ControllerRouterHandler]:
    """Handlers of `/sign-in` and `/sign-out`; none where nobody needs a token."""
    if access.tokens is None:
        return []
    access.leads = True
    page = read_files()["sign-in.html"].content

    @get("/sign-in", sync_to_thread=False, include_in_schema=False, opt=_ANYBODY)
    def show() -> Response[bytes]:
        return _page(page)

    @post("/sign-in", include_in_schema=False, opt=_ANYBODY)
    async def sign_in(request: Request[Any, Any, Any]) -> Response[bytes]:
        _refuse_strangers(request)
        text = str((await request.form()).get("token", "")).strip()
        token = access.find(request.scope, text)
        if token is None:
            return _page(page, b"This is no token, or one that was revoked.", HTTPStatus.UNAUTHORIZED)
        if READ not in token.scopes:
            return _page(
                page, b"This token is not for the page: it lacks the scope read.", HTTPStatus.FORBIDDEN
            )
        return _go(".", _cookie(request, text, _KEPT_S))

    @post("/sign-out", sync_to_thread=False, include_in_schema=False, opt=_ANYBODY)
    def sign_out(request: Request[Any, Any, Any]) -> Response[bytes]:
        _refuse_strangers(request)
        return _go("sign-in", _cookie(request, "", 0))

    return [show, sign_in, sign_out]


def _page(page: bytes, trouble: bytes = b"", status: HTTPStatus = HTTPStatus.OK) -> Response[bytes]:
    shown = page.replace(_TROUBLE, _TROUBLE.replace(b"></p>", b">%b</p>" % trouble))
    headers = {**PAGE_HEADERS, "Cache-Control": "no-store"}
    return Response(shown, status_code=status, headers=headers, media_type="text/html")


def _go(where: str, cookie: Cookie) -> Response[bytes]:
    headers = {**PAGE_HEADERS, "Cache-Control": "no-store", "Location": where}
    return Response(b"", status_code=HTTPStatus.SEE_OTHER, headers=headers, cookies=[cookie])


def _cookie(request: Request[Any, Any, Any], token: str, kept_s: int) -> Cookie:
    secure = request.scope["scheme"] == "https"
    return Cookie(
        COOKIE, path="", value=token, max_age=kept_s, secure=secure, httponly=True, samesite="strict"
    )


def _refuse_strangers(request: Request[Any, Any, Any]) -> None:
    """A page of somebody else's signs nobody in or out.

    Browsers say whose page asks (Fetch Metadata, W3C), but over plain HTTP only what its origin is
    (RFC 6454 §7.3). The name that we have there may be a proxy's.
    """
    whose = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if whose is None and origin is not None and FORWARDED not in request.scope.get("state", ()):
        is_ours = origin.partition("://")[2] == request.headers.get("host")
        whose = "same-origin" if is_ours else "cross-site"
    if whose not in {None, "same-origin", "none"}:
        raise PermissionDeniedException("another site's page asks for this")
