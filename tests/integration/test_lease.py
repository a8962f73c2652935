"""One gateway a stream, on a real PostgreSQL."""

from __future__ import annotations

import uuid

import asyncpg
import pytest

from gateway import lease as lease_module
from gateway.lease import Lease
from gateway.slot import Slot
from runtime.errors import Stop
from runtime.http import Health


def make(dsn: str, client_id: str, silent_s: float = 30.0, stream: int = 3) -> Lease:
    return Lease(dsn, slot=Slot(stream, client_id, "b:1"), health=Health(), silent_s=silent_s)


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


async def test_a_silent_gateway_is_replaced(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A holder that gives no sign of life loses the stream to the next, and stops when it wakes up."""
    monkeypatch.setattr(lease_module, "_BEAT_INTERVAL_S", 0.05)
    first, second = make(database, "first"), make(database, "second", silent_s=0.2)
    await first.acquire()
    await second.acquire()
    with pytest.raises(Stop, match=r"taken over by another gateway|is held by"):
        await first.hold()
    await second.release()


async def test_signs_of_life_keep_the_stream(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A holder that is alive is never replaced, and takes its lock again when the connection was cut."""
    monkeypatch.setattr(lease_module, "_ATTEMPTS", 2)
    first, second = make(database, "first"), make(database, "second", silent_s=5.0)
    await first.acquire()
    assert first._connection is not None
    first._connection.terminate()
    await first._beat()
    with pytest.raises(Stop, match="is held by 'gateway first"):
        await second.acquire()
    await first._beat()
    await first.release()


async def test_one_client_id_for_two_streams_is_refused(database: str) -> None:
    """Two gateways that would fight over one session at the broker: the second is refused and told why."""
    first, second = make(database, "same"), make(database, "same", stream=4)
    await first.acquire()
    with pytest.raises(Stop, match=r"client id same at b:1 is held by 'gateway same"):
        await second.acquire()
    await first.release()


async def test_another_server_is_another_history(database: str) -> None:
    """A stream that comes to another cluster or timeline gets a new epoch, at a start and at a failover."""
    first, second = make(database, "first"), make(database, "second")
    await first.acquire()
    was = first.epoch
    connection = await asyncpg.connect(database)
    assert await connection.fetchval("SELECT cluster FROM streams") is not None

    async def move() -> None:
        await connection.execute("UPDATE streams SET cluster = '7/00000001'")

    await move()
    await first._beat()
    assert first.epoch == was, "on one connection the server stays the same"
    assert first._connection is not None
    first._connection.terminate()
    await first._beat()
    await first._beat()
    assert first.epoch == await connection.fetchval("SELECT epoch::text FROM streams") != was
    await first.release()
    await move()
    await second.acquire()
    assert second.epoch == await connection.fetchval("SELECT epoch::text FROM streams") != first.epoch
    await second.release()
    await connection.close()


@pytest.mark.parametrize("told", [True, False])
async def test_a_server_that_does_not_tell(database: str, *, told: bool) -> None:
    """An ordinary role may ask which cluster it is; where it may not, the epoch stays and all else works."""
    connection = await asyncpg.connect(database)
    role = f"plain_{uuid.uuid4().hex}"
    await connection.execute(f"CREATE ROLE {role} LOGIN")
    await connection.execute(f"GRANT SELECT, INSERT, UPDATE ON stream_leases TO {role}")
    await connection.execute(f"GRANT SELECT ON streams, outbox TO {role}")
    if not told:
        await connection.execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM public")
    lease = make(database.replace("//postgres@", f"//{role}@"), "plain")
    await lease.acquire()
    assert await connection.fetchval("SELECT cluster IS NOT NULL FROM streams") is told
    assert await connection.fetchval("SELECT epoch::text FROM streams") == lease.epoch
    await lease.release()
    await connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
    await connection.close()
