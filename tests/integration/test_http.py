from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import ssl
from typing import TYPE_CHECKING

import httpx
import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from litestar import Litestar, get
from litestar.params import FromPath  # noqa: TC002  # Litestar reads the annotation
from litestar.response import Stream
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from deploy.local.server import free_port
from runtime.errors import Stop
from runtime.http import Front, Health, connection, create_app, door, health_routes, limits, serve, tls
from runtime.settings import Broker, Projector, tls_context

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

REQUEST = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"POST /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"


@pytest.fixture
def app() -> Litestar:
    """An application with nothing but the health routes."""
    return create_app(health_routes(Health(), CollectorRegistry(), "test"))


@contextlib.asynccontextmanager
async def _served(app: Litestar) -> AsyncIterator[int]:
    """The port where an application answers."""
    stop, port = asyncio.Event(), free_port()
    async with asyncio.TaskGroup() as tasks, httpx.AsyncClient() as client:
        tasks.create_task(serve(app, f"127.0.0.1:{port}", stop))
        await client.get(f"http://127.0.0.1:{port}/healthz")
        yield port
        stop.set()


async def test_serves_until_told_to_stop(app: Litestar) -> None:
    """The server answers in our loop, leaves signals alone, and is gone when the process stops."""
    stop, address = asyncio.Event(), f"127.0.0.1:{free_port()}"
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    async with httpx.AsyncClient() as client, asyncio.TaskGroup() as tasks:
        with capture_logs() as logs:
            serving = tasks.create_task(serve(app, address, stop))
            answer = await client.get(f"http://{address}/healthz")
        assert answer.json() == {"status": "ok"}
        assert "server" not in answer.headers
        assert {number: signal.getsignal(number) for number in handlers} == handlers
        assert [(line["event"], line["address"]) for line in logs] == [("http_listening", address)]
        stop.set()
        await serving
        with pytest.raises(httpx.ConnectError):
            await client.get(f"http://{address}/healthz")


async def test_an_answer_that_never_ends_does_not_hold_up_the_end() -> None:
    """A live stream is cut when the process stops, after the grace that answers have."""

    async def endless() -> AsyncIterator[bytes]:
        yield b"first"
        await asyncio.Event().wait()

    @get("/live", sync_to_thread=False)
    def live() -> Stream:
        return Stream(endless())

    stop, address = asyncio.Event(), f"127.0.0.1:{free_port()}"
    async with httpx.AsyncClient() as client, asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(serve(create_app([live]), address, stop))
        async with client.stream("GET", f"http://{address}/live") as answer:
            chunks = answer.aiter_bytes()
            assert await anext(chunks) == b"first"
            stop.set()
            with pytest.raises(httpx.RemoteProtocolError):
                await anext(chunks)
        await serving


async def test_who_takes_nothing_of_an_answer_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that is not taken ends after a while, one that is taken slowly does not."""
    monkeypatch.setattr(connection, "PATIENCE_S", 0.3)
    ended = asyncio.Queue[str]()

    @get("/large/{name:str}", sync_to_thread=False)
    def large(name: FromPath[str]) -> Stream:
        async def pieces() -> AsyncIterator[bytes]:
            try:
                for _ in range(20):
                    yield bytes(65536)
            finally:
                ended.put_nowait(name)

        return Stream(pieces())

    stop, address = asyncio.Event(), f"127.0.0.1:{free_port()}"
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(serve(create_app([large]), address, stop))
        port = int(address.rpartition(":")[2])
        async with httpx.AsyncClient() as client:
            await client.get(f"http://{address}/")
        with (
            capture_logs() as logs,
            socket.create_connection(("127.0.0.1", port)) as deaf,
            socket.create_connection(("127.0.0.1", port)) as slow,
        ):
            for each, name in ((deaf, b"deaf"), (slow, b"slow")):
                each.setblocking(False)  # noqa: FBT003  # the standard library's signature
                each.sendall(b"GET /large/%b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % name)
            taken = 0
            while piece := await asyncio.get_running_loop().sock_recv(slow, 65536):
                taken += len(piece)
                await asyncio.sleep(0.05)
        assert taken > 20 * 65536
        assert [await ended.get(), await ended.get()] == ["deaf", "slow"]
        assert [line["event"] for line in logs] == ["http_client_takes_nothing"]
        stop.set()
        await serving


@pytest.mark.parametrize(
    ("asked", "begun"),
    [
        (b"", b"GET /healthz HTTP/1.1\r\n"),
        (REQUEST, b"GET /healthz HTTP/1.1\r\n"),
        (REQUEST, b"\r\n"),
        (b"", b"POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"),
    ],
)
async def test_who_asks_for_nothing_is_let_go(
    app: Litestar, monkeypatch: pytest.MonkeyPatch, asked: bytes, begun: bytes
) -> None:
    """A connection over which no whole request comes, be it the first or the next, ends."""
    monkeypatch.setattr(connection, "ASKS_WITHIN_S", 0.3)
    async with _served(app) as port:
        reader, idle = await asyncio.open_connection("127.0.0.1", port)
        if asked:
            idle.write(asked)
            await reader.readuntil(b"}")
        idle.write(begun)
        async with asyncio.timeout(10):
            await reader.read()
        idle.close()


@pytest.mark.parametrize("begun", [b"GET /", b"GET /healthz HTTP/1.1\r\nX: ", CHUNKED + b"X: "])
async def test_a_line_without_end_is_let_go(app: Litestar, begun: bytes) -> None:
    """A request that goes on for ever ends before it costs anything; one that is only long is answered."""
    async with _served(app) as port, httpx.AsyncClient() as client:
        long = await client.get(f"http://127.0.0.1:{port}/healthz", headers={"x": "x" * 60_000})
        assert long.status_code == 200
        reader, endless = await asyncio.open_connection("127.0.0.1", port)
        endless.write(begun)
        with contextlib.suppress(ConnectionError):
            for _ in range(400):
                endless.write(b"x" * 16_384)
                await endless.drain()
        assert reader.at_eof() or reader.exception()
        endless.close()


async def test_cancelling_frees_the_address(app: Litestar) -> None:
    """A hard stop leaves no socket behind."""
    stop, address = asyncio.Event(), f"127.0.0.1:{free_port()}"
    async with httpx.AsyncClient() as client:
        serving = asyncio.create_task(serve(app, address, stop))
        await client.get(f"http://{address}/healthz")
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
    with socket.create_server(("127.0.0.1", int(address.rpartition(":")[2]))):
        pass


async def test_an_address_in_use_names_the_setting(app: Litestar) -> None:
    """A port that is taken ends the process with the key to change."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(Stop) as caught:
            await serve(app, address, asyncio.Event(), setting="gateway.http")
    assert str(caught.value) == f"gateway.http: cannot listen on {address}: Address already in use"


async def test_an_address_that_is_not_ours(app: Litestar) -> None:
    """An address of another machine, or none at all, ends the process with the key to change."""
    with pytest.raises(Stop, match=r"^gateway\.http: cannot listen on 192\.0\.2\.1:9101: "):
        await serve(app, "192.0.2.1:9101", asyncio.Event(), setting="gateway.http")
    with pytest.raises(Stop, match=r"^gateway\.http: cannot listen on no-such-host\.invalid:9101: "):
        await serve(app, "no-such-host.invalid:9101", asyncio.Event(), setting="gateway.http")


async def test_an_application_that_fails_to_start() -> None:
    """A failing start-up hook ends the process with a message instead of its own exit."""

    async def fail() -> None:
        raise ValueError("no")

    app = Litestar(on_startup=[fail])
    with pytest.raises(Stop, match="the HTTP application did not start"):
        await serve(app, f"127.0.0.1:{free_port()}", asyncio.Event())


async def _serial(port: int, ca: trustme.CA) -> int:
    """The number of the certificate that is shown to a client who asks for no name."""
    context = ssl.create_default_context()
    context.check_hostname = False
    ca.configure_trust(context)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    writer.write(REQUEST)
    assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 OK")
    shown = writer.get_extra_info("peercert")
    writer.close()
    await writer.wait_closed()
    return int(shown["serialNumber"], 16)


async def test_tls_with_the_certificate_of_now(
    app: Litestar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate that is renewed counts at the next handshake; halfway through, the one before it does."""
    monkeypatch.setattr(tls, "_LOOK_S", 0)
    monkeypatch.setattr(limits, "CONNECTIONS", 2)
    ca, cert, key = trustme.CA(), tmp_path / "cert.pem", tmp_path / "key.pem"

    def issue() -> trustme.LeafCert:
        issued = ca.issue_cert("127.0.0.1")
        issued.cert_chain_pems[0].write_to_path(cert)
        return issued

    issue().private_key_pem.write_to_path(key)
    port = free_port()
    settings = Projector(http=f"127.0.0.1:{port}", tls_cert=str(cert), tls_key=str(key))
    front, stop = Front(settings, "projector", CollectorRegistry()), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        listening = asyncio.Event()
        with capture_logs() as logs:
            tasks.create_task(serve(app, settings.http, stop, front=front, listening=listening))
            await listening.wait()
            first = await _serial(port, ca)
            issued = issue()
            assert await _serial(port, ca) == first
            issued.private_key_pem.write_to_path(key)
            assert await _serial(port, ca) != first
        said = [line["event"] for line in logs]
        assert said == ["http_listening", "certificate_refused", "certificate_read"]

        reader, plain = await asyncio.open_connection("127.0.0.1", port)
        plain.write(REQUEST)
        assert b"200 OK" not in await reader.read()
        plain.close()
        await _one_too_many(port, ca)
        await _who_shakes_no_hands(port, ca)
        stop.set()


async def _one_too_many(port: int, ca: trustme.CA) -> None:
    """Of three connections where two may be, the third is closed before it is heard."""
    context = ssl.create_default_context()
    ca.configure_trust(context)
    opened = [await asyncio.open_connection("127.0.0.1", port, ssl=context) for _ in range(2)]
    with pytest.raises((ConnectionError, ssl.SSLError)):
        await asyncio.open_connection("127.0.0.1", port, ssl=context)
    for reader, writer in opened:
        writer.write(REQUEST)
        assert await reader.readuntil(b"}")
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def _who_shakes_no_hands(port: int, ca: trustme.CA) -> None:
    """Of three who connect and say nothing, the third is closed at once; once they left there is room."""
    async with asyncio.timeout(door.HANDSHAKE_S / 2):
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        with contextlib.suppress(ConnectionError):
            assert await opened[2][0].read() == b""
        for _, writer in opened:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        while True:
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                assert await _serial(port, ca)
                return


def encrypted(key: bytes) -> bytes:
    """A key in PEM with a password."""
    pem, private = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    secret = serialization.BestAvailableEncryption(b"word")
    return serialization.load_pem_private_key(key, None).private_bytes(pem, private, secret)


async def test_certificate_files_that_cannot_be_used(tmp_path: Path) -> None:
    """Refused at start with the section and both files; nobody is asked for the password of a key."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    settings = Projector(tls_cert=str(cert), tls_key=str(key))
    with pytest.raises(
        Stop, match=r"^projector\.tls_cert: cannot use .*cert\.pem with .*key\.pem: No such file"
    ):
        Front(settings, "projector", CollectorRegistry())
    issued = trustme.CA().issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(cert)
    key.write_bytes(encrypted(issued.private_key_pem.bytes()))
    with pytest.raises(Stop, match=r"key\.pem: the key is encrypted"):
        Front(settings, "projector", CollectorRegistry())
    with pytest.raises(Stop, match=r"^broker\.tls: .*key\.pem: the key is encrypted"):
        tls_context(Broker(tls=True, tls_cert_file=str(cert), tls_key_file=str(key)))
