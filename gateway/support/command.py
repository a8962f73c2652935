"""`gateway support-bundle`: the command line. What it runs is imported late, so that commands start fast."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runtime.cli import with_settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from runtime.settings import Settings


@click.command("support-bundle", short_help="Write what helps those who are asked for help.")
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--log", "logs", multiple=True, type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="The end of this file too; several may be given. The journal of both units is there anyway.",
)  # fmt: skip
@click.option(
    "--lines", default=2000, show_default=True, type=click.IntRange(0, 1_000_000), help="Of each log."
)
@click.option(
    "--token-file", type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A token of scope metrics, where the listeners ask for one.",
)  # fmt: skip
@partial(with_settings, log_level="error")
def support_command(
    settings: Settings, /, *, file: Path | None, logs: tuple[Path, ...], lines: int, token_file: Path | None
) -> int:
    """Write a bundle to send along when asking for help: mqtt-edge-gateway-support-….tar.gz, or FILE.

    Configuration, versions, what check finds, health and metrics of both programs, sizes and counts in
    PostgreSQL, the spool, and the last lines of the logs. No payloads, no measurements, no passwords.
    """
    import socket

    from gateway.support import archive, parts

    made = parts.now()
    name = f"mqtt-edge-gateway-support-{socket.gethostname()}-{made:%Y%m%dT%H%M%SZ}"
    path = file or Path(f"{name}.tar.gz")
    if path.exists():
        click.echo(f"error: {click.format_filename(path)} is there already", err=True)
        return 2
    secrets = archive.secrets_of(settings)
    try:
        words = token_file.read_text(encoding="utf-8", errors="replace").split() if token_file else []
        token = words[0] if words else ""
        found = asyncio.run(_gather(settings, lines, token, logs))
        archive.write(path, name, {"README.txt": parts.about(made, found), **found}, secrets | {token} - {""})
    except OSError as error:
        where = click.format_filename(error.filename or path)
        click.echo(f"error: {where}: {error.strerror or error}", err=True)
        return 1
    written = click.format_filename(path)
    click.echo(f"{written}: {path.stat().st_size:,} bytes. Look through it before you send it.")
    return 0


async def _gather(settings: Settings, lines: int, token: str, logs: tuple[Path, ...]) -> dict[str, str]:
    from gateway.support import parts

    async def plain(make: Callable[[], str]) -> str:
        return await asyncio.to_thread(make)

    said = click.get_current_context().params.get("config")
    wanted: dict[str, Callable[[], Awaitable[str]]] = {
        "configuration.txt": partial(plain, partial(parts.configuration, settings, said)),
        "versions.json": partial(plain, parts.versions),
        "check.json": partial(parts.findings, settings),
        "postgres.json": partial(parts.database, settings),
        "spool.txt": partial(plain, partial(parts.folder, settings.spool.path)),
    }
    for role, listener in (("gateway", settings.gateway), ("projector", settings.projector)):
        for path in ("/readyz", "/metrics"):
            wanted[f"{role}{path.replace('/', '-')}.txt"] = partial(parts.answer, listener, path, token)
    for unit in parts.UNITS:
        wanted[f"{unit}.log"] = partial(parts.journal, unit, lines)
    for n, log in enumerate(logs, 1):
        wanted[f"log/{n}-{log.name}"] = partial(plain, partial(parts.tail, log, lines))
    return {name: await parts.attempt(part) for name, part in wanted.items()}
