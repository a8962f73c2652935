"""`gateway simulate`: the command line. What it runs is imported late, so that every command starts fast."""

from __future__ import annotations

import math
import secrets
import sys
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

import click
from click.core import ParameterSource

from runtime.cli import with_settings

if TYPE_CHECKING:
    import asyncio

    from gateway.simulate.summary import Summary
    from runtime.mqtt.port import Qos
    from runtime.settings import Settings

_OF_A_FLEET: Final = ("devices", "regions", "duplicates", "garbage", "late", "arrays", "topic")


class _Number(click.FloatRange):
    """A finite number above zero; click's own range lets NaN and infinity pass."""

    def __init__(self) -> None:
        super().__init__(min=0, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401  # click's signature
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


@click.command("simulate", short_help="Publish as a fleet of devices does.")
@click.option("--devices", type=click.IntRange(1, 1_000_000), default=200, show_default=True)
@click.option("--regions", type=click.IntRange(1, 1000), default=4, show_default=True)
@click.option("--rate", type=_Number(), default=100.0, show_default=True, help="Messages a second, in total.")
@click.option("--seconds", type=_Number(), help="How long; without it and --messages until stopped.")
@click.option("--messages", type=click.IntRange(min=1), help="How many.")
@click.option("--qos", type=click.Choice(["0", "1", "2"]), default="1", show_default=True)
@click.option("--connections", type=click.IntRange(1, 1000), default=4, show_default=True)
@click.option("--duplicates", type=float, default=0.05, show_default=True, help="Share of exact repeats.")
@click.option("--garbage", type=float, default=0.02, show_default=True, help="Share that must be rejected.")
@click.option("--late", type=float, default=0.05, show_default=True, help="Share sent minutes to hours late.")
@click.option("--arrays", type=float, default=0.0, show_default=True, help="Share sent as arrays.")
@click.option("--seed", type=int, help="Same seed, same devices; drawn when not given.")
@click.option(
    "--passwords",
    metavar="FILE",
    type=click.File(encoding="utf-8"),
    help="As these devices, a line NAME:PASSWORD each, with a connection of its own each.",
)
@click.option("--topic", help="Where devices publish; the first route's topic when not given.")
@click.option(
    "--dialect",
    "dialects",
    multiple=True,
    metavar="NAME",
    help="As devices of a dialect, or of all; several may be.",
)
@click.option(
    "--prefix", default="", metavar="LEVELS/", help="Before the topics of dialects, such as site/north/."
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one line of JSON.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@with_settings
def simulate_command(
    settings: Settings,
    *,
    devices: int,
    regions: int,
    rate: float,
    seconds: float | None,
    messages: int | None,
    qos: str,
    connections: int,
    duplicates: float,
    garbage: float,
    late: float,
    arrays: float,
    seed: int | None,
    passwords: TextIO | None,
    topic: str | None,
    dialects: tuple[str, ...],
    prefix: str,
    as_json: bool,
    quiet: bool,
) -> int:
    """Publish as a fleet of devices does, and say what the broker acknowledged.

    Messages are in the default device form, with diurnal values; some are repeated, spoiled or late. With
    --dialect they are the examples of dialects, sent as if measured now. Exits with 1 when a message was not
    acknowledged.
    """
    from rich.console import Console

    from gateway.simulate.devices import Shares
    from gateway.simulate.publisher import DRAIN_S
    from gateway.simulate.simulation import Options, simulate
    from gateway.simulate.summary import encode, render
    from runtime.lifecycle import run_until_stopped
    from runtime.terminal import columns

    _check_dialects(dialects, prefix)
    accounts = _accounts(passwords) if passwords else {}
    try:
        shares = Shares(duplicates=duplicates, garbage=garbage, late=late, arrays=arrays)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    options = Options(
        devices=len(accounts) or devices,
        regions=regions,
        rate=rate,
        seconds=seconds,
        messages=messages,
        qos=cast("Qos", int(qos)),
        connections=len(accounts) or connections,
        shares=shares,
        seed=secrets.randbits(31) if seed is None else seed,
        topic="" if dialects else _checked_topic(topic or settings.route[0].topic),
        passwords=accounts,
        dialects=dialects,
        prefix=prefix,
        progress=sys.stderr.isatty() and not quiet,
    )
    summaries: list[Summary] = []

    async def main(stop: asyncio.Event) -> None:
        summaries.append(await simulate(settings, options, stop))

    code = run_until_stopped(main, shutdown_timeout_s=2 * DRAIN_S)
    for summary in summaries:
        if as_json:
            click.echo(encode(summary))
        else:
            Console(width=columns()).print(render(summary))
        if not summary.complete:
            code = code or 1
    return code


def _check_dialects(dialects: tuple[str, ...], prefix: str) -> None:
    from gateway.decode.dialects import names

    if prefix and (not dialects or not prefix.endswith("/") or any(sign in prefix for sign in "+#\x00")):
        raise click.UsageError(f"--prefix {prefix!r}: levels that end in a slash, beside --dialect")
    for dialect in dialects:
        if dialect != "all" and dialect not in names():
            raise click.UsageError(f"--dialect {dialect!r} is none; there are {', '.join(names())}, and all")
    context = click.get_current_context()
    for option in _OF_A_FLEET if dialects else ():
        if context.get_parameter_source(option) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{option} has no effect beside --dialect")


def _accounts(lines: TextIO) -> dict[str, str]:
    accounts = dict(line.rstrip("\n").split(":", 1) for line in lines if ":" in line)
    if not accounts:
        raise click.UsageError(f"--passwords {lines.name}: no line NAME:PASSWORD in it")
    context = click.get_current_context()
    for option in ("devices", "connections", "dialects"):
        if context.get_parameter_source(option) is ParameterSource.COMMANDLINE:
            raise click.UsageError("--devices, --connections and --dialect have no effect beside --passwords")
    return accounts


def _checked_topic(topic: str) -> str:
    if "{device_id}" not in topic:
        raise click.UsageError(f"topic {topic!r} has no {{device_id}}; say with --topic where to publish")
    filled = topic.replace("{device_id}", "").replace("{region}", "")
    if any(sign in filled for sign in "+#{}\x00"):
        raise click.UsageError(f"topic {topic!r}: only {{device_id}} and {{region}} are filled, no wildcards")
    return topic
