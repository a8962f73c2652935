"""OpenAPI at `/docs`: a page of our own, so that it works on a site without the internet."""

from __future__ import annotations

from importlib import resources
from importlib.metadata import version
from typing import Any, Final

from litestar import Request, Router
from litestar.exceptions import NotFoundException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin

_PAGE: Final = resources.files("projector.api").joinpath("docs.html").read_bytes()


class _Page(OpenAPIRenderPlugin):
    """The page; it fetches `/docs/openapi.json`."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:  # noqa: ARG002  # the framework's signature
        return _PAGE


async def _refuse_strays(request: Request[Any, Any, Any]) -> None:
    """The framework has a page of its own for what is not there; ours are problem documents."""
    if request.path_params:
        raise NotFoundException


def openapi() -> OpenAPIConfig:
    """What describes the routes of one application: the framework keeps its description in it."""
    return OpenAPIConfig(
        title="MQTT edge gateway: query API",
        version=version("mqtt-edge-gateway"),
        description="Live statistics per device and region. Each answer says in `views` how current it is.",
        use_handler_docstrings=True,
        openapi_router=Router(
            "/docs", route_handlers=[], include_in_schema=False, before_request=_refuse_strays
        ),
        render_plugins=[_Page(path="/"), JsonRenderPlugin()],
    )
