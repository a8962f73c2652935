"""The applications of every process: errors are RFC 9457 problem documents, HEAD is answered wherever GET is.

An id in a path may hold a slash, sent as `%2F`; a server decodes a path before it is routed, so the
application looks at the path as it came and keeps such a slash within its segment.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import structlog
from litestar import Litestar
from litestar.config.compression import CompressionConfig
from litestar.enums import HttpMethod
from litestar.exceptions import HTTPException, ValidationException
from litestar.plugins.problem_details import (
    ProblemDetailsConfig,
    ProblemDetailsException,
    ProblemDetailsPlugin,
)

from runtime.errors import Retry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from litestar.openapi.config import OpenAPIConfig
    from litestar.types import (
        ControllerRouterHandler,
        Message,
        Send,
    )

    from runtime.http.access import Access
    from runtime.http.hosts import Hosts

ESCAPED_SLASH: Final = "\0"  # in a path parameter, where it came as `%2F`; no id has one
# The pattern of a parameter that PostgreSQL is to look for: it has no such text.
STORABLE: Final = r"^[^\x00]*$"
UNCOMPRESSED: Final = "uncompressed"
_RETRY_AFTER_S: Final = 5
_COMPRESSION: Final = CompressionConfig(
    backend="gzip", minimum_size=1000, gzip_compress_level=5, exclude_opt_key=UNCOMPRESSED
)

# For every answer; that of a page stands in for the first. No Strict-Transport-Security: it would hold for
# all ports of this machine, those of others too.
_HEADERS: Final = {
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
}

PAGE_HEADERS: Final = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",  # with none at all a form of ours would have no origin
}
"""Of a page and its files: it asks nobody else, and runs and draws with nothing that is no file of ours."""

log = structlog.get_logger()


class Application(Litestar):
    """Litestar, with what it leaves to those who use it."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401  # requests, sockets, the start
        """Answer a request, or go through the application's life."""
        if scope["type"] == "http":
            send = _guarding(send)
            if scope["method"] == "HEAD":
                scope, send = {**scope, "method": HttpMethod.GET}, _heads_of(send)
            elif scope["method"] != "GET":
                send = _telling_of_head(send)
            if b"%00" in scope["raw_path"]:
                scope = {**scope, "path": scope["path"].replace("\0", "\N{REPLACEMENT CHARACTER}")}
            if b"%2F" in scope["raw_path"].upper():
                raw = scope["raw_path"].replace(b"%00", b"%EF%BF%BD").decode("ascii")
                segments = (unquote(segment) for segment in raw.split("/"))
                scope = {**scope, "path": "/".join(each.replace("/", ESCAPED_SLASH) for each in segments)}
        await super().__call__(scope, receive, send)


def create_app(
    handlers: Sequence[ControllerRouterHandler],
    *,
    openapi: OpenAPIConfig | None = None,
    hosts: Hosts | None = None,
    access: Access | None = None,
) -> Litestar:
    """Make an application whose errors are RFC 9457 problem documents.

    A handler's `Retry` becomes a 503 with Retry-After. Answers of a thousand bytes and more are compressed
    for whoever takes that, but for those of handlers with the option `UNCOMPRESSED`.

    Args:
        handlers: routes, `health_routes` among them.
        openapi: None serves no schema and no documentation.
        hosts: the names that it answers to; None is any.
        access: who may look; None is anybody.
    """
    problems = ProblemDetailsConfig(
        exception_to_problem_detail_map={HTTPException: _problem, Retry: _away, Exception: _crash}
    )
    return Application(
        route_handlers=handlers,
        openapi_config=openapi,
        plugins=[ProblemDetailsPlugin(problems)],
        compression_config=_COMPRESSION,
        middleware=[each.guard for each in (hosts, access) if each is not None],
        logging_config=None,
    )


def _guarding(send: Send) -> Send:
    """Tell browsers what not to do with an answer, unless it says so itself."""

    async def send_all(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message["headers"])
            said = {name.lower() for name, _ in headers}
            message["headers"] = headers + [each for each in _HEADERS.items() if each[0] not in said]
        await send(message)

    return send_all


def _heads_of(send: Send) -> Send:
    """Send an answer's head and nothing after it, so that one that never ends is answered too."""

    async def send_head(message: Message) -> None:
        if message["type"] == "http.response.start":
            await send(message)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    return send_head


def _telling_of_head(send: Send) -> Send:
    """Name HEAD in `Allow` beside GET."""

    async def send_all(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [
                (name, value.replace(b"GET", b"GET, HEAD") if name == b"allow" else value)
                for name, value in message["headers"]
            ]
        await send(message)

    return send_all


def _problem(error: HTTPException) -> ProblemDetailsException:
    extra = {"errors": error.extra} if error.extra else None
    if isinstance(error, ValidationException) and isinstance(error.extra, list):
        error.detail = "; ".join(f"{each.get('key', 'request')}: {each['message']}" for each in error.extra)
    return ProblemDetailsException(
        type_="about:blank",
        title=HTTPStatus(error.status_code).phrase,
        status_code=error.status_code,
        detail=error.detail,
        headers=error.headers,
        extra=extra,
    )


def _away(error: Retry) -> ProblemDetailsException:
    return ProblemDetailsException(
        type_="about:blank",
        title=HTTPStatus.SERVICE_UNAVAILABLE.phrase,
        status_code=HTTPStatus.SERVICE_UNAVAILABLE,
        detail=f"cannot be answered now, ask again: {error}",
        headers={"Retry-After": str(_RETRY_AFTER_S)},
    )


def _crash(error: Exception) -> ProblemDetailsException:
    log.error("http_request_failed", exc_info=error)
    return ProblemDetailsException(
        type_="about:blank",
        title=HTTPStatus.INTERNAL_SERVER_ERROR.phrase,
        status_code=HTTPStatus.INTERNAL_SERVER_ERROR,
        detail="the server met an error that it did not expect; its log says which",
    )
