"""`gateway dialects`: the command line. What it runs is imported late, so that commands start fast."""

from __future__ import annotations

import sys

import click


@click.command("dialects", short_help="List the dialects, or show one.")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="For programs: an array, or of NAME an object.")
def dialects_command(name: str | None, *, as_json: bool) -> None:
    """List the dialects that there are, or show one: its routes as TOML, its examples and what they become.

    NAME may be one part of a dialect too, such as tasmota/sensor.
    """
    from datetime import UTC, datetime

    from gateway.decode.dialects import find, names, read
    from gateway.dialects import listing
    from gateway.dialects.played import play
    from runtime.errors import ConfigurationError
    from runtime.terminal import columns

    if name is None:
        known = [read(each) for each in names()]
        click.echo(listing.all_as_json(known) if as_json else listing.all_as_text(known, columns()))
        return
    try:
        dialect, chosen = find(name)
    except ConfigurationError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    parts = [part for part in play(dialect, datetime.now(UTC)) if part.name in chosen]
    click.echo(listing.as_json(dialect, parts) if as_json else listing.as_text(dialect, parts, columns()))
