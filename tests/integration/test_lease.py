"""One gateway a stream, on a real PostgreSQL."""

from __future__ import annotations

import asyncpg
import pytest

from gateway import lease as lease_module
from gateway.lease import Lease
from runtime.errors import Stop
from runtime.http import Health


def make(dsn: str, client_id: str) -> Lease:
    return Lease(dsn, stream=3, client_id=client_id, health=Health())


async def test_a_second_gateway_is_refused(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one gateway holds a stream, another is refused and told who holds it and what to change."""
    monkeypatch.setattr(lease_module, "_ATTEMPTS", 2)
    first, second = make(database, "first"), make(database, "second")
    await first.acquire()
    with pytest.raises(Stop, match=r"stream 3 is held by 'gateway first.*gateway\.stream"):
        await second.acquire()
    await first.release()
    await second.acquire()
    await second.release()


async def test_a_killed_gateway_leaves_the_stream_free(database: str) -> None:
    """The lock goes with the holder's connection: a restart right after a crash is not refused."""
    first, second = make(database, "first"), make(database, "second")
    await first.acquire()
    assert first._connection is not None
    first._connection.terminate()
    await second.acquire()
    assert second.epoch == first.epoch
    connection = await asyncpg.connect(database)
    assert await connection.fetchval("SELECT owner FROM streams WHERE stream = 3") == second.owner
    await connection.close()
    await second.release()
