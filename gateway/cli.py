"""The `gateway` command. Each command imports what it needs, so that all of them start fast."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import click

from gateway.dead_letters.command import dead_letters
from gateway.dialects.command import dialects_command
from gateway.discover.command import discover_command
from gateway.explain.command import decode_command
from gateway.init.command import init_command, password_command
from gateway.registry.command import devices
from gateway.simulate.command import simulate_command
from gateway.spool.command import spool
from gateway.support.command import support_command
from gateway.tail.command import tail_command
from gateway.trace.command import trace_command
from runtime.cli import LOAD, with_settings
from runtime.token_command import token_command

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
main.add_command(init_command)
devices.add_command(password_command)
main.add_command(spool)
main.add_command(support_command)
main.add_command(token_command("gateway"))


@main.command(short_help="Take messages from the broker until stopped.")
@with_settings
def run(settings: Settings) -> int:
    """Take messages from the broker until stopped (SIGTERM or Ctrl-C; twice to leave at once)."""
    import structlog

    from gateway import app
    from runtime import logs
    from runtime.lifecycle import run_until_stopped
    from runtime.reload import Reload
    from runtime.settings import duration_s

    logs.set_level(settings.gateway.log_level)

    def report(ledger: Ledger) -> None:
        line = ledger.line()
        structlog.get_logger().info("accounting", **line)
        click.echo(" ".join(f"{name}={value}" for name, value in line.items()))

    reload = Reload(click.get_current_context().meta[LOAD])

    async def work(stop: asyncio.Event) -> None:
        await app.run(settings, stop, report, reload)

    shutdown_timeout_s = duration_s(settings.gateway.shutdown_timeout)
    return run_until_stopped(work, shutdown_timeout_s=shutdown_timeout_s, hangup=reload.ask)


@main.command("reload", short_help="Have a running gateway read its configuration again.")
@with_settings
def reload_command(settings: Settings) -> None:
    """Have the gateway of this configuration, on this machine, read it again: routes and retention.

    A configuration that is wrong is refused here, and there: the gateway goes on as it was. Its log says what
    changed, and what needs a restart.
    """
    from gateway.running import hang_up
    from gateway.subscriptions import plan

    plan(settings)
    click.echo(f"asked process {asyncio.run(hang_up(settings))}")


@main.command("retire", short_help="End the session that a renamed gateway left.")
@click.argument("client_id", metavar="CLIENT_ID")
@with_settings
def retire_command(settings: Settings, *, client_id: str) -> None:
    """End the session that a gateway of another client id left at the broker, with all that waits in it.

    The broker queues for it as long as `broker.session_expiry`, and counts what it drops of it.
    """
    from gateway.retire import retire

    known = asyncio.run(retire(settings, client_id))
    click.echo(f"{client_id} has no session any more" if known else f"{client_id} was not known; it has none")


@main.command("config", short_help="Print what is in force, and from where.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON each.")
@with_settings
def config_command(settings: Settings, *, as_json: bool) -> None:
    """Print the configuration in force: each key, its value, and where that is from; secrets are masked."""
    import os
    from pathlib import Path

    import msgspec

    from runtime.settings.shown import effective

    said = click.get_current_context().params.get("config")
    for shown in effective(settings, Path(said) if said else None, os.environ):
        value = msgspec.json.encode(shown.value).decode()
        click.echo(msgspec.json.encode(shown) if as_json else f"{shown.key} = {value}  # {shown.source}")


@main.command(short_help="Print what gives a role of PostgreSQL its rights.")
@click.argument("kind", type=click.Choice(["owner", "gateway", "projector", "grafana"]))
@click.option("--role", metavar="NAME", help="The role's name; without it, the kind's.")
@with_settings
def rights(settings: Settings, *, kind: str, role: str | None) -> None:
    """Print the statements that give a role of PostgreSQL its rights, for the owner of the tables to run."""
    from urllib.parse import unquote, urlsplit

    from contract.rights import ROLES
    from runtime.rights import script

    database = unquote(urlsplit(settings.postgres.dsn).path[1:]) or "postgres"
    for statement in script(ROLES[kind], role or kind, database=database):
        click.echo(f"{statement};")


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
@click.option("--json", "as_json", is_flag=True, help="Print the findings as one line of JSON.")
@with_settings
def check(settings: Settings, *, offline: bool, as_json: bool) -> int:
    """Try the broker, PostgreSQL and Redis, and say what works and what to do about what does not.

    The examples of routes are played too. Exits with 1 when something fails.
    """
    from gateway.check import check as examine
    from gateway.check import encode, render
    from runtime.terminal import columns

    report = asyncio.run(examine(settings, offline=offline))
    click.echo(encode(report) if as_json else render(report, columns(at_most=_REPORT_WIDTH)))
    return 0 if report.ok else 1
