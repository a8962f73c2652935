"""The parts of a support bundle, of servers and files as odd as they come."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import ssl
import tarfile
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
import trustme

from gateway.support import archive, parts
from runtime.settings import Gateway, load

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("content", "lines", "kept"),
    [
        (b"one\ntwo\nthree\n", 2, "two\nthree\n"),
        (b"one\ntwo\nthree", 2, "two\nthree"),
        (b"one\n", 5, "one\n"),
        (b"one\n", 0, ""),
        (b"", 5, ""),
        (b"one\n\xfftwo\n", 1, "\ufffdtwo\n"),
    ],
)
def test_the_last_lines_of_a_log(content: bytes, lines: int, kept: str, tmp_path: Path) -> None:
    """As many as were asked for, whatever bytes are in them."""
    log = tmp_path / "some.log"
    log.write_bytes(content)
    assert parts.tail(log, lines) == kept


def test_of_a_huge_log_its_end_is_read(tmp_path: Path) -> None:
    """Two gigabytes without a line's end cost a few megabytes and no time."""
    log = tmp_path / "some.log"
    with log.open("wb") as file:
        file.truncate(2_000_000_000)
        file.seek(0, os.SEEK_END)
        file.write(b"the end\nlast\n")
    kept = parts.tail(log, 2000)
    assert len(kept) <= 16_000_000
    assert kept.endswith("the end\nlast\n")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """What is no file is refused, as it may never end."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no regular file"):
        parts.tail(tmp_path / "pipe", 10)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"220 mail.example ready\r\n", "BadStatusLine"),
        (b"", "RemoteDisconnected"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nodd", "IncompleteRead"),
    ],
)
async def test_whatever_answers_on_a_port_ends_no_bundle(said: bytes, told: str) -> None:
    """A server that is not ours, or dies, is a part that says so."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        listener = Gateway(http=f"127.0.0.1:{port}")
        assert told in await parts.attempt(lambda: parts.answer(listener, "/metrics", ""))


async def test_a_listener_by_tls_is_asked_with_a_token(tmp_path: Path) -> None:
    """Whatever name its certificate has, as it is this machine's own; nobody else gets the token."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority = trustme.CA()
    certificate = authority.issue_cert("edge.example")
    certificate.configure_cert(context)
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "its.crt")
    authority.issue_cert("edge.example").cert_chain_pems[0].write_to_path(tmp_path / "anothers.crt")
    heads = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nup\n")
        await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        listener = Gateway(http=f"0.0.0.0:{port}", tls_cert=str(tmp_path / "its.crt"), tls_key="b")
        assert await parts.answer(listener, "/metrics", "edge_x") == "200\nup\n\n"
        stranger = Gateway(http=f"0.0.0.0:{port}", tls_cert=str(tmp_path / "anothers.crt"), tls_key="b")
        refused = await parts.attempt(lambda: parts.answer(stranger, "/metrics", "edge_x"))
        assert "CERTIFICATE_VERIFY_FAILED" in refused
    assert len(heads) == 1
    assert b"\r\nAuthorization: Bearer edge_x\r\n" in heads[0]


@pytest.mark.parametrize(
    ("line", "masked"),
    [
        ('{"dsn": "x", "password": "hunter2"}', '{"dsn": "x", "password": ***}'),
        (r'{"password":"hun\"ter2","user":"me"}', '{"password":***,"user":"me"}'),
        (
            "STATEMENT:  ALTER ROLE gateway PASSWORD 'hun''ter2';",
            "STATEMENT:  ALTER ROLE gateway PASSWORD ***;",
        ),
        ("postgresql://h/d?sslpassword=hunter2&x=1", "postgresql://h/d?sslpassword=***&x=1"),
        ("PGPASSWORD=hunter2 psql", "PGPASSWORD=*** psql"),
        ('said "s3cr\\"t" and s3cr"t', 'said "***" and ***'),
        ("key-w%c3%b6rd and key-wörd", "*** and ***"),
        ("GET /mqtt?x=1&api-token=hunter2&y=2", "GET /mqtt?x=1&api-token=***&y=2"),
        ("the password is wrong", "the password is wrong"),
    ],
)
def test_secrets_in_logs_of_others(line: str, masked: str, tmp_path: Path) -> None:
    """A secret is masked in each form that a log has it in, ours or another program's."""
    settings = load(
        environ={
            "EDGE_BROKER_PASSWORD": 's3cr"t',
            "EDGE_POSTGRES_DSN": f"postgresql://u@h/d?sslpassword={quote('key-wörd').lower()}",
        }
    )
    path = tmp_path / "bundle.tar.gz"
    archive.write(path, "bundle", {"some.log": line}, archive.secrets_of(settings))
    with tarfile.open(path) as written:
        member = written.extractfile("bundle/some.log")
        assert member is not None
        assert member.read().decode() == masked


def test_the_configuration_shows_no_secret_of_a_url() -> None:
    """A password anywhere in an address is masked, the passphrase of a key too."""
    settings = load(environ={"EDGE_POSTGRES_DSN": "postgresql://u:hunter2@h/d?sslpassword=hunter3"})
    text = parts.configuration(settings, None)
    assert 'postgres.dsn = "postgresql://u:***@h/d?sslpassword=***"' in text


def test_an_archive_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk half a bundle is removed, and not in the way of the next."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    with pytest.raises(OSError, match="No space left"):
        archive.write(tmp_path / "bundle.tar.gz", "bundle", {"a": ""}, frozenset())
    assert list(tmp_path.iterdir()) == []


async def test_of_a_journal_the_end_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long its lines are."""
    program = tmp_path / "journalctl"
    program.write_text("#!/bin/sh\nhead -c 40000000 /dev/zero\necho the end\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    said = await parts.journal(parts.UNITS[0], 2000)
    assert len(said) <= 16_000_000
    assert said.endswith("the end\n")
