from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest
from litestar import get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath, FromQuery  # noqa: TC002  # Litestar reads the annotation
from prometheus_client import CollectorRegistry, Counter
from structlog.testing import capture_logs

from runtime.errors import Retry
from runtime.http import ESCAPED_SLASH, Health, create_app, health_routes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@get("/lost", sync_to_thread=False)
def lost() -> None:
    """What is not there."""
    raise NotFoundException("no device 'x'")


@get("/broken", sync_to_thread=False)
def broken() -> None:
    """A bug."""
    raise ValueError("postgresql://u:hunter2@h")


@get("/number", sync_to_thread=False)
def number(n: FromQuery[int]) -> int:
    """A parameter with a type."""
    return n


@get("/away", sync_to_thread=False)
def away() -> None:
    """What has to wait."""
    raise Retry("redis", "connection refused")


@get("/shelves/{name:str}/books", sync_to_thread=False)
def books(name: FromPath[str]) -> str:
    """What has a name."""
    return name.replace(ESCAPED_SLASH, "/")


@pytest.fixture
def health() -> Health:
    """What the application reports."""
    return Health()


@pytest.fixture
async def client(health: Health) -> AsyncIterator[httpx.AsyncClient]:
    """Asks an application without a network."""
    registry = CollectorRegistry()
    Counter("messages", "Seen.", registry=registry).inc(3)
    app = create_app([*health_routes(health, registry, "shelves"), lost, broken, number, away, books])
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)  # type: ignore[arg-type]  # narrower
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as asking:
        yield asking


async def test_healthz_is_200_whatever_is_away(client: httpx.AsyncClient, health: Health) -> None:
    """A process that waits is alive: nobody restarts it for that."""
    health.set("postgres", "connection refused")
    answer = await client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_readyz_names_what_is_waited_for(client: httpx.AsyncClient, health: Health) -> None:
    """503 with a reason for each component while anything is away, 200 when nothing is."""
    assert (await client.get("/readyz")).status_code == 200
    broker = "not started"
    health.set("postgres", "connection refused")
    health.watch("broker", lambda: broker)
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {
        "status": "waiting",
        "reasons": {"postgres": "connection refused", "broker": "not started"},
    }
    assert "shelves_ready 0.0" in (await client.get("/metrics")).text
    health.set("postgres", None)
    broker = ""
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})
    assert "shelves_ready 1.0" in (await client.get("/metrics")).text


async def test_metrics_are_prometheus_text(client: httpx.AsyncClient) -> None:
    """The process's own metrics and what the system knows of it, in the text format that Prometheus reads."""
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "messages_total 3.0" in answer.text
    assert "process_resident_memory_bytes" in answer.text
    openmetrics = await client.get(
        "/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"}
    )
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text")
    assert openmetrics.text.endswith("# EOF\n")


@pytest.mark.parametrize(
    ("path", "status", "title", "detail"),
    [
        ("/lost", 404, "Not Found", "no device 'x'"),
        ("/nowhere", 404, "Not Found", "Not Found"),
        ("/number?n=x", 400, "Bad Request", "n: Expected `int`, got `str`"),
        ("/schema", 404, "Not Found", "Not Found"),
    ],
)
async def test_errors_are_problem_documents(
    client: httpx.AsyncClient, path: str, status: int, title: str, detail: str
) -> None:
    """Every error is an RFC 9457 problem document, and there is no schema unless one is asked for."""
    answer = await client.get(path)
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["type"]) == (status, status, "about:blank")
    assert (problem["title"], problem["detail"]) == (title, detail)


async def test_a_wrong_method_says_which_are_right(client: httpx.AsyncClient) -> None:
    """405 keeps its Allow header."""
    answer = await client.post("/healthz")
    assert (answer.status_code, answer.json()["title"]) == (405, "Method Not Allowed")
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
    assert (await client.options("/healthz")).headers["allow"] == "GET, HEAD, OPTIONS"


async def test_a_bug_is_logged_and_not_shown(client: httpx.AsyncClient) -> None:
    """An unforeseen error is a problem document without its inside, and a line in the log."""
    with capture_logs() as logs:
        answer = await client.get("/broken")
    assert (answer.status_code, answer.json()["title"]) == (500, "Internal Server Error")
    assert "hunter2" not in answer.text
    assert [line["event"] for line in logs] == ["http_request_failed"]


async def test_what_has_to_wait_says_until_when(client: httpx.AsyncClient) -> None:
    """Something that is away is a 503 with its name and Retry-After."""
    answer = await client.get("/away")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["detail"] == "cannot be answered now, ask again: redis: connection refused"


async def test_names_in_paths_may_hold_anything(client: httpx.AsyncClient) -> None:
    """An escaped slash belongs to the name; an escaped percent sign is no escape of its own."""
    for sent, name in (("a%2Fb", "a/b"), ("%2f", "/"), ("a%252Fb", "a%2Fb"), ("%C3%BC%20%3F", "ü ?")):
        answer = await client.get(f"/shelves/{sent}/books")
        assert (answer.status_code, answer.text) == (200, name)
    assert (await client.get("/shelves/a/b/books")).status_code == 404


async def test_head_is_answered_where_get_is(client: httpx.AsyncClient) -> None:
    """HEAD has the headers of GET, its length among them, and no body."""
    for path, status in (("/healthz", 200), ("/readyz", 200), ("/lost", 404)):
        asked, head = await client.get(path), await client.head(path)
        assert (head.status_code, head.content) == (status, b"")
        assert head.headers == asked.headers
