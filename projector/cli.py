"""The `projector` command. Each command imports what it needs, so that all of them start fast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from projector.top.command import top_command
from runtime.cli import with_settings

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine

    from projector.report import Bars
    from runtime.settings import Settings


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mqtt-edge-gateway")
def main() -> None:
    """Statistics per device and region in Redis, each stored message counted exactly once."""


main.add_command(top_command)


@main.command()
@with_settings
def run(settings: Settings) -> int:
    """Keep the views up to date and answer queries until stopped (SIGTERM or Ctrl-C; twice: at once)."""
    from projector import app
    from runtime.lifecycle import run_until_stopped
    from runtime.settings import duration_s

    async def work(stop: asyncio.Event) -> None:
        await app.run(settings, stop)

    return run_until_stopped(work, shutdown_timeout_s=duration_s(settings.projector.shutdown_timeout))


@main.command()
@click.option(
    "--limit", type=click.IntRange(min=0), default=20, show_default=True, help="Differences to show."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as one line of JSON.")
@with_settings
def verify(settings: Settings, *, limit: int, as_json: bool) -> int:
    """Compare the views with a fold of PostgreSQL, while everything runs; exit with 1 when they differ.

    Sums may differ by 1e-9; everything else is compared exactly.
    """
    from projector import app, report

    async def work(bars: Bars) -> tuple[str, int]:
        result = await app.verify(
            settings, limit=limit, folding=bars("folding events"), comparing=bars("comparing views")
        )
        return report.verified(result, as_json=as_json), 0 if result.equal else 1

    return _run_once(settings, work)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print the result as one line of JSON.")
@with_settings
def rebuild(settings: Settings, *, as_json: bool) -> int:
    """Make the views anew from PostgreSQL, while everything runs: readers see the old ones until then."""
    from projector import app, report

    async def work(bars: Bars) -> tuple[str, int]:
        result = await app.rebuild(settings, progress=bars("folding events"))
        return report.rebuilt(result, as_json=as_json), 0

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
