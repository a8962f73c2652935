"""`gateway tail`: the command line. What it runs is imported late, so that commands start fast."""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import TYPE_CHECKING

import click

from runtime.cli import duration, with_settings

if TYPE_CHECKING:
    import asyncio

    from runtime.settings import Settings

_GRACE_S = 3.0


@click.command("tail", short_help="Show measurements and rejections as they arrive.")
@click.option(
    "--device", "devices", multiple=True, metavar="GLOB", help="Only these devices; any of several."
)
@click.option("--region", "regions", multiple=True, metavar="GLOB", help="Only measurements from there.")
@click.option("--metric", "metrics", multiple=True, metavar="GLOB", help="Only these metrics.")
@click.option("--reason", "reasons", multiple=True, metavar="GLOB", help="Only dead letters for this reason.")
@click.option("--count", type=click.IntRange(min=1), help="End after so many.")
@click.option(
    "--for", "seconds", callback=duration, metavar="DURATION", help="End after so long, such as 30s."
)
@click.option("--json", "as_json", is_flag=True, help="One line of JSON each.")
@partial(with_settings, log_level="error")
def tail_command(
    settings: Settings,
    *,
    devices: tuple[str, ...],
    regions: tuple[str, ...],
    metrics: tuple[str, ...],
    reasons: tuple[str, ...],
    count: int | None,
    seconds: float | None,
    as_json: bool,
) -> int:
    """Show measurements and rejected messages as they arrive, until Ctrl-C.

    A GLOB is exact, or has the shell's * ? and [abc]. Replayed dead letters do not come by here. What the
    servers do is said on stderr. Exits with 1 when fewer than --count came within --for.
    """
    from gateway.tail import lines
    from gateway.tail.filters import Filters
    from gateway.tail.run import tail
    from runtime.lifecycle import run_until_stopped

    try:
        filters = Filters(devices=devices, regions=regions, metrics=metrics, reasons=reasons)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    render = lines.as_json if as_json else lines.coloured if coloured else lines.plain
    enough = True

    async def main(stop: asyncio.Event) -> None:
        nonlocal enough
        enough = await tail(settings, filters, render, limit=count, seconds=seconds, stop=stop)

    code = run_until_stopped(main, shutdown_timeout_s=_GRACE_S)
    return code or int(seconds is not None and not enough)
