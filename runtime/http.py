"""The small HTTP face of a process: health, readiness, metrics, and the way an application is served.

`/healthz` says that the process lives and is 200 as long as it answers at all, so that nobody restarts a
process that only waits. `/readyz` says whether it can do its work, and names every component that keeps it
from it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import structlog
import uvicorn
from litestar import Litestar, Request, Response, get
from litestar.exceptions import HTTPException
from litestar.plugins.problem_details import (
    ProblemDetailsConfig,
    ProblemDetailsException,
    ProblemDetailsPlugin,
)
from prometheus_client import ProcessCollector, disable_created_metrics
from prometheus_client.exposition import choose_encoder

from runtime.errors import Stop
from runtime.settings import host_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from litestar.openapi.config import OpenAPIConfig
    from litestar.types import ControllerRouterHandler
    from prometheus_client import CollectorRegistry

_GRACE_S = 2

log = structlog.get_logger()

disable_created_metrics()  # type: ignore[no-untyped-call]  # a line more for each counter, which nobody reads


class Health:
    """What keeps this process from its work, by component. Ready when nothing does."""

    def __init__(self) -> None:
        self._reasons: dict[str, dict[object, str]] = {}
        self._watched: dict[str, Callable[[], str | None]] = {}

    def set(self, component: str, reason: str | None, *, by: object = None) -> None:
        """Note why a component is not available, or None when it is.

        Args:
            component: as an operator names it.
            reason: one line without secrets.
            by: who says so. A component is available when nobody says otherwise.
        """
        said = self._reasons.setdefault(component, {})
        if reason is None:
            said.pop(by, None)
        else:
            said[by] = reason

    def speaker(self, component: str) -> object:
        """Who of those that wait for a component was first, and so tells of it; None when nobody waits."""
        return next(iter(self._reasons.get(component, ())), None)

    def watch(self, component: str, read: Callable[[], str | None]) -> None:
        """Ask a component for its reason whenever readiness is asked for."""
        self._watched[component] = read

    def reasons(self) -> dict[str, str]:
        """Component → reason, of those that are not available; a copy."""
        told = {component: next(iter(said.values())) for component, said in self._reasons.items() if said}
        asked = {component: read() for component, read in self._watched.items()}
        return told | {component: reason for component, reason in asked.items() if reason}


def health_routes(health: Health, registry: CollectorRegistry) -> list[ControllerRouterHandler]:
    """Handlers of `/healthz`, `/readyz` and `/metrics`.

    Args:
        health: read at each request.
        registry: the process's own metrics; CPU, memory and file descriptors of the process are added to it
            here.
    """
    ProcessCollector(registry=registry)

    @get("/healthz", sync_to_thread=False, include_in_schema=False)
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @get("/readyz", sync_to_thread=False, include_in_schema=False)
    def readyz() -> Response[dict[str, Any]]:
        if reasons := health.reasons():
            return Response(
                {"status": "waiting", "reasons": reasons}, status_code=HTTPStatus.SERVICE_UNAVAILABLE
            )
        return Response({"status": "ready"})

    @get("/metrics", sync_to_thread=False, include_in_schema=False)
    def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), media_type=content_type)

    return [healthz, readyz, metrics]


def create_app(
    handlers: Sequence[ControllerRouterHandler],
    *,
    openapi: OpenAPIConfig | None = None,
    **options: Any,  # noqa: ANN401  # Litestar's own
) -> Litestar:
    """Make an application whose errors are RFC 9457 problem documents.

    Args:
        handlers: routes, `health_routes` among them.
        openapi: None serves no schema and no documentation.
        options: passed to `Litestar` as they are (`dependencies`, `lifespan`, `state`, …).
    """
    problems = ProblemDetailsConfig(
        exception_to_problem_detail_map={HTTPException: _problem, Exception: _crash}
    )
    return Litestar(
        route_handlers=handlers,
        openapi_config=openapi,
        plugins=[ProblemDetailsPlugin(problems)],
        logging_config=None,
        **options,
    )


async def serve(app: Litestar, address: str, stop: asyncio.Event, *, setting: str = "http") -> None:
    """Serve an application in this loop until `stop` is set, then finish what is being answered.

    Args:
        app: as `create_app` made it.
        address: `host:port`.
        stop: the process's stop event; signals stay with whoever set it.
        setting: the configuration key that holds the address, for the message when it cannot be used.

    Raises:
        Stop: the address cannot be listened on, or the application failed to start.
    """
    listener = _listen(address, setting)
    server = _Server(
        uvicorn.Config(
            app,
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="on",
            timeout_graceful_shutdown=_GRACE_S,
        )
    )

    async def watch() -> None:
        await stop.wait()
        server.should_exit = True

    watcher = asyncio.create_task(watch(), name="http-stop")
    log.info("http_listening", address="{}:{}".format(*listener.getsockname()[:2]))

    async def run() -> None:
        try:
            await server.serve(sockets=[listener])
        except SystemExit as error:  # uvicorn's way to say that the application's start-up failed
            raise Stop(f"{setting}: the HTTP application did not start") from error

    # A task of its own: cancelled, uvicorn would log a traceback where it only has to stop.
    serving = asyncio.create_task(run(), name="http-server")
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = server.force_exit = True
        await asyncio.wait([serving], timeout=_GRACE_S)
        raise
    finally:
        watcher.cancel()
        listener.close()


class _Server(uvicorn.Server):
    """Leaves signals alone: the process has one place that handles them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listen(address: str, setting: str) -> socket.socket:
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            *host_port(address), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise Stop(f"{setting}: cannot listen on {address}: {error.strerror}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen()
        listener.setblocking(False)  # noqa: FBT003  # the standard library's signature
    except OSError as error:
        listener.close()
        why = os.strerror(error.errno) if error.errno else str(error)
        raise Stop(f"{setting}: cannot listen on {address}: {why}") from error
    return listener


def _problem(error: HTTPException) -> ProblemDetailsException:
    extra = {"errors": error.extra} if error.extra else None
    return ProblemDetailsException(
        type_="about:blank",
        title=HTTPStatus(error.status_code).phrase,
        status_code=error.status_code,
        detail=error.detail,
        headers=error.headers,
        extra=extra,
    )


def _crash(error: Exception) -> ProblemDetailsException:
    log.error("http_request_failed", exc_info=error)
    return ProblemDetailsException(
        type_="about:blank",
        title=HTTPStatus.INTERNAL_SERVER_ERROR.phrase,
        status_code=HTTPStatus.INTERNAL_SERVER_ERROR,
        detail="the server met an error that it did not expect; its log says which",
    )
