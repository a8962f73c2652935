"""`gateway decode`: the command line. What it runs is imported late, so that commands start fast."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import click
import msgspec

from gateway.dead_letters.selection import parse_when
from runtime.cli import with_settings
from runtime.errors import ConfigurationError, Reject

if TYPE_CHECKING:
    from runtime.settings import Route, Settings


def _when(_context: click.Context, _option: click.Parameter, value: str | None) -> datetime:
    now = datetime.now(UTC)
    try:
        return now if value is None else parse_when(value, now)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _routes_of(dialect: str) -> tuple[Route, ...]:
    """The routes of a dialect, or of one part of it."""
    from gateway.decode.dialects import complete_routes
    from runtime import settings

    route = msgspec.json.encode([{"dialect": dialect}]).decode()
    try:
        return settings.load(None, {"EDGE_ROUTE": route}, complete_routes).route
    except ConfigurationError as error:
        raise click.UsageError(f"--dialect: {str(error).removeprefix('route[0].dialect: ')}") from None


@click.command("decode", short_help="Show what a message becomes, and by which route.")
@click.argument("topic")
@click.argument("source", metavar="[FILE|-]", default="-")
@click.option("--hex", "as_hex", is_flag=True, help="The payload is written in hexadecimal.")
@click.option("--base64", "as_base64", is_flag=True, help="The payload is written in base64.")
@click.option(
    "--birth",
    metavar="FILE",
    help="Sparkplug: the payload of the birth of its edge node or device, written like its own.",
)
@click.option("--dialect", metavar="NAME", help="By this dialect's routes and no others.")
@click.option(
    "--at",
    callback=_when,
    metavar="TIME",
    help='When it arrives: "2026-11-23T09:00" (UTC) or "1h" ago. Now, unless it is said.',
)
@click.option("--json", "as_json", is_flag=True, help="Readings as an array; dead letters on stderr.")
@partial(with_settings, log_level="error", secrets=False)
def decode_command(
    settings: Settings,
    *,
    topic: str,
    source: str,
    as_hex: bool,
    as_base64: bool,
    birth: str | None,
    dialect: str | None,
    at: datetime,
    as_json: bool,
) -> int:
    """Show what a message becomes, and by which route; nothing is asked or stored anywhere.

    The payload is read from FILE, or from stdin. Exits with 1 when it, or a part of it, is a dead letter.
    """
    from gateway.decode import Limits
    from gateway.decode.routes import compile_routes
    from gateway.explain import payloads, render
    from gateway.explain.explanation import explain, topic_fault
    from runtime.terminal import columns

    if fault := topic_fault(topic):
        raise click.UsageError(f"TOPIC: {fault}")
    if as_hex and as_base64:
        raise click.UsageError("--hex and --base64: one of them")
    routes = compile_routes(_routes_of(dialect) if dialect else settings.route)
    encoding: payloads.Encoding = "hex" if as_hex else "base64" if as_base64 else "raw"
    try:
        said = payloads.read(birth, encoding, click.echo) if birth else None
        payload = payloads.read(source, encoding, lambda text: click.echo(text, err=True))
        explanation = explain(routes, Limits.of(settings.gateway), topic, payload, at, birth=said)
    except (ValueError, Reject) as error:
        raise click.UsageError(str(error)) from error
    if as_json:
        click.echo(render.readings_as_json(explanation))
        for line in render.letters_as_json(explanation):
            click.echo(line, err=True)
    else:
        click.echo(render.as_text(explanation, columns()))
    return int(bool(explanation.letters))
