"""The small HTTP face of a process: health, readiness, metrics, and the way an application is served."""

from runtime.http.application import ESCAPED_SLASH, STORABLE, UNCOMPRESSED, create_app
from runtime.http.health import Health, health_routes
from runtime.http.hosts import Hosts
from runtime.http.server import serve

__all__ = [
    "ESCAPED_SLASH",
    "STORABLE",
    "UNCOMPRESSED",
    "Health",
    "Hosts",
    "create_app",
    "health_routes",
    "serve",
]
