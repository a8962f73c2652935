"""`gateway token` and `projector token`: make a token for who may look."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

import click

from runtime import tokens
from runtime.cli import with_settings
from runtime.errors import ConfigurationError, Stop

if TYPE_CHECKING:
    from runtime.settings import Settings


def token_command(section: Literal["gateway", "projector"]) -> click.Command:
    """The command of one wing.

    Args:
        section: whose `tokens_file` it is about.
    """

    @click.command("token", short_help="Make a token for who may look.")
    @click.argument("name")
    @click.option(
        "--scope",
        "scopes",
        type=click.Choice(tokens.SCOPES),
        multiple=True,
        required=True,
        help="read: query API and live page; metrics: /metrics. Can be given twice.",
    )
    @partial(with_settings, secrets=False)
    def command(settings: Settings, *, name: str, scopes: tuple[str, ...]) -> None:
        """Make a token, append its hash to the tokens file, and print it, this once.

        A running process takes it within a second. To revoke it delete its line.
        """
        source = getattr(settings, section).tokens_file
        if not source:
            raise ConfigurationError(
                f"{section}.tokens_file: is not set; name the file there, it is made here"
            )
        try:
            click.echo(tokens.add(source, name, tuple(dict.fromkeys(scopes))))
        except ValueError as error:
            raise Stop(str(error)) from None

    return command
