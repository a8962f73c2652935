"""`gateway discover`: the command line. What it runs is imported late, so that commands start fast."""

from __future__ import annotations

import gc
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runtime.cli import with_settings

if TYPE_CHECKING:
    import asyncio

    from gateway.discover.run import Listening
    from runtime.settings import Settings

_GRACE_S = 3.0
_YOUNG_OBJECTS = 700


@click.command("discover", short_help="Listen to devices, and write routes for them.")
@click.argument("topic_filter", metavar="[FILTER]", default="#")
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, 86_400),
    default=60.0,
    show_default=True,
    help="How long to listen.",
)
@click.option(
    "--write", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write a configuration."
)
@click.option("--force", is_flag=True, help="Overwrite FILE when it exists.")
@click.option(
    "--examples",
    is_flag=True,
    help="Put messages as they came beside the routes, for `gateway check` to play: are they confidential?",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@partial(with_settings, log_level="error")
def discover_command(
    settings: Settings,
    *,
    topic_filter: str,
    seconds: float,
    write: Path | None,
    force: bool,
    examples: bool,
    as_json: bool,
) -> int:
    """Listen to what devices send, and say which routes would store it.

    FILTER is an MQTT topic filter, # unless given. Listens by a session of its own at QoS 0 and changes
    nothing. Prints [[route]] blocks, what each makes of a message, what is unexplained and what is unsure;
    with --write they go to FILE, which becomes a configuration of what is configured now and these routes.
    Ctrl-C ends the listening and shows what was heard by then. Exits with 1 when nothing that was heard has
    a route.
    """
    from rich.console import Console

    from gateway.discover import report
    from gateway.discover.discovery import discover
    from gateway.discover.run import listen
    from gateway.discover.written import secrets
    from runtime.lifecycle import run_until_stopped
    from runtime.terminal import columns

    _check(topic_filter, write, force=force)
    listened: list[Listening] = []

    async def main(stop: asyncio.Event) -> None:
        progress = sys.stderr.isatty()
        listened.append(await listen(settings, topic_filter, seconds, stop, progress=progress))

    code = run_until_stopped(main, shutdown_timeout_s=_GRACE_S)
    if code or not listened:
        return code
    [heard] = listened
    if heard.reason:
        click.echo(f"error: broker {settings.broker.host}:{settings.broker.port}: {heard.reason}", err=True)
        return 1
    gc.set_threshold(_YOUNG_OBJECTS)  # what a decoder knows of ten thousand topics goes with it, at once
    discovery = discover(heard.heard, settings)
    if as_json:
        click.echo(report.encode(discovery, heard.seconds))
    else:
        if write is None:
            click.echo(report.routes(discovery, examples=examples))
        Console(width=columns()).print(report.render(discovery, heard.seconds, keep=write is None))
    if not discovery.blocks:
        click.echo(f"{report.nothing(heard.heard)}; nothing is written", err=True)
        return 1
    if write is not None:
        _write(write, report.configuration(discovery, settings, examples=examples), force=force)
        for name in secrets(settings):
            click.echo(f"{write} holds {name} as it is: only its owner may read it", err=True)
        click.echo(f"{write} is written; try it: gateway check --config {write}", err=True)
    return 0


def _check(topic_filter: str, write: Path | None, *, force: bool) -> None:
    levels = topic_filter.split("/")
    wild = [level for level in levels if set(level) & set("+#") and level not in {"+", "#"}]
    if not topic_filter or "\x00" in topic_filter or wild or "#" in levels[:-1]:
        raise click.UsageError(f"{topic_filter!r} is no MQTT topic filter: + is a level, and # the last one")
    if levels[0] == "$share":
        raise click.UsageError("a shared subscription would take messages away from others")
    if levels[0] == "$SYS":
        raise click.UsageError("what a broker says of itself is no telemetry")
    if write is None and force:
        raise click.UsageError("--force has no effect without --write")
    if write is not None and write.exists() and not force:
        raise click.UsageError(f"{write} exists; --force overwrites it")
    if write is not None and not write.parent.is_dir():
        raise click.UsageError(f"{write.parent} is no folder")


def _write(path: Path, text: str, *, force: bool) -> None:
    """Write a file that only its owner may read: there may be secrets in it.

    Raises:
        ConfigurationError: it cannot be written.
    """
    from runtime.errors import ConfigurationError

    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(
            os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
        ) as file:
            file.write(text)
        if force:
            part.replace(path)
        else:
            os.link(part, path)  # never over one that has come up meanwhile
            part.unlink()
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ConfigurationError(f"{path}: cannot write it: {error.strerror}") from error
