"""The small HTTP face of a process: health, readiness, metrics, and the way an application is served."""

from runtime.http.access import COOKIE, SCOPE, Access
from runtime.http.application import ESCAPED_SLASH, PAGE_HEADERS, STORABLE, UNCOMPRESSED, create_app
from runtime.http.front import Front
from runtime.http.health import Health, health_routes
from runtime.http.hosts import Hosts
from runtime.http.proxies import FORWARDED
from runtime.http.server import serve

__all__ = [
    "COOKIE",
    "ESCAPED_SLASH",
    "FORWARDED",
    "PAGE_HEADERS",
    "SCOPE",
    "STORABLE",
    "UNCOMPRESSED",
    "Access",
    "Front",
    "Health",
    "Hosts",
    "create_app",
    "health_routes",
    "serve",
]
