"""`gateway trace`: the command line. What it runs is imported late, so that commands start fast."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import click

from gateway.dead_letters.selection import parse_when
from runtime.cli import with_settings

if TYPE_CHECKING:
    from runtime.settings import Settings


def _when(_context: click.Context, _option: click.Parameter, value: str) -> datetime:
    try:
        return parse_when(value, datetime.now(UTC))
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command("trace", short_help="Tell what became of a message.")
@click.argument("key", metavar="MESSAGE-KEY")
@click.option("--device", metavar="ID", help="Whose message it is: makes the search quick.")
@click.option(
    "--since",
    callback=_when,
    default="24h",
    show_default=True,
    metavar="WHEN",
    help='How far back to look: device time, "2026-11-23T09:00" (UTC) or "7d" ago.',
)
@click.option("--json", "as_json", is_flag=True, help="One line of JSON.")
@partial(with_settings, log_level="error")
def trace_command(settings: Settings, *, key: str, device: str | None, since: datetime, as_json: bool) -> int:
    """Tell what became of a message: received, committed, outboxed, published, projected, or why not.

    Exits with 0 when it is stored and in the views, with 1 when it is not, or not yet.
    """
    from gateway.trace import render
    from gateway.trace.search import search
    from gateway.trace.story import tell
    from runtime.settings import duration_s

    if not key:
        raise click.UsageError("MESSAGE-KEY is empty; `gateway tail` shows keys")
    facts = asyncio.run(
        search(
            settings,
            key=key,
            device=device,
            since=since,
            window=timedelta(seconds=duration_s(settings.gateway.dedup_window)),
            tell=lambda text: click.echo(text, err=True),
        )
    )
    story = tell(facts)
    click.echo(render.as_json(story) if as_json else render.as_text(story))
    return 0 if story.verdict == "projected" else 1
