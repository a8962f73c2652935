from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from redis import exceptions

from deploy.local.server import free_port
from deploy.local.services import LocalServices
from runtime.errors import ConfigurationError, Retry
from runtime.redis import as_retry, open_redis
from runtime.secret import FromFile
from tests.faults.watch import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from deploy.local.servers import Redis


@pytest.fixture
async def server() -> AsyncIterator[Redis]:
    """A Redis of this test's own, to be stopped."""
    async with LocalServices(["redis"], environ={}) as own:
        yield own.redis


async def test_replies_are_bytes(redis_url: str) -> None:
    """A client talks to the database that its URL names, in bytes."""
    async with open_redis(redis_url) as client:
        await client.set("k", "v")
        assert await client.get("k") == b"v"


@pytest.mark.parametrize(
    "url",
    ["hunter2", "http://h", "redis://u:hunter2@h:port", "redis://u:hunter2@h/zero", "redis://u:hunter2@[::1"],
)
def test_a_malformed_url_is_refused_without_quoting_it(url: str) -> None:
    """No waiting mends a malformed URL; the message says what one looks like and quotes nothing."""
    with pytest.raises(ConfigurationError, match=r"^redis\.url: .*such as redis://host") as caught:
        open_redis(url)
    assert "hunter2" not in str(caught.value)


async def test_a_server_that_is_away_is_a_retry() -> None:
    """Nothing listens: the error comes at once and is a reason to wait."""
    async with open_redis(f"redis://:hunter2@127.0.0.1:{free_port()}/0") as client:
        with pytest.raises(exceptions.ConnectionError) as caught:
            await client.ping()
    retry = as_retry(caught.value)
    assert isinstance(retry, Retry)
    assert retry.what == "redis"
    assert "hunter2" not in retry.reason


async def test_a_server_that_dies_and_comes_back(server: Redis) -> None:
    """The same client fails while the server is away, as `Retry`, and works when it is back."""
    async with open_redis(server.url()) as client:
        await client.ping()
        await server.kill()
        for _ in range(2):
            with pytest.raises((exceptions.RedisError, OSError)) as caught:
                await client.ping()
            assert as_retry(caught.value)
        await server.start()
        assert await client.ping()


async def test_connections_that_the_server_has_closed(server: Redis) -> None:
    """They are opened again before anything is sent, those at hand and those in the pool."""
    async with open_redis(server.url()) as client, open_redis(server.url()) as admin:

        async def ping_together() -> bool:
            async with client.pipeline() as pipeline:
                pipeline.ping()
                return await pipeline.execute() == [True]

        async def alone() -> str:
            others = len(await admin.client_list()) - 1
            return f"{others} others" if others else ""

        for ping in (client.ping, ping_together):
            await asyncio.gather(*(ping() for _ in range(3)))
            await admin.client_kill_filter(_type="normal", skipme=True)
            await until(alone, within_s=20)  # they are closed a moment later
            await admin.ping()  # the loop has been around since
            assert await asyncio.gather(*(ping() for _ in range(3))) == [True] * 3


async def test_a_url_that_allows_one_connection(redis_url: str) -> None:
    """A call leaves it to a pipeline, and the other way round."""
    async with open_redis(f"{redis_url}?max_connections=1") as client:
        for _ in range(2):
            assert await client.ping()
            async with client.pipeline() as pipeline:
                pipeline.ping()
                assert await pipeline.execute() == [True]


async def test_no_call_has_the_answer_of_another(redis_url: str) -> None:
    """However many there are at once, and whoever stops waiting for one."""
    async with open_redis(redis_url) as client:
        for each in range(20):
            await client.set(f"k{each}", each)
        for late in range(40):
            calls = [asyncio.ensure_future(client.get(f"k{each}")) for each in range(20)]
            for _ in range(late // 4):
                await asyncio.sleep(0)
            for call in calls[late % 3 :: 3]:
                call.cancel()
            found = await asyncio.gather(*calls, return_exceptions=True)
            assert not [
                (each, its)
                for each, its in enumerate(found)
                if not isinstance(its, asyncio.CancelledError) and its != str(each).encode()
            ]
        assert await client.get("k7") == b"7"


async def test_states_of_the_server_that_pass(redis_url: str) -> None:
    """A missing right or a refused write is waited for; a wrong command or type is a fault of ours."""
    async with open_redis(redis_url) as client:
        await client.set("text", "x")
        with pytest.raises(exceptions.ResponseError) as caught:
            await client.incr("text")
        assert as_retry(caught.value) is None
    for error in (
        exceptions.AuthenticationError("invalid username-password pair"),
        exceptions.ResponseError("MISCONF Redis is configured to save RDB snapshots"),
        exceptions.ReadOnlyError("You can't write against a read only replica."),
        exceptions.BusyLoadingError("Redis is loading the dataset in memory"),
        exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
        TimeoutError(),
    ):
        assert as_retry(error)
    assert as_retry(exceptions.NoScriptError("No matching script.")) is None
    assert as_retry(ValueError("x")) is None


async def test_a_password_that_was_changed_needs_no_restart(server: Redis, tmp_path: Path) -> None:
    """A URL from a file is read anew at each connection; a file that is gone is a `Retry` that names it."""
    source = tmp_path / "url"

    def write(password: str) -> None:
        source.write_text(f"redis://:{password}@127.0.0.1:{server.port}/0\n")

    async with open_redis(server.url()) as admin:
        await admin.config_set("requirepass", "first%")
        write("first%25")
        async with open_redis(FromFile.read(str(source))) as client:
            assert await client.ping()
            await admin.config_set("requirepass", "second")
            write("second")
            await client.connection_pool.disconnect()
            assert await client.ping()
            await client.connection_pool.disconnect()
            source.unlink()
            with pytest.raises(exceptions.AuthenticationError) as caught:
                await client.ping()
    retry = as_retry(caught.value)
    assert retry is not None
    assert str(source) in retry.reason
