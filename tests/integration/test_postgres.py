from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import asyncpg
import pytest

from deploy.local.server import free_port
from deploy.local.servers import Postgres
from deploy.local.services import LocalServices
from runtime.errors import ConfigurationError, Retry
from runtime.postgres import ERRORS, as_retry, is_data_error, open_pool
from runtime.secret import FromFile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def server() -> AsyncIterator[Postgres]:
    """A PostgreSQL of this test's own, to be stopped."""
    async with LocalServices(["postgres"], environ={}) as own:
        yield own.postgres


async def test_a_pool_says_who_it_is(empty_database: str) -> None:
    """A pool that is open has spoken to the server, under its name; settings given go over the house's."""
    pool = await open_pool(empty_database, name="gateway-0", max_size=2, settings={"jit": "off"})
    async with pool:
        assert pool.get_size() == 1
        assert pool.get_max_size() == 2
        shown = [
            await pool.fetchval(f"SHOW {setting}")
            for setting in ("application_name", "jit", "tcp_keepalives_idle", "tcp_user_timeout", "TimeZone")
        ]
    assert shown == ["gateway-0", "off", "30", "60000", "UTC"]


async def test_a_server_that_is_away_is_waited_for() -> None:
    """Nothing listens: `Retry`, with the address and without the password."""
    port = free_port()
    with pytest.raises(Retry) as caught:
        await open_pool(f"postgresql://me:hunter2@127.0.0.1:{port}/edge", name="t")
    assert str(caught.value) == f"postgres: 127.0.0.1:{port}: Connection refused"


async def test_a_host_without_a_name_is_waited_for() -> None:
    """A name that does not resolve may do so later."""
    with pytest.raises(Retry, match=r"^postgres: no-such-host\.invalid:5432: "):
        await open_pool("postgresql://me@no-such-host.invalid:5432/edge", name="t")


async def test_an_absent_database_is_waited_for(empty_database: str) -> None:
    """Somebody may create it yet."""
    with pytest.raises(Retry, match='database "absent" does not exist'):
        await open_pool(re.sub(r"/[^/]*$", "/absent", empty_database), name="t")


async def test_a_server_without_room_is_waited_for(empty_database: str, unique: str) -> None:
    """Too many connections is a state that passes."""
    async with await open_pool(empty_database, name="t") as pool:
        await pool.execute(f"CREATE ROLE {unique} LOGIN CONNECTION LIMIT 0")
        dsn = re.sub(r"//[^@]*@", f"//{unique}@", empty_database)
        with pytest.raises(Retry, match="too many connections for role"):
            await open_pool(dsn, name="t")
        await pool.execute(f"DROP ROLE {unique}")


@pytest.mark.parametrize(
    "dsn",
    [
        "hunter2",
        "mysql://me:hunter2@h/d",
        "postgresql://me:hunter2/x@h/d",
        "postgresql://me:hunter2@h:port/d",
        "postgresql://me:hunter2@[::1/d",
    ],
)
async def test_a_malformed_url_is_refused_without_quoting_it(dsn: str) -> None:
    """No waiting mends a malformed URL; the message says what one looks like and quotes nothing."""
    with pytest.raises(ConfigurationError, match=r"^postgres\.dsn: .*a URL such as ") as caught:
        await open_pool(dsn, name="t")
    assert "hunter2" not in str(caught.value)


async def test_an_impossible_option_is_refused() -> None:
    """What asyncpg says of an option is passed on."""
    with pytest.raises(ConfigurationError, match=r"^postgres\.dsn: `sslmode` parameter must be one of"):
        await open_pool("postgresql://me:hunter2@h/d?sslmode=maybe", name="t")


async def test_a_server_that_dies_under_way_is_a_retry(server: Postgres) -> None:
    """Whatever the server's death does to a statement is a reason to wait."""
    pool = await open_pool(server.dsn(), name="t", max_size=1)
    connection = await pool.acquire()
    sleeping = asyncio.create_task(connection.execute("SELECT pg_sleep(60)"))
    async with await open_pool(server.dsn(), name="watch", max_size=1) as watch:
        while not await watch.fetchval("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%sleep(60)'"):
            pass
        watch.terminate()
    await server.kill()
    [error] = await asyncio.gather(sleeping, return_exceptions=True)
    assert isinstance(error, Exception)
    assert as_retry(error)
    with pytest.raises(ERRORS) as caught:
        await connection.execute("SELECT 1")
    assert as_retry(caught.value)
    with pytest.raises(Retry):
        await open_pool(server.dsn(), name="t")
    await server.start()
    pool.terminate()
    async with await open_pool(server.dsn(), name="t") as again:
        assert await again.fetchval("SELECT 1") == 1


async def test_what_the_server_says_of_data_and_rights(empty_database: str, unique: str) -> None:
    """Errors of the real server fall on the side that `is_data_error` and `as_retry` promise."""
    cases = [
        ("SELECT", "INSERT INTO t VALUES (70000)", True, False),
        ("SELECT", "INSERT INTO t VALUES (NULL)", True, False),
        ("SELECT", "SELECT convert_from('\\xff', 'UTF8')", True, False),
        ("SELECT", "SELECT * FROM absent", False, False),
        (f"SET LOCAL ROLE {unique}", "SELECT * FROM t", False, True),
        ("SET LOCAL transaction_read_only = on", "INSERT INTO t VALUES (1)", False, True),
        ("SET LOCAL statement_timeout = 1", "SELECT pg_sleep(5)", False, True),
    ]
    async with await open_pool(empty_database, name="t", max_size=1) as pool:
        await pool.execute(f"CREATE TABLE t (n smallint NOT NULL); CREATE ROLE {unique}")
        for setting, statement, data, retry in cases:
            with pytest.raises(asyncpg.PostgresError) as caught:
                await _in_transaction(pool, setting, statement)
            assert (is_data_error(caught.value), as_retry(caught.value) is not None) == (data, retry), (
                statement
            )
        await pool.execute(f"DROP ROLE {unique}")


async def _in_transaction(pool: asyncpg.Pool[asyncpg.Record], *statements: str) -> None:
    async with pool.acquire() as connection, connection.transaction():
        for statement in statements:
            await connection.execute(statement)


async def test_a_url_that_was_changed_needs_no_restart(
    database: str, empty_database: str, tmp_path: Path
) -> None:
    """A DSN from a file is read anew at each connection; a file that cannot be used is a `Retry`."""
    source = tmp_path / "dsn"
    source.write_text(f"{empty_database}\n")
    async with await open_pool(FromFile.read(str(source)), name="t", max_size=1) as pool:
        assert await pool.fetchval("SELECT current_database()") == empty_database.rpartition("/")[2]
        source.write_text(database)
        await pool.expire_connections()
        assert await pool.fetchval("SELECT current_database()") == database.rpartition("/")[2]
        for spoilt, reason in (("hunter2", "expected a URL"), (None, str(source))):
            if spoilt is None:
                source.unlink()
            else:
                source.write_text(spoilt)
            await pool.expire_connections()
            with pytest.raises(Retry, match=re.escape(reason)) as caught:
                await pool.fetchval("SELECT 1")
            assert "hunter2" not in str(caught.value)
        source.write_text(database)
        assert await pool.fetchval("SELECT 1") == 1


def certify(folder: Path, name: str, *, issuer: Path | None, days: int) -> None:
    """Write `name.crt` and `name.key`: an authority of its own, or signed by one, for so many days."""
    made = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    made += ["-keyout", f"{folder}/{name}.key", "-out", f"{folder}/{name}.csr", "-subj", f"/CN={name}"]
    subprocess.run(made, check=True, capture_output=True)
    about = "basicConstraints=critical,CA:TRUE" if issuer is None else "subjectAltName=IP:127.0.0.1"
    (folder / "about").write_text(about, encoding="utf-8")
    signer = ["-signkey", f"{folder}/{name}.key"]
    if issuer is not None:
        signer = ["-CA", f"{issuer}.crt", "-CAkey", f"{issuer}.key", "-CAcreateserial"]
    signed = ["openssl", "x509", "-req", "-in", f"{folder}/{name}.csr", "-extfile", f"{folder}/about"]
    signed += ["-signkey", f"{folder}/{name}.key"] if issuer is None else signer
    subprocess.run(
        [*signed, "-days", str(days), "-out", f"{folder}/{name}.crt"], check=True, capture_output=True
    )


class PostgresOverTls(Postgres):
    """One whose certificate is `server.crt` in its folder, with its key."""

    name = "postgres-tls"

    def command(self) -> list[str]:
        """Run in the foreground."""
        files = (
            f"--ssl_{kind}_file={self.folder}/server.{end}" for kind, end in (("cert", "crt"), ("key", "key"))
        )
        return [*super().command(), "--ssl=on", *files]


async def test_a_certificate_that_is_wrong_is_named_and_waited_for(
    services: LocalServices, tmp_path: Path
) -> None:
    """A wrong authority, an expired certificate or a missing file is a reason to wait, until it is mended."""
    for name, issuer, days in (
        ("authority", None, 9),
        ("other", None, 9),
        ("good", tmp_path / "authority", 9),
        ("expired", tmp_path / "authority", -1),
    ):
        certify(tmp_path, name, issuer=issuer, days=days)
    server = PostgresOverTls(services.postgres.binary, services.place)

    async def serve(certificate: str) -> None:
        for kind in ("crt", "key"):
            target = server.folder / f"server.{kind}"
            shutil.copy(tmp_path / f"{certificate}.{kind}", target)
            owner = server.folder.stat()
            os.chown(target, owner.st_uid, owner.st_gid)
            target.chmod(0o600)
        if server.running:
            await server.stop()
        await server.start()

    async def refusal(authority: str) -> str:
        url = f"{server.dsn()}?sslmode=verify-full&sslrootcert={tmp_path}/{authority}.crt"
        try:
            pool = await open_pool(url, name="t")
        except Retry as error:
            return error.reason.partition(": ")[2]
        await pool.close()
        return ""

    try:
        await serve("good")
        assert await refusal("other") == (
            "the server's certificate is refused: unable to get local issuer certificate"
        )
        assert await refusal("absent") == (
            "a certificate file of postgres.dsn (sslrootcert, sslcert, sslkey) is not there"
        )
        await serve("expired")
        assert await refusal("authority") == ("the server's certificate is refused: certificate has expired")
        await serve("good")
        assert await refusal("authority") == ""
    finally:
        await server.release()
