"""`gateway dead-letters`: the command line. What it runs is imported late, so that commands start fast."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from gateway.dead_letters.selection import Selection, parse_when, topic_pattern
from runtime.cli import with_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.dead_letters.tally import Tally
    from runtime.settings import Settings


def _when(_context: click.Context, _option: click.Parameter, value: str | None) -> datetime | None:
    try:
        return None if value is None else parse_when(value, datetime.now(UTC))
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _topic(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    try:
        return None if value is None else topic_pattern(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


_FILTERS = (
    click.option("--reason", "reasons", multiple=True, help="Such as malformed_json; any of several."),
    click.option("--device", "devices", multiple=True, metavar="ID", help="Any of several."),
    click.option(
        "--topic", callback=_topic, metavar="FILTER", help="A topic, or an MQTT filter with + and #."
    ),
    click.option(
        "--since",
        callback=_when,
        metavar="WHEN",
        help='Received then or later: "2026-11-23T09:00" (UTC) or "1h" ago.',
    ),
    click.option("--until", callback=_when, metavar="WHEN", help="Received before then."),
)


def _with_filters(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_FILTERS):
        command = option(command)
    return command


@click.group("dead-letters", short_help="Look at what could not be stored, and replay it.")
def dead_letters() -> None:
    """Look at what could not be stored, and replay it once what was wrong has been mended."""


@dead_letters.command("list")
@_with_filters
@click.option("--all", "replayed", is_flag=True, help="Those that were replayed already, too.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One line of JSON each.")
@with_settings
def list_command(settings: Settings, /, *, limit: int, as_json: bool, **filters: Any) -> None:  # noqa: ANN401  # the fields of Selection
    """List dead letters, the newest first."""
    from gateway.dead_letters import letters, render
    from runtime.terminal import columns

    async def read() -> list[letters.Letter]:
        async with letters.database(settings.postgres.dsn) as pool:
            return await letters.listed(pool, Selection(**filters), limit)

    found = asyncio.run(read())
    if as_json:
        for letter in found:
            click.echo(render.encode_letter(letter))
    elif found:
        for line in render.listing(found, columns()) if sys.stdout.isatty() else render.lines(found):
            click.echo(line)
    else:
        click.echo("no dead letters")


@dead_letters.command("show")
@click.argument("letter_id", metavar="ID", type=click.IntRange(min=1, max=2**63 - 1))
@click.option("--raw", is_flag=True, help="Only the payload, as it came.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON.")
@with_settings
def show_command(settings: Settings, /, *, letter_id: int, raw: bool, as_json: bool) -> None:
    """Show one dead letter with its payload."""
    from gateway.dead_letters import letters, render

    async def read() -> tuple[letters.Letter, bytes]:
        async with letters.database(settings.postgres.dsn) as pool:
            return await letters.shown(pool, letter_id)

    if raw and as_json:
        raise click.UsageError("--raw and --json: one of them")
    letter, payload = asyncio.run(read())
    if raw:
        sys.stdout.buffer.write(payload)
    else:
        text = render.encode_with_payload(letter, payload) if as_json else render.describe(letter, payload)
        click.echo(text)


@dead_letters.command("replay", short_help="Decode and store dead letters again, each once.")
@_with_filters
@click.option("--again", "replayed", is_flag=True, help="Those that were replayed already, too.")
@click.option(
    "--gateway",
    "gateways",
    multiple=True,
    metavar="ID",
    help="Of these gateways, by broker.client_id; any of several. Without it, this configuration's.",
)
@click.option("--limit", type=click.IntRange(min=1), help="At most so many, the oldest.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one line of JSON.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@with_settings
def replay_command(
    settings: Settings,
    /,
    *,
    limit: int | None,
    as_json: bool,
    quiet: bool,
    gateways: tuple[str, ...],
    **filters: Any,  # noqa: ANN401  # the fields of Selection
) -> int:
    """Decode and store dead letters again, each once; safe while gateways run, and to repeat.

    By the routes of this configuration: letters of other gateways, which have other routes, are left alone.
    What still fails stays, with what stands in its way now. Exits with 1 when something does.
    """
    from gateway.dead_letters import render
    from gateway.dead_letters.progress import progress_bar
    from gateway.dead_letters.run import replay
    from runtime.lifecycle import run_until_stopped
    from runtime.settings import duration_s

    tallies: list[Tally] = []
    selection = Selection(**filters, gateways=gateways or (settings.broker.client_id,))

    async def main(stop: asyncio.Event) -> None:
        with progress_bar(shown=sys.stderr.isatty() and not quiet) as progress:
            tallies.append(await replay(settings, selection, limit, stop, progress))

    code = run_until_stopped(main, shutdown_timeout_s=duration_s(settings.gateway.shutdown_timeout))
    for tally in tallies:
        click.echo(render.encode_tally(tally) if as_json else render.summary(tally))
        code = code or int(not tally.complete)
    return code
