"""OpenAPI at `/docs`: a page of our own, so that it works on a site without the internet."""

from __future__ import annotations

from importlib import resources
from typing import Any, Final

from litestar import Request, Router
from litestar.datastructures import ResponseHeader
from litestar.enums import MediaType
from litestar.exceptions import NotFoundException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin

from runtime.http import PAGE_HEADERS
from runtime.product import version

_FILES: Final = resources.files("projector.api").joinpath("page")
_TYPES: Final = {"docs.css": MediaType.CSS, "docs.js": "text/javascript"}


class _Page(OpenAPIRenderPlugin):
    """The page; it fetches `/docs/openapi.json`."""

    def __init__(self) -> None:
        super().__init__(path="/")
        self._page = _FILES.joinpath("docs.html").read_bytes()

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:  # noqa: ARG002  # the framework's signature
        here = b"" if request.scope["raw_path"].endswith(b"/") else b"docs/"  # one page, two addresses
        return self._page.replace(b"{here}", here)


class _File(OpenAPIRenderPlugin):
    """A file of the page."""

    def __init__(self, name: str) -> None:
        super().__init__(path=f"/{name}", media_type=_TYPES[name])  # type: ignore[arg-type]  # any type's name
        self._content = _FILES.joinpath(name).read_bytes()

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:  # noqa: ARG002  # the framework's signature
        return self._content


async def _refuse_strays(request: Request[Any, Any, Any]) -> None:
    """The framework has a page of its own for what is not there; ours are problem documents."""
    if request.path_params:
        raise NotFoundException


def openapi() -> OpenAPIConfig:
    """What describes the routes of one application: the framework keeps its description in it."""
    return OpenAPIConfig(
        title="MQTT edge gateway: query API",
        version=version(),
        description="Live statistics per device and region. Each answer says in `views` how current it is.",
        use_handler_docstrings=True,
        openapi_router=Router(
            "/docs",
            route_handlers=[],
            include_in_schema=False,
            before_request=_refuse_strays,
            response_headers=[ResponseHeader(name=name, value=value) for name, value in PAGE_HEADERS.items()],
        ),
        render_plugins=[_Page(), *map(_File, _TYPES), JsonRenderPlugin()],
    )
