"""Real servers for the tests, and for each test its own corner of them.

Each xdist worker starts its own mosquitto, PostgreSQL and Redis when its first test asks for them (half a
second), and their warden ends them with the worker, however that ends. The servers are always private,
whatever the environment names: tests drop and flush what they touch. A test gets its own database, Redis
database, topics and client ids, so nothing of another test is in sight.
"""

from __future__ import annotations

import os
from itertools import count
from typing import TYPE_CHECKING
from uuid import uuid4

import hypothesis
import pytest
import pytest_asyncio
import structlog
from redis.asyncio import Redis as RedisClient

from deploy.local.server import reserve_port
from deploy.local.services import LocalServices
from runtime.settings import Settings, load
from tests.support.commands import RunningCommand
from tests.support.databases import Databases, forget_the_disk
from tests.support.roles import least_rights, make_redis_users, redis_refusals

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path


hypothesis.settings.register_profile("untimed", deadline=None)  # speed is checked in bench/
hypothesis.settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", "full: a long one, which `make full` and `make faults` run")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long ones out unless all are asked for, by FULL=1."""
    if os.environ.get("FULL"):
        return
    full = [item for item in items if item.get_closest_marker("full")]
    if full:
        config.hook.pytest_deselected(items=full)
        items[:] = [item for item in items if item not in full]


@pytest.fixture(autouse=True, scope="session")
def _no_settings_from_outside() -> Iterator[None]:
    """Nothing in the environment of whoever runs the tests changes what they test."""
    with pytest.MonkeyPatch.context() as patch:
        for variable in [name for name in os.environ if name.startswith("EDGE_")]:
            patch.delenv(variable)
        yield


@pytest.fixture(autouse=True)
def _logs_as_at_first() -> None:
    """A test that ran a command in this process may have left a level at which less is logged."""
    structlog.reset_defaults()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def services() -> AsyncIterator[LocalServices]:
    """mosquitto, PostgreSQL and Redis, shared by the worker's tests: to stop one, start your own."""
    async with LocalServices(environ={}) as running:
        await forget_the_disk(running.postgres)
        await make_redis_users(running)
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def durable(services: LocalServices) -> AsyncIterator[None]:
    """The server writes as a real one does, for those that look at that."""
    await forget_the_disk(services.postgres, forget=False)
    yield
    await forget_the_disk(services.postgres)


@pytest.fixture(scope="session")
def databases(services: LocalServices) -> Databases:
    """Makes databases; most tests want `database`."""
    return Databases(services.postgres)


@pytest.fixture(scope="session")
def redis_numbers() -> Iterator[int]:
    """Numbers for Redis databases."""
    return count()


@pytest.fixture
async def database(databases: Databases) -> AsyncIterator[str]:
    """The DSN of a fresh database with the current schema."""
    dsn = await databases.create()
    yield dsn
    await databases.drop(dsn)


@pytest.fixture
async def empty_database(databases: Databases) -> AsyncIterator[str]:
    """The DSN of a fresh database without a schema."""
    dsn = await databases.create_empty()
    yield dsn
    await databases.drop(dsn)


@pytest.fixture
async def redis_url(services: LocalServices, redis_numbers: Iterator[int]) -> str:
    """The URL of an empty Redis database."""
    url = services.redis.url(next(redis_numbers) % services.redis.databases)
    async with RedisClient.from_url(url) as client:
        await client.flushdb()
    return url


@pytest.fixture
def broker_port(services: LocalServices) -> int:
    """The broker's port on 127.0.0.1."""
    return services.mqtt_port


@pytest.fixture
def unique() -> str:
    """A word that no other test has: for client ids, topics and whatever else is shared."""
    return f"t{uuid4().hex[:12]}"


@pytest.fixture
def topic_prefix(unique: str) -> str:
    """The test's own topics: its devices publish to `<topic_prefix>/<device id>/telemetry`."""
    return f"{unique}/devices"


@pytest.fixture
def http_ports() -> Iterator[tuple[int, int]]:
    """Where `gateway` and `projector` listen: held, so that no other worker's test takes one of them."""
    with reserve_port() as gateway, reserve_port() as projector:
        yield gateway.getsockname()[1], projector.getsockname()[1]


@pytest.fixture
def config_file(
    services: LocalServices,
    *,
    database: str,
    redis_url: str,
    http_ports: tuple[int, int],
    unique: str,
    topic_prefix: str,
    tmp_path: Path,
) -> Path:
    """A configuration file for `gateway` and `projector` in this test's corner."""
    path = tmp_path / "edge.toml"
    path.write_text(
        f"""
[broker]
host = "{services.mqtt_host}"
port = {services.mqtt_port}
client_id = "{unique}-gateway"

[events]
topic = "{unique}/events/v1"

[postgres]
dsn = "{database}"

[redis]
url = "{redis_url}"

[gateway]
http = "127.0.0.1:{http_ports[0]}"

[projector]
http = "127.0.0.1:{http_ports[1]}"
client_id = "{unique}-projector"

[spool]
path = ""

[[route]]
topic = "{topic_prefix}/{{device_id}}/telemetry"
""",
        encoding="utf-8",
    )
    return path


@pytest.fixture
def settings(config_file: Path) -> Settings:
    """The same configuration, loaded."""
    return load(config_file, environ={})


@pytest.fixture
async def run_command(
    services: LocalServices, config_file: Path, tmp_path: Path, *, database: str, redis_url: str
) -> AsyncIterator[Callable[..., Awaitable[RunningCommand]]]:
    """Starts `gateway …` and `projector …` in this test's corner.

    `await run_command("gateway", "run", EDGE_GATEWAY_STREAM="1")`: keyword arguments are further environment
    variables. Whatever still runs when the test ends is killed.

    Each has what its list of rights says, and no more.
    """
    started: list[RunningCommand] = []
    await redis_refusals(services)  # what tests before asked for that they must not have

    async def run(*arguments: str, **environment: str) -> RunningCommand:
        env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1"}
        env |= least_rights(arguments, config_file, database, redis_url)
        if "EDGE_REDIS_URL" in environment:
            env.pop("EDGE_REDIS_API_URL", None)  # of the server that it would have had
        env |= {"EDGE_CONFIG": str(config_file), **environment}
        command = await RunningCommand.start(*arguments, env=env, process_group=services.place.group)
        started.append(command)
        return command

    yield run
    for command in started:
        await command.kill()
    assert [line for command in started for line in command.leaked()] == []
    assert await redis_refusals(services) == []
