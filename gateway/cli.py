"""The `gateway` command. Each command imports what it needs, so that all of them start fast."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import click

from gateway.dead_letters.command import dead_letters
from gateway.dialects.command import dialects_command
from gateway.discover.command import discover_command
from gateway.explain.command import decode_command
from gateway.registry.command import devices
from gateway.simulate.command import simulate_command
from gateway.tail.command import tail_command
from gateway.trace.command import trace_command
from runtime.cli import with_settings

if TYPE_CHECKING:
    from gateway.ledger import Ledger
    from runtime.settings import Settings

_REPORT_WIDTH: Final = 120  # of a wide terminal


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mqtt-edge-gateway")
@click.pass_context
def main(context: click.Context) -> None:
    """MQTT telemetry into PostgreSQL, each message exactly once."""
    context.obj = _complete


def _complete(raw: dict[str, Any]) -> None:
    if "route" in raw:
        from gateway.decode.dialects import complete_routes

        complete_routes(raw)


main.add_command(simulate_command)
main.add_command(discover_command)
main.add_command(dead_letters)
main.add_command(tail_command)
main.add_command(trace_command)
main.add_command(decode_command)
main.add_command(dialects_command)
main.add_command(devices)


@main.command(short_help="Take messages from the broker until stopped.")
@with_settings
def run(settings: Settings) -> int:
    """Take messages from the broker until stopped (SIGTERM or Ctrl-C; twice to leave at once)."""
    import structlog

    from gateway import app
    from runtime.lifecycle import run_until_stopped
    from runtime.settings import duration_s

    def report(ledger: Ledger) -> None:
        line = ledger.line()
        structlog.get_logger().info("accounting", **line)
        click.echo(" ".join(f"{name}={value}" for name, value in line.items()))

    async def work(stop: asyncio.Event) -> None:
        await app.run(settings, stop, report)

    return run_until_stopped(work, shutdown_timeout_s=duration_s(settings.gateway.shutdown_timeout))


@main.command()
@with_settings
def migrate(settings: Settings) -> None:
    """Bring the database's schema to this version."""
    from gateway.migrate import migrate as apply

    applied = asyncio.run(apply(settings.postgres.dsn))
    click.echo("\n".join(f"applied {name}" for name in applied) or "nothing to do")


@main.command(short_help="Try all servers, and say what to mend.")
@click.option(
    "--offline", is_flag=True, help="Try no server: the configuration, and the examples of its routes."
)
@with_settings
def check(settings: Settings, *, offline: bool) -> int:
    """Try the broker, PostgreSQL and Redis, and say what works and what to do about what does not.

    The examples of routes are played too. Exits with 1 when something fails.
    """
    from gateway.check import check as examine
    from gateway.check import render
    from runtime.terminal import columns

    report = asyncio.run(examine(settings, offline=offline))
    click.echo(render(report, columns(at_most=_REPORT_WIDTH)))
    return 0 if report.ok else 1
