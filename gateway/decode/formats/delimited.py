"""Lines of values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.errors import ConfigurationError

if TYPE_CHECKING:
    from gateway.decode.formats.form import Format
    from runtime.settings import Route


def make(route: Route, where: str) -> Format:
    """The format of a route."""
    raise ConfigurationError(f"{where}.format: {route.format} is not there yet")
