"""The `projector` command. Each command imports what it needs, so that all of them start fast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from projector.devices.command import devices
from projector.top.command import top_command
from runtime.cli import LOAD, with_settings
from runtime.token_command import token_command

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine

    from projector.report import Bars
    from runtime.settings import Settings


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mqtt-edge-gateway")
def main() -> None:
    """Statistics per device and region in Redis, each stored message counted exactly once."""


main.add_command(devices)
main.add_command(top_command)
main.add_command(token_command("projector"))


@main.command(short_help="Keep the views up to date until stopped.")
@with_settings
def run(settings: Settings) -> int:
    """Keep the views up to date and answer queries until stopped (SIGTERM or Ctrl-C; twice: at once)."""
    from projector import app
    from runtime import logs
    from runtime.lifecycle import run_until_stopped
    from runtime.reload import Reload
    from runtime.settings import duration_s

    logs.set_level(settings.projector.log_level)
    reload = Reload(click.get_current_context().meta[LOAD])

    async def work(stop: asyncio.Event) -> None:
        await app.run(settings, stop, reload)

    shutdown_timeout_s = duration_s(settings.projector.shutdown_timeout)
    return run_until_stopped(work, shutdown_timeout_s=shutdown_timeout_s, hangup=reload.ask)


_only = click.option(
    "--only",
    type=click.Choice(["views", "history"]),
    help="Leave the other projection alone; both without it.",
)


@main.command(short_help="Compare views and history with PostgreSQL.")
@click.option(
    "--limit", type=click.IntRange(min=0), default=20, show_default=True, help="Differences to show, of each."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as one line of JSON.")
@_only
@with_settings
def verify(settings: Settings, *, limit: int, as_json: bool, only: str | None) -> int:
    """Compare views and history with the measurements, while everything runs; exit with 1 when they differ.

    Sums may differ by 1e-9 of what was added up; everything else is compared exactly. Of devices that have
    expired it compares order, region and last-seen time.
    """
    from projector import app, report

    async def work(bars: Bars) -> tuple[str, int]:
        views = history = None
        if only != "history":
            views = await app.verify(
                settings, limit=limit, folding=bars("folding events"), comparing=bars("comparing views")
            )
        if only != "views":
            history = await app.verify_history(settings, limit=limit, progress=bars("comparing days"))
        equal = all(found.equal for found in (views, history) if found)
        return report.verified(views, history, as_json=as_json), 0 if equal else 1

    return _run_once(settings, work)


@main.command(short_help="Make views and history anew from PostgreSQL.")
@click.option(
    "--from",
    "source",
    type=click.Choice(["settled", "measurements"]),
    default="settled",
    show_default=True,
    help="What views are made of: what settled days amount to, or every measurement.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as one line of JSON.")
@_only
@with_settings
def rebuild(settings: Settings, *, source: str, as_json: bool, only: str | None) -> int:
    """Make views and history anew from PostgreSQL, while everything runs: readers see the old until then."""
    from projector import app, report

    async def work(bars: Bars) -> tuple[str, int]:
        views = history = None
        if only != "history":
            views = await app.rebuild(settings, settled=source == "settled", progress=bars("folding events"))
        if only != "views":
            history = await app.rebuild_history(settings, progress=bars("mending days"))
        return report.rebuilt(views, history, as_json=as_json), 0

    return _run_once(settings, work)


def _run_once(settings: Settings, work: Callable[[Bars], Coroutine[Any, Any, tuple[str, int]]]) -> int:
    """Run what ends by itself with a text and an exit code; stopped before that, it exits with 1."""
    from projector.report import progress_bars
    from runtime.lifecycle import run_until_stopped, unless
    from runtime.settings import duration_s

    results: list[tuple[str, int]] = []

    async def run_work(stop: asyncio.Event) -> None:
        with progress_bars() as bars:
            result = await unless(stop, work(bars))
        if result is not None:
            results.append(result)

    failed = run_until_stopped(run_work, shutdown_timeout_s=duration_s(settings.projector.shutdown_timeout))
    if not results:
        return failed or 1
    text, code = results[0]
    click.echo(text)
    return code
