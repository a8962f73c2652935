"""What the commands of both wings share: options, loading the configuration, exit codes.

Only what parses the command line is imported here; a command imports what it runs.
"""

from __future__ import annotations

import functools
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Final, Literal, ParamSpec

import click

from runtime import logs, settings
from runtime.errors import Retry, Stop

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")

LOAD: Final = "mqtt-edge-gateway.load"
"""Where a command finds in its context what reads the configuration once more."""

LogLevel = Literal["debug", "info", "warning", "error"]

_DURATION = re.compile(r"[1-9][0-9]{0,8}(ms|s|m|h|d)")


def _options(log_level: LogLevel) -> tuple[Callable[[Callable[..., Any]], Callable[..., Any]], ...]:
    return (
        click.option(
            "--config",
            type=click.Path(path_type=Path),
            envvar="EDGE_CONFIG",
            show_envvar=True,
            metavar="FILE",
            help="TOML file; without one, defaults for servers on localhost.",
        ),
        click.option(
            "--log-format",
            type=click.Choice(["auto", "console", "json"]),
            default="auto",
            show_default=True,
            help="auto: coloured on a terminal, JSON lines elsewhere.",
        ),
        click.option(
            "--log-level",
            type=click.Choice(["debug", "info", "warning", "error"]),
            default=log_level,
            show_default=True,
        ),
    )


def duration(_context: click.Context, _option: click.Parameter, value: str | None) -> float | None:
    """Callback of an option such as `--for 30s`: its seconds."""
    if value is None:
        return None
    if not _DURATION.fullmatch(value):
        raise click.BadParameter(f'{value!r} is no duration such as "30s", "5m" or "2h"')
    return settings.duration_s(value)


def with_settings(
    command: Callable[Concatenate[settings.Settings, P], int | None],
    log_level: LogLevel = "info",
    *,
    secrets: bool = True,
) -> Callable[..., Any]:
    """Decorate a click command: adds the shared options and calls it with the checked settings first.

    The command's result is its exit code, None for 0. `Stop` and an escaped `Retry` become a line on stderr
    (`error: <key or component>: <reason>`) and their exit code.

    Args:
        command: to decorate.
        log_level: the lowest that is written unless `--log-level` says so; a command with a voice of its own
            raises it.
        secrets: whether it needs those in files; a command that connects to nothing does not.
    """

    @functools.wraps(command)
    def run(
        config: Path | None, log_format: logs.Format, log_level: str, *args: P.args, **kwargs: P.kwargs
    ) -> None:
        logs.configure(log_format, log_level)
        try:
            context = click.get_current_context()
            complete = context.find_root().obj
            load = functools.partial(settings.load, config, complete=complete, secrets=secrets)
            context.meta[LOAD] = load
            code = command(load(), *args, **kwargs)
        except (Stop, Retry) as error:
            click.echo(f"error: {logs.mask(str(error))}", err=True)
            code = getattr(error, "exit_code", 1)
        sys.exit(code or 0)

    decorated: Callable[..., Any] = run
    for option in reversed(_options(log_level)):
        decorated = option(decorated)
    return decorated
