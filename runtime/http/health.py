"""Whether a process lives, whether it can do its work, and what it measures.

`/healthz` says that the process lives and is 200 as long as it answers at all, so that nobody restarts a
process that only waits. `/readyz` says whether it can do its work, and names every component that keeps it
from it.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from litestar import Request, Response, get
from prometheus_client import Gauge, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import choose_encoder

from runtime.http.access import SCOPE
from runtime.http.hosts import ANY_HOST
from runtime.outage import Outage
from runtime.tokens import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable

    from litestar.types import ControllerRouterHandler
    from prometheus_client import CollectorRegistry

    from runtime.http.access import Access

disable_created_metrics()  # type: ignore[no-untyped-call]  # a line more for each counter, which nobody reads

# Probes and Prometheus come by any name; of devices there are counts by region.
_PROBE: Final = {ANY_HOST: True, SCOPE: None}
_SCRAPE: Final = {ANY_HOST: True, SCOPE: METRICS}


class Health:
    """What keeps this process from its work, by component. Ready when nothing does."""

    def __init__(self) -> None:
        self._reasons: dict[str, dict[object, str]] = {}
        self._outages: dict[str, Outage] = {}
        self._watched: dict[str, Callable[[], str | None]] = {}
        self._excused: set[str] = set()
        self._notes: dict[str, str] = {}

    def set(self, component: str, reason: str | None, *, by: object = None) -> None:
        """Note why a component is not available, or None when it is.

        Args:
            component: as an operator names it.
            reason: one line without secrets.
            by: who says so. A component is available when nobody says otherwise.
        """
        said = self._reasons.setdefault(component, {})
        said.pop(by, None)
        if reason is not None:
            said[by] = reason  # the newest last
        elif not said:
            self._outages.pop(component, None)

    def outage(self, component: str, now: float) -> Outage:
        """The outage of a component that somebody has just said is not available."""
        return self._outages.setdefault(component, Outage(now))

    def is_away(self, component: str) -> bool:
        """Whether somebody says that a component is not available."""
        return bool(self._reasons.get(component))

    def excuse(self, component: str, *, excused: bool) -> None:
        """Say whether the process can do without a component for now."""
        (self._excused.add if excused else self._excused.discard)(component)

    def note(self, component: str, text: str | None) -> None:
        """Note what whoever asks for readiness should know, though it keeps nobody from anything."""
        if text is None:
            self._notes.pop(component, None)
        else:
            self._notes[component] = text

    def notes(self) -> dict[str, str]:
        """Component → what is to be known of it, and why those are away that can be done without."""
        away = {name: list(said.values())[-1] for name, said in self._reasons.items() if said}
        return {name: reason for name, reason in away.items() if name in self._excused} | self._notes

    def watch(self, component: str, read: Callable[[], str | None]) -> None:
        """Ask a component for its reason whenever readiness is asked for."""
        self._watched[component] = read

    def reasons(self) -> dict[str, str]:
        """Component → the newest reason, of those that are not available; a copy."""
        told = {
            component: list(said.values())[-1]
            for component, said in self._reasons.items()
            if said and component not in self._excused
        }
        asked = {component: read() for component, read in self._watched.items()}
        return told | {component: reason for component, reason in asked.items() if reason}


def health_routes(
    health: Health, registry: CollectorRegistry, process: str, access: Access | None = None
) -> list[ControllerRouterHandler]:
    """Handlers of `/healthz`, `/readyz` and `/metrics`.

    Args:
        health: read at each request.
        registry: the process's own metrics; CPU, memory and file descriptors of the process are added to it
            here, and whether it is ready.
        process: what it is, with which the names of its metrics begin.
        access: who may know more than whether it is ready; None is anybody.
    """
    ProcessCollector(registry=registry)
    ready = Gauge(
        f"{process}_ready", "Whether nothing keeps it from its work, as /readyz says.", registry=registry
    )
    ready.set_function(lambda: float(not health.reasons()))

    @get("/healthz", sync_to_thread=False, include_in_schema=False, opt=_PROBE)
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @get("/readyz", sync_to_thread=False, include_in_schema=False, opt=_PROBE)
    def readyz(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        told = access is None or access.knows(request.scope)
        if reasons := health.reasons():
            waiting = {"status": "waiting", **({"reasons": reasons} if told else {})}
            return Response(waiting, status_code=HTTPStatus.SERVICE_UNAVAILABLE)
        notes = health.notes()
        return Response({"status": "ready", **({"notes": notes} if notes and told else {})})

    @get("/metrics", sync_to_thread=False, include_in_schema=False, opt=_SCRAPE)
    def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), media_type=content_type)

    return [healthz, readyz, metrics]
