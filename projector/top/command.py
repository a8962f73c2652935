"""`projector top`: the command line. What it runs is imported late, so that commands start fast."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, TextIO

import click

from runtime.cli import with_settings
from runtime.listing import until_nobody_reads

if TYPE_CHECKING:
    import asyncio

    from runtime.settings import Settings

_GRACE_S = 3.0


@click.command("top", short_help="Watch devices, regions and rates live.")
@click.option("--once", "only_once", is_flag=True, help="Print what one second shows, and end.")
@click.option("--json", "as_json", is_flag=True, help="A line of JSON every two seconds.")
@click.option(
    "--token-file",
    type=click.File(encoding="utf-8"),
    help="A token with the scope read, where projector.tokens_file asks for one.",
)
@partial(with_settings, log_level="error")
def top_command(settings: Settings, *, only_once: bool, as_json: bool, token_file: TextIO | None) -> int:
    """Show devices, the silent ones first, hot regions, rates and lag, until q or Ctrl-C.

    Reads Redis and, if one runs, the projector's /lag. Without a terminal it is --once.
    """
    from projector.top.run import lines, live, once
    from runtime.errors import Retry
    from runtime.lifecycle import run_until_stopped, unless

    away: list[Retry] = []
    token = token_file.read().strip() if token_file else ""
    if len(token.split()) > 1:
        raise click.BadParameter("holds more than a token", param_hint="--token-file")

    async def main(stop: asyncio.Event) -> None:
        try:
            with until_nobody_reads():
                if as_json and not only_once:
                    await lines(settings, token, stop)
                elif only_once or not sys.stdout.isatty():
                    await unless(stop, once(settings, token, as_json=as_json))
                else:
                    await live(settings, token, stop)
        except Retry as error:
            away.append(error)

    code = run_until_stopped(main, shutdown_timeout_s=_GRACE_S)
    for error in away:
        raise Retry(error.what, f"{error.reason}; is redis.url right, and does the server run?")
    return code
