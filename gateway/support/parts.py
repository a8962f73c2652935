"""What a bundle is made of. Each part is a text, and tells why when it cannot be had."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import os
import platform
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gateway.check import check, encode
from runtime.asking import connection_to
from runtime.logs import one_line
from runtime.postgres import ERRORS, load_queries, open_pool
from runtime.product import NAME
from runtime.settings.shown import effective

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from runtime.settings import Listener, Settings

UNITS: Final = ("mqtt-edge-gateway", "mqtt-edge-projector")
"""The units of systemd that the package installs."""

_TIMEOUT_S: Final = 10.0
_QUERY_S: Final = 3.0  # of each: one that waits for a lock leaves time for the others
_MOST_BYTES: Final = 16_000_000  # of a log's end, and of an answer
_PIECE: Final = 65_536
_SERVER_SETTINGS: Final = (
    "autovacuum", "checkpoint_timeout", "effective_cache_size", "fsync", "full_page_writes",
    "maintenance_work_mem", "max_connections", "max_wal_size", "server_version", "shared_buffers",
    "synchronous_commit", "synchronous_standby_names", "wal_level", "work_mem",
)  # fmt: skip
_QUERIES: Final = ("tables", "streams", "letters", "site", "spools", "sessions")

queries = load_queries("gateway")


def about(now: datetime, parts: Mapping[str, str]) -> str:
    """The text that says what the others are."""
    listed = "\n".join(f"  {name}" for name in parts)
    return (
        f"A support bundle of mqtt-edge-gateway, made at {now:%Y-%m-%d %H:%M:%S}Z.\n\n{listed}\n\n"
        "It holds no payloads, no measurements, and none of its configuration's passwords. It does hold\n"
        "names: of hosts, topics, devices, roles and files; and lines of logs about rejected messages quote\n"
        "a few characters of them. Look through it before you send it.\n"
    )


def configuration(settings: Settings, path: Path | None) -> str:
    """What is in force and from where, as `gateway config` prints it."""
    shown = effective(settings, path, os.environ)
    return "".join(
        f"{each.key} = {msgspec.json.encode(each.value).decode()}  # {each.source}\n" for each in shown
    )


def versions() -> str:
    """The program's, those of all that is installed beside it, and what it runs on."""
    packages = {
        str(each.metadata["Name"]): each.version
        for each in importlib.metadata.distributions()
        if each.metadata["Name"]
    }
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return _pretty(
        {
            "product": packages.get(NAME, "not installed"),
            "python": platform.python_version(),
            "system": platform.platform(),
            "os": _os_release(),
            "cpus": os.cpu_count(),
            "memory_bytes": memory,
            "packages": dict(sorted(packages.items(), key=lambda each: each[0].lower())),
        }
    )


async def findings(settings: Settings) -> str:
    """What `gateway check` says."""
    return msgspec.json.format(encode(await check(settings)), indent=2)


async def answer(listener: Listener, path: str, token: str) -> str:
    """What a process of this machine answers to GET, its status first.

    Args:
        listener: its section of the configuration.
        path: such as `/readyz`.
        token: one of its `tokens_file`; "" for none.
    """
    return await asyncio.to_thread(_ask, listener, path, token)


def _ask(listener: Listener, path: str, token: str) -> str:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with contextlib.closing(connection_to(listener, _TIMEOUT_S)) as connection:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return f"{response.status}\n{response.read(_MOST_BYTES).decode(errors='replace')}\n"


async def database(settings: Settings) -> str:
    """Sizes, places and counts in PostgreSQL."""
    said: dict[str, Any] = {}
    async with await open_pool(settings.postgres.dsn, name="gateway-support", max_size=1) as pool:
        said["server"] = [dict(row) for row in await pool.fetch(queries.support_server, _SERVER_SETTINGS)]
        for name in _QUERIES:
            try:
                rows = await pool.fetch(getattr(queries, f"support_{name}"), timeout=_QUERY_S)
                said[name] = [dict(row) for row in rows]
            except TimeoutError:
                said[name] = f"no answer within {_QUERY_S:g} s"
            except ERRORS as error:
                said[name] = one_line(error)
    return _pretty(said)


async def journal(unit: str, lines: int) -> str:
    """The last lines that a unit of systemd has written."""
    program = shutil.which("journalctl")
    if program is None:
        return "no journalctl here; `--log FILE` takes the end of a file along\n"
    process = await asyncio.create_subprocess_exec(
        program, "--unit", unit, "--lines", str(lines), "--output", "short-iso-precise", "--no-pager",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    said = bytearray()
    try:
        while piece := await process.stdout.read(_PIECE):
            said += piece
            del said[:-_MOST_BYTES]
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return said.decode(errors="replace")


def folder(path: str) -> str:
    """The files of a folder, with their sizes in bytes and when they were last written."""
    if not path:
        return "none: spool.path is empty\n"
    found = sorted(Path(path).iterdir())
    states = [(each.name, each.stat()) for each in found]
    return f"{path}\n" + "".join(
        f"{state.st_size:>15,}  {datetime.fromtimestamp(state.st_mtime, UTC):%Y-%m-%dT%H:%M:%SZ}  {name}\n"
        for name, state in states
    )


def tail(path: Path, lines: int) -> str:
    """The last lines of a file, however large it is.

    Raises:
        OSError: it cannot be read, or is none: a pipe may never end.
    """
    if not path.is_file():
        raise OSError(f"{path} is no regular file")
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _MOST_BYTES))
        content = file.read(_MOST_BYTES)
    at = len(content) - content.endswith(b"\n")
    for _ in range(lines):
        at = content.rfind(b"\n", 0, at)
        if at < 0:
            return content.decode(errors="replace")
    return content[at + 1 :].decode(errors="replace")


async def attempt(part: Callable[[], Awaitable[str]]) -> str:
    """A part, or why it cannot be had."""
    try:
        async with asyncio.timeout(4 * _TIMEOUT_S):
            return await part()
    except TimeoutError:
        return f"no answer within {4 * _TIMEOUT_S:g} s\n"
    except Exception as error:  # noqa: BLE001  # a bundle is for when anything may be broken
        return f"{one_line(error)}\n"


def now() -> datetime:
    """The time of a bundle."""
    return datetime.now(UTC)


def _os_release() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        return ""


def _pretty(value: Any) -> str:  # noqa: ANN401  # whatever JSON takes
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n"
