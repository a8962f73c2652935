"""`gateway devices`: the command line. What it runs is imported late, so that commands start fast."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import click

from gateway.registry.entry import (
    STATES,
    Wish,
    check_labels,
    checked_id,
    checked_name,
    parse_every,
)
from runtime.cli import with_settings
from runtime.listing import show, until_nobody_reads

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import asyncpg

    from gateway.dead_letters.tally import Tally
    from gateway.door import State
    from gateway.registry.table import Changed
    from runtime.settings import Settings

_FAULTS: Final = 20
_PATIENCE_S: Final = 30.0  # for another replay
_PAUSE_S: Final = 0.5
_WRONG: Final = 2
_NOT_LOOKED_AT: Final = (
    "what is held was not looked at, another replay may be under way: a gateway that holds stores it, or so "
    "does `gateway dead-letters replay --reason unknown_device`"
)


def _by(parse: Callable[[str], Any]) -> Callable[..., Any]:
    """A callback that parses a value, or ends the command."""

    def parsed(_context: click.Context, _option: click.Parameter, value: str | None) -> Any:  # noqa: ANN401  # whatever it is
        try:
            return None if value is None else parse(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error

    return parsed


def _beginning(text: str) -> str:
    """What an id can begin with."""
    checked_id(f"{text}x")
    return text


def _ids(_context: click.Context, _argument: click.Parameter, given: tuple[str, ...]) -> list[str]:
    ids: dict[str, None] = {}
    for each in given:
        read = [each]
        if each == "-":
            lines = sys.stdin.buffer.read().decode(errors="surrogateescape").split("\n")
            read = [line.removesuffix("\r") for line in lines if line.strip()]
        try:
            ids |= dict.fromkeys(map(checked_id, read))
        except ValueError as error:
            raise click.BadParameter(str(error)) from error
    if not ids:
        raise click.BadParameter("no device is named")
    return list(ids)


def _pairs(_context: click.Context, _option: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    labels: dict[str, str] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals:
            raise click.BadParameter(f"{each[:40]!r}: expected a name and a value, such as site=north")
        labels[name.strip()] = value.strip()
    try:
        check_labels(labels)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return labels


_IDS = click.argument("ids", metavar="ID...", nargs=-1, required=True, callback=_ids)
_JSON = click.option("--json", "as_json", is_flag=True, help="One line of JSON.")
_EVERY = 'How often it should send, such as "15m"; "" for no such time.'


@click.group("devices", short_help="Name devices, and say which may send.")
def devices() -> None:
    """Say what devices are called, which of them may send, and how often each should.

    An ID of - reads ids from stdin, one a line. Of many at once all change or none. Gateways and projectors
    that run know of it within seconds.
    """


@devices.command("list", short_help="List devices, and what is held for each.")
@click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="Any of several.")
@click.option(
    "--label", "labels", multiple=True, callback=_pairs, metavar="NAME=VALUE", help="All of several."
)
@click.option("--prefix", default="", callback=_by(_beginning), metavar="TEXT", help="With which ids begin.")
@click.option("--never-heard", is_flag=True, help="Only those of which nothing was ever stored.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True)
@click.option("--all", "is_all", is_flag=True, help="However many there are.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON each.")
@partial(with_settings, log_level="error")
def list_command(
    settings: Settings,
    /,
    *,
    states: tuple[State, ...],
    labels: Mapping[str, str],
    prefix: str,
    never_heard: bool,
    limit: int,
    is_all: bool,
    as_json: bool,
) -> None:
    """List devices by id, and how many messages are held for each.

    Among those that are unknown are those that are in no registry, and are held.
    """
    from gateway.dead_letters.letters import database
    from gateway.registry import render, table

    async def read() -> None:
        async with database(settings.postgres.dsn, name="gateway-devices") as pool:
            await show(
                table.listed(pool, table.Selection(states, labels, prefix, never_heard)),
                columns=render.COLUMNS,
                cells=render.cells,
                limit=None if is_all else limit,
                as_json=as_json,
                nothing="no devices",
            )

    with until_nobody_reads():
        asyncio.run(read())


@devices.command("set", short_help="Put devices into the registry, or change them.")
@_IDS
@click.option(
    "--name", callback=_by(checked_name), metavar="TEXT", help='What people call it; "" for no name.'
)
@click.option(
    "--label", "more", multiple=True, callback=_pairs, metavar="NAME=VALUE", help="Any number of them."
)
@click.option(
    "--unlabel", "fewer", multiple=True, metavar="NAME", help="Take labels off; any number of them."
)
@click.option("--expected-every", "expected_s", callback=_by(parse_every), metavar="DURATION", help=_EVERY)
@click.option("--state", type=click.Choice(STATES), help="Without it active, unless it is blocked.")
@_JSON
@with_settings
def set_command(
    settings: Settings,
    /,
    *,
    ids: list[str],
    name: str | None,
    fewer: tuple[str, ...],
    as_json: bool,
    **said: Any,  # noqa: ANN401  # the fields of Wish
) -> int:
    """Put devices into the registry, or change what it says of them.

    Messages that were held because nobody knew the device are stored then, in order of arrival, each once.
    """
    if name and len(ids) > 1:
        raise click.UsageError("--name: a name is of one device")
    wishes = [Wish(id_, name=name, fewer=frozenset(fewer), **said) for id_ in ids]
    return _change(settings, wishes, as_json=as_json)


@devices.command("block", short_help="Let nothing in that these send.")
@_IDS
@_JSON
@with_settings
def block_command(settings: Settings, /, *, ids: list[str], as_json: bool) -> int:
    """Let nothing in that these send: it is kept among the dead letters, within their bounds."""
    return _change(settings, [Wish(id_, state="blocked") for id_ in ids], as_json=as_json, releases=False)


@devices.command("unblock")
@_IDS
@_JSON
@with_settings
def unblock_command(settings: Settings, /, *, ids: list[str], as_json: bool) -> int:
    """Let these in again. What was refused meanwhile stays among the dead letters."""
    code = _change(settings, [Wish(id_, state="active") for id_ in ids], as_json=as_json)
    if not as_json:
        _tell_of_blocked(settings, ids)
    return code


@devices.command("import", short_help="Do what a CSV file says of devices.")
@click.argument("file", metavar="CSV", type=click.File("rb"))
@_JSON
@with_settings
def import_command(settings: Settings, /, *, file: BinaryIO, as_json: bool) -> int:
    """Do what a CSV file says of devices, all of it or, where a row is wrong, nothing.

    Its first row names the columns: device_id, and any of name, state, expected_every, labels (as JSON). What
    has no column stays as it is. A CSV of - is stdin.
    """
    from gateway.registry.file import MOST_BYTES, read

    wishes, faults = read(file.read(MOST_BYTES + 1))
    if faults:
        for fault in faults[:_FAULTS]:
            click.echo(f"error: {file.name}: row {fault.row}: {fault.error}", err=True)
        more = f"{len(faults) - _FAULTS:,} more rows are wrong; " if len(faults) > _FAULTS else ""
        click.echo(f"error: {more}nothing was changed", err=True)
        return _WRONG
    return _change(settings, wishes, as_json=as_json)


@devices.command("export", short_help="Write the registry to stdout as CSV.")
@partial(with_settings, log_level="error")
def export_command(settings: Settings, /) -> None:
    """Write all of the registry to stdout, as CSV that `import` reads."""
    from gateway.dead_letters.letters import database
    from gateway.registry import table
    from gateway.registry.file import COLUMNS, line, row_of

    async def write() -> None:
        async with database(settings.postgres.dsn, name="gateway-devices") as pool:
            sys.stdout.buffer.write(line(COLUMNS).encode())
            async for entry in table.entries(pool):
                sys.stdout.buffer.write(row_of(entry).encode())
            sys.stdout.buffer.flush()

    with until_nobody_reads():
        asyncio.run(write())


def _change(settings: Settings, wishes: Sequence[Wish], *, as_json: bool, releases: bool = True) -> int:
    """Change the registry, store what was held for who is known now, and say what became of both."""
    from gateway.dead_letters.letters import database
    from gateway.dead_letters.progress import progress_bar
    from gateway.registry import render, table
    from runtime.lifecycle import run_until_stopped
    from runtime.settings import duration_s

    done: list[tuple[Changed, Tally | None]] = []

    async def main(stop: asyncio.Event) -> None:
        async with database(settings.postgres.dsn, name="gateway-devices") as pool:
            changed = await table.change(pool, wishes)
            done.append((changed, None))
            if releases:
                with progress_bar(shown=sys.stderr.isatty() and not as_json) as progress:
                    done.append((changed, await _release(pool, settings, stop, progress)))

    code = 0
    try:
        code = run_until_stopped(main, shutdown_timeout_s=duration_s(settings.gateway.shutdown_timeout))
    finally:  # what was changed is said also where what is held could not be read
        for changed, tally in done[-1:]:
            click.echo(render.encode(changed, tally) if as_json else render.summary(changed, tally))
            if releases and tally is None:
                click.echo(_NOT_LOOKED_AT, err=True)
            code = code or int(releases and (tally is None or not tally.complete))
    return code


async def _release(
    pool: asyncpg.Pool[asyncpg.Record],
    settings: Settings,
    stop: asyncio.Event,
    progress: Callable[[Tally], None],
) -> Tally | None:
    """Store what was held; None when somebody else replays all the time."""
    from gateway.dead_letters.release import release
    from gateway.dead_letters.run import ReplayUnderWay

    loop = asyncio.get_running_loop()
    until = loop.time() + _PATIENCE_S
    while not stop.is_set() and loop.time() < until:
        try:
            return await release(pool, settings, stop, progress)
        except ReplayUnderWay:
            await asyncio.sleep(_PAUSE_S)
    return None


def _tell_of_blocked(settings: Settings, ids: Sequence[str]) -> None:
    from gateway.dead_letters.letters import count
    from gateway.dead_letters.selection import Selection

    kept = asyncio.run(count(settings.postgres.dsn, Selection(("device_blocked",), tuple(ids))))
    if kept:
        click.echo(
            f"{kept:,} messages were refused meanwhile; they are stored with "
            "`gateway dead-letters replay --reason device_blocked`, with --device those of one"
        )
