"""The `projector` command. Each command imports what it needs, so that all of them start fast."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from runtime.cli import with_settings

if TYPE_CHECKING:
    import asyncio

    from runtime.settings import Settings


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mqtt-edge-gateway")
def main() -> None:
    """Statistics per device and region in Redis, each stored message counted exactly once."""


@main.command()
@with_settings
def run(settings: Settings) -> int:
    """Keep the views up to date and answer queries until stopped (SIGTERM or Ctrl-C; twice: at once)."""
    from projector import app  # noqa: PLC0415  # see the module's docstring
    from runtime.lifecycle import run_until_stopped  # noqa: PLC0415
    from runtime.settings import duration_s  # noqa: PLC0415

    async def work(stop: asyncio.Event) -> None:
        await app.run(settings, stop)

    return run_until_stopped(work, shutdown_timeout_s=duration_s(settings.projector.shutdown_timeout))
