from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import httpx
import pytest
from litestar import get
from prometheus_client import CollectorRegistry

from runtime.http import Health, Hosts, create_app, health_routes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MACHINE = socket.gethostname()
HOSTS = Hosts(["edge.example", "*.plant.example"], setting="projector.hosts")


@get("/devices", sync_to_thread=False)
def devices() -> str:
    """What a stranger's page would read."""
    return "secret"


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """Asks an application that answers to a few names."""
    app = create_app([devices, *health_routes(Health(), CollectorRegistry(), "test")], hosts=HOSTS)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)  # type: ignore[arg-type]  # narrower
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as asking:
        yield asking


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.0.0.1:9102", "10.1.2.3:80", "[::1]:9102", "[::1]", "[fe80::1]"),
        *(
            "localhost",
            "LocalHost:9102",
            "localhost.",
            MACHINE,
            f"{MACHINE.upper()}:9102",
            f"{MACHINE}.local",
        ),
        *("edge.example", "Edge.Example:443", "a.plant.example", "a.b.plant.example:1"),
    ],
)
async def test_names_that_are_ours(client: httpx.AsyncClient, host: str) -> None:
    """Addresses, the machine's names and those that are set, whatever the port and the case."""
    assert HOSTS.has(host)
    assert (await client.get("/devices", headers={"host": host})).text == "secret"


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "edge.example.evil.example", "plant.example", "notplant.example", "1.2.3.4.nip.io"),
        *(
            "",
            ":80",
            "127.0.0.1.evil.example:9102",
            "edge.example:80:80",
            "edge.example@evil",
            "0x7f.1",
            "[::1",
        ),
    ],
)
async def test_names_that_are_not(client: httpx.AsyncClient, host: str) -> None:
    """Refused with the name and the setting to add it to, the answer's body kept back."""
    answer = await client.get("/devices", headers={"host": host})
    assert (answer.status_code, answer.headers["content-type"]) == (421, "application/problem+json")
    assert answer.json()["title"] == "Misdirected Request"
    assert repr(host) in answer.json()["detail"]
    assert "projector.hosts" in answer.json()["detail"]
    assert (await client.head("/devices", headers={"host": host})).status_code == 421


async def test_probes_and_prometheus_come_by_any_name(client: httpx.AsyncClient) -> None:
    """Health and metrics name no device, and are asked by service names."""
    for path in ("/healthz", "/readyz", "/metrics"):
        assert (await client.get(path, headers={"host": "projector.edge.svc:9102"})).status_code == 200


def test_any_name() -> None:
    """A star is any."""
    assert Hosts(["*"], setting="s").has("evil.example")
