"""The query API. JSON; errors are RFC 9457 problem documents; OpenAPI at `/docs`."""

from projector.api.docs import openapi
from projector.api.routes import query_routes

__all__ = ["openapi", "query_routes"]
