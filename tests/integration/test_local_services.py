"""The launcher of local servers, used as the demo, the tests and the benchmarks use it."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import asyncpg
import psutil
import pytest
from redis.asyncio import Redis as RedisClient

from deploy.local import install, server
from deploy.local.server import Place, ServiceError, free_port, reserve_port
from deploy.local.services import LocalServices
from runtime.settings import load
from tests.faults.watch import until

if TYPE_CHECKING:
    from pathlib import Path

    from deploy.local.services import Name


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its status to be taken does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_every_server_answers_when_start_returns(services: LocalServices) -> None:
    """Ready means ready: each server answers a round trip at once, at the address that is told."""
    settings = load(environ=services.environment())
    assert (settings.broker.host, settings.broker.port) == (services.mqtt_host, services.mqtt_port)
    await services.mosquitto.round_trip()
    connection = await asyncpg.connect(settings.postgres.dsn)
    await connection.close()
    async with RedisClient.from_url(settings.redis.url) as client:
        assert (await client.config_get("append*"))["appendonly"] == "yes"
        assert (await client.config_get("append*"))["appendfsync"] == "everysec"


async def test_no_server_runs_as_root(services: LocalServices) -> None:
    """PostgreSQL refuses root, and the others have no need of it."""
    processes = [psutil.Process(pid) for pids in services.pids().values() for pid in pids]
    assert processes
    assert all(process.uids().real != 0 for process in processes)


async def test_nothing_is_left_after_close() -> None:
    """Leaving the context ends every process and removes the folder."""
    async with LocalServices(environ={}) as running:
        pids = [pid for found in running.pids().values() for pid in found]
        folder = running.place.folder
        assert len(pids) >= 3
        assert folder.exists()
    assert not any(alive(pid) for pid in pids)
    assert not folder.exists()


@pytest.mark.parametrize("end", ["stop", "kill"])
@pytest.mark.parametrize("name", ["mosquitto", "postgres", "redis"])
async def test_a_server_comes_back_on_its_port(name: Name, end: str) -> None:
    """A stopped or killed server is gone, and starts again with its data where clients look for it."""
    async with LocalServices([name], environ={}) as running:
        subject = getattr(running, name)
        before, port = subject.pids(), subject.port
        await getattr(subject, end)()
        assert not subject.running
        assert subject.pids() == []
        assert not any(alive(pid) for pid in before)
        with pytest.raises(Exception, match=r"."):  # whatever its driver says
            await subject.round_trip()
        await subject.start()
        await subject.round_trip()
        assert subject.port == port


async def test_postgres_can_be_stopped_without_a_checkpoint() -> None:
    """`immediate` leaves recovery to the next start, as a crash does."""
    async with LocalServices(["postgres"], environ={}) as running:
        await running.postgres.stop("immediate")
        await running.postgres.start()
        assert "database system was not properly shut down" in running.postgres.log.read_text()


async def test_a_standby_follows_until_it_is_promoted() -> None:
    """A standby has what its primary had, and as a primary of its own takes more; it ends with the rest.

    Like any server that is started here it writes as a real one does.
    """
    async with LocalServices(["postgres"], environ={}) as running:
        standby = await running.start_standby(running.postgres)
        pids = standby.pids()
        primary = await asyncpg.connect(running.postgres.dsn())
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert await primary.fetchval("SELECT current_setting($1)", setting) == "on"
        await primary.execute("CREATE TABLE t AS SELECT 1 AS x")
        lsn = await primary.fetchval("SELECT pg_current_wal_flush_lsn()::text")

        async def replayed() -> str:
            at = await primary.fetchval("SELECT replay_lsn >= $1::text::pg_lsn FROM pg_stat_replication", lsn)
            return "" if at else f"the standby is not at {lsn}"

        await until(replayed, within_s=20)
        await primary.close()
        await running.postgres.kill()
        await standby.promote()
        connection = await asyncpg.connect(standby.dsn())
        await connection.execute("INSERT INTO t VALUES (2)")
        assert await connection.fetchval("SELECT sum(x) FROM t") == 3
        await connection.close()
    assert not any(alive(pid) for pid in pids)


async def test_the_brokers_configuration_starts_without_a_complaint(services: LocalServices) -> None:
    """Every option of `mosquitto.conf` is known to the broker and none is deprecated."""
    log = services.mosquitto.log.read_text()
    assert "running" in log
    assert not [
        line for line in log.splitlines() if "Error" in line or "Warning" in line or "deprecated" in line
    ]


async def test_redis_keeps_what_it_was_told_over_a_stop() -> None:
    """The append-only file is on: a restart loses nothing."""
    async with LocalServices(["redis"], environ={}) as running:
        async with RedisClient.from_url(running.redis_url) as client:
            await client.set("kept", "yes")
        await running.redis.stop()
        await running.redis.start()
        async with RedisClient.from_url(running.redis_url) as client:
            assert await client.get("kept") == b"yes"


async def test_a_server_that_dies_is_told_with_its_log() -> None:
    """A failing start says why, in the server's own words."""
    async with LocalServices(["postgres"], environ={}) as running:
        await running.postgres.stop()
        (running.postgres.folder / "data" / "PG_VERSION").unlink()
        with pytest.raises(ServiceError, match="is not a valid data directory"):
            await running.postgres.start()


async def test_servers_named_by_the_environment_are_used(
    services: LocalServices, capsys: pytest.CaptureFixture[str]
) -> None:
    """What runs already is used and left alone; only the rest is started. No secret is printed."""
    given = {
        "EDGE_BROKER_PORT": str(services.mqtt_port),
        "EDGE_POSTGRES_DSN": services.postgres_dsn.replace("postgres@", "postgres:secret@"),
    }
    async with LocalServices(environ=given) as running:
        assert list(running.pids()) == ["redis"]
        assert running.mqtt_port == services.mqtt_port
        assert running.environment()["EDGE_POSTGRES_DSN"] == given["EDGE_POSTGRES_DSN"]
        assert running.redis_url != services.redis_url
        with pytest.raises(ServiceError, match="not started here"):
            _ = running.postgres
    said = capsys.readouterr().err
    assert f"using the mosquitto at 127.0.0.1:{services.mqtt_port}, as configured" in said
    assert f"using the postgres at 127.0.0.1:{services.postgres.port}, as configured" in said
    assert "secret" not in said
    await services.postgres.round_trip()


async def test_a_configuration_file_names_servers_too(services: LocalServices, tmp_path: Path) -> None:
    """`EDGE_CONFIG` counts as much as the variables do."""
    file = tmp_path / "edge.toml"
    file.write_text(f'[redis]\nurl = "{services.redis_url}"\n')
    async with LocalServices(["redis"], environ={"EDGE_CONFIG": str(file)}) as running:
        assert running.pids() == {}
        assert running.redis_url == services.redis_url


async def test_missing_binaries_are_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the right to install, the message names the packages and the compose file, and exit code 1."""
    monkeypatch.setattr(install, "find", lambda _name: None)
    monkeypatch.setattr(install, "_privilege", lambda: None)
    with pytest.raises(ServiceError) as caught:
        await LocalServices(environ={}).start()
    assert "apt-get install mosquitto postgresql redis-server" in str(caught.value)
    assert "deploy/compose.yaml" in str(caught.value)
    assert caught.value.exit_code == 1


def test_an_unprivileged_account_owns_a_servers_folder(tmp_path: Path) -> None:
    """Under root the servers' folders belong to another account; otherwise to whoever runs it."""
    folder = Place(tmp_path, os.getpgrp()).make_folder("redis")
    assert folder.stat().st_uid != 0
    assert folder.stat().st_mode & 0o777 == 0o700


def test_two_launchers_never_choose_the_same_port() -> None:
    """A port is its launcher's even while no server listens there, and the server can still have it."""
    with reserve_port() as held, socket.socket() as other, socket.socket() as its_server:
        with pytest.raises(OSError, match="in use"):
            other.bind(held.getsockname())
        its_server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        its_server.bind(held.getsockname())
        its_server.listen()


def test_free_ports_are_out_of_the_way_of_clients() -> None:
    """A server's port must not be one that a client's socket may get while the server is down."""
    first_ephemeral = int(server.PORT_RANGE.read_text().split()[0])
    assert all(port < first_ephemeral for port in (free_port() for _ in range(20)))
