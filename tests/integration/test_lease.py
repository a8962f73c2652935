"""One gateway a stream, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import uuid
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
import structlog.testing

from gateway import lease as lease_module
from gateway import slot as slot_module
from gateway.lease import Lease
from gateway.slot import Slot, is_gone, is_of_client
from runtime.errors import Stop
from runtime.http import Health
from runtime.postgres import load_queries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

queries = load_queries("gateway")


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


async def test_another_token_for_the_same_holder(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has taken another token keeps the stream, though the answer was lost and others want it."""
    monkeypatch.setattr(lease_module, "_ATTEMPTS", 2)
    lease, other = make(database, "first"), make(database, "second")
    await lease.acquire()
    before, done = lease.owner, 0
    fetchrow: Any = asyncpg.Connection.fetchrow

    async def lose_the_first(connection: object, query: str, *arguments: object, **options: object) -> object:
        nonlocal done
        row = await fetchrow(connection, query, *arguments, **options)
        done += query == queries.renew_owner
        if query == queries.renew_owner and done == 1:
            raise ConnectionError
        return row

    monkeypatch.setattr(asyncpg.Connection, "fetchrow", lose_the_first)
    renewing = asyncio.create_task(lease.renew())
    await asyncio.gather(renewing, lease._beat())
    assert (done, lease.owner != before) == (2, True)
    with pytest.raises(Stop, match="is held by 'gateway first"):
        await other.acquire()
    connection = await asyncpg.connect(database)
    monkeypatch.setattr(asyncpg.Connection, "fetchrow", fetchrow)
    assert await connection.fetchval("SELECT owner FROM streams WHERE stream = 3") == lease.owner
    await connection.execute("UPDATE stream_leases SET owner = gen_random_uuid()")
    with pytest.raises(Stop, match="stream 3 was taken over by another gateway"):
        await lease.renew()
    await connection.close()
    await lease.release()


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


async def test_a_key_for_each_history(database: str) -> None:
    """Who takes a stream over signs with its key; another history has another, at once."""
    connection = await asyncpg.connect(database)
    kept = "SELECT key FROM stream_keys JOIN streams USING (stream, epoch) WHERE stream = 3"
    first, second, beside = make(database, "first"), make(database, "second"), make(database, "b", stream=4)
    await first.acquire()
    was = first.key
    assert was is not None
    assert was == await connection.fetchval(kept)
    await beside.acquire()
    assert beside.key not in {None, was}
    await first.release()
    await second.acquire()
    assert second.key == was
    await connection.execute("UPDATE stream_leases SET epoch = gen_random_uuid() WHERE stream = 3")
    await second._beat()
    assert second.key == await connection.fetchval(kept) != was
    await connection.close()
    await beside.release()
    await second.release()


async def test_without_the_right_to_sign(database: str) -> None:
    """A gateway whose role may not write keys works, publishes unsigned and says which right is missing."""
    connection = await asyncpg.connect(database)
    role = f"unsigned_{uuid.uuid4().hex}"
    await connection.execute(f"CREATE ROLE {role} LOGIN")
    await connection.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
    await connection.execute(f"REVOKE ALL ON stream_keys FROM {role}")
    lease = make(database.replace("//postgres@", f"//{role}@"), "unsigned")
    with structlog.testing.capture_logs() as logs:
        await lease.acquire()
    assert lease.key is None
    (told,) = [line for line in logs if line["event"] == "rows_unsigned"]
    assert told["advice"] == "GRANT SELECT, INSERT, UPDATE ON stream_keys TO the gateway's role"
    await lease.release()
    await connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
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


@asynccontextmanager
async def left_behind(dsn: str, slot: Slot) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A lock that the server still sees held by a process, which is not there any more."""
    connection = await asyncpg.connect(dsn, server_settings={"application_name": slot.holder_name})
    await connection.execute(queries.lock_stream, slot.stream)
    await connection.execute(queries.lock_client, slot.session)
    await connection.execute(queries.claim_stream, slot.stream, uuid.uuid4(), slot.owner_name)
    yield connection
    connection.terminate()


async def ended_pid() -> int:
    """The id of a process that was here and is not any more."""
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()
    return process.pid


async def test_a_predecessor_that_is_gone_is_not_waited_for(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection looks alive, the network failed first; its process was here, and is not."""
    pid = await ended_pid()
    with monkeypatch.context() as there:
        there.setattr(os, "getpid", lambda: pid)
        slots = [Slot(3, "gateway", "b:1"), Slot(4, "gateway", "b:1")]
        assert all(f", pid {pid}/" in slot.holder_name for slot in slots)
    for slot, client_id in zip(slots, ("another name", "gateway"), strict=True):
        async with left_behind(database, slot):
            successor = make(database, client_id)
            async with asyncio.timeout(2):
                await successor.acquire()
            await successor.release()


def test_a_process_that_is_hidden_is_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under `hidepid` or systemd's `ProtectProc` another user's gateway is not in /proc, and alive."""
    slot = Slot(3, "gateway", "b:1")
    name = slot.holder_name
    monkeypatch.setattr(Path, "exists", lambda _: False)
    assert not is_gone(name)


async def test_a_predecessor_of_elsewhere_is_given_two_signs_of_life(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a process cannot be looked for, the same client takes over when it stays silent."""
    monkeypatch.setattr(lease_module, "_ATTEMPTS", 2)
    monkeypatch.setattr(lease_module, "_BEAT_INTERVAL_S", 1.0)
    monkeypatch.setattr(lease_module, "_MISSED_S", 1.5)
    pid = await ended_pid()
    with monkeypatch.context() as there:
        there.setattr(os, "getpid", lambda: pid)
        there.setattr(slot_module, "_place", lambda: "abcdef")
        slot = Slot(3, "gateway", "b:1")
        assert slot.holder_name.endswith("/abcdef")
    async with left_behind(database, slot) as connection:
        with pytest.raises(Stop, match="is held by"):
            await make(database, "somebody else").acquire()
        await connection.execute("UPDATE stream_leases SET seen_at = now()")
        with pytest.raises(Stop, match="is held by"):
            await make(database, "gateway").acquire()
        await connection.execute("SELECT pg_sleep(1)")
        successor = make(database, "gateway")
        await successor.acquire()
        await successor.release()


async def test_the_lock_has_keep_alives(database: str) -> None:
    """The server notices within a minute that a machine vanished: the lock goes with it."""
    lease = make(database, "gateway")
    await lease.acquire()
    assert lease._connection is not None
    assert await lease._connection.fetchval("SHOW tcp_user_timeout") == "60000"
    await lease.release()


@pytest.mark.parametrize("client_id", ["gateway-0", "g" * 128, "größer", "a on b, pid 1/ffffff"])
async def test_names_of_holders(database: str, client_id: str) -> None:
    """Whatever the client id, PostgreSQL shows the whole name, and it names this process, which is there."""
    slot = Slot(3, client_id)
    connection = await asyncpg.connect(database, server_settings={"application_name": slot.holder_name})
    shown = await connection.fetchval("SHOW application_name")
    assert shown == slot.holder_name
    assert f", pid {os.getpid()}/" in shown
    assert not is_gone(shown)
    assert is_of_client(shown, slot)
    assert not is_of_client(shown, Slot(3, "other"))
    await connection.close()


async def noted(connection: asyncpg.Connection[asyncpg.Record]) -> tuple[int, ...]:
    """What the stream's row says of its end, and of how far it is published."""
    row = await connection.fetchrow("SELECT head, published FROM stream_leases")
    assert row is not None
    return tuple(row)


async def test_how_far_a_stream_is_published_goes_with_the_signs_of_life(database: str) -> None:
    """It is noted at each and at the end, and never beyond where the stream ends."""
    lease = make(database, "gateway")
    await lease.acquire()
    connection = await asyncpg.connect(database)
    await connection.execute("INSERT INTO outbox SELECT 3, n, 0, '[]', now() FROM generate_series(1, 5) AS n")
    lease.publishing = lambda: 3
    await lease._beat()
    assert await noted(connection) == (5, 3)
    await connection.execute("UPDATE stream_leases SET head = 0; DELETE FROM outbox WHERE n > 2")
    await lease._beat()
    assert await noted(connection) == (2, 2)
    await connection.execute("INSERT INTO outbox SELECT 3, n, 0, '[]', now() FROM generate_series(3, 4) AS n")
    lease.publishing = lambda: 4
    await lease.release()
    successor = make(database, "gateway")
    await successor.acquire()
    assert (successor.head, successor.published) == (4, 4)
    await successor.release()
    await connection.close()
