"""`projector devices`: the command line. What it runs is imported late, so that commands start fast."""

from __future__ import annotations

import asyncio
import getpass
import sys
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, get_args

import click

from projector.devices.listing import COLUMNS, Selection, Wanted
from runtime.cli import duration, with_settings
from runtime.listing import show, until_nobody_reads

if TYPE_CHECKING:
    from collections.abc import Callable

    from projector.watch.care import Care, What
    from runtime.settings import Settings

LONGEST: Final = 500  # as `device_care` has it

_QUOTED: Final = 40  # characters of what is too long
_LONGEST_S = 3650 * 86_400


def _who() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


class _Text(click.ParamType[str]):
    """What a text in PostgreSQL can be: UTF-8 without NUL, and not too long."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Take it, or end the command."""
        if len(value) > LONGEST:
            self.fail(f"{value[:_QUOTED]!r}… has more than {LONGEST} characters", param, ctx)
        try:
            value.encode()
        except UnicodeEncodeError:
            self.fail(f"{value!r} is not UTF-8", param, ctx)
        if "\0" in value:
            self.fail(f"{value!r} has a NUL in it", param, ctx)
        return value


_TEXT: Final = _Text()


def _ids(context: click.Context, argument: click.Parameter, given: tuple[str, ...]) -> list[str]:
    ids: list[str] = []
    for each in given:
        if each == "-":
            read = sys.stdin.buffer.read().decode(errors="surrogateescape")
            ids += [
                _TEXT.convert(line.strip(), argument, context) for line in read.split("\n") if line.strip()
            ]
        else:
            ids.append(each)
    if not ids:
        raise click.BadParameter("no device is named")
    return ids


def _lasting(context: click.Context, option: click.Parameter, value: str) -> timedelta:
    seconds = duration(context, option, value) or 0.0
    if seconds > _LONGEST_S:
        raise click.BadParameter('longer than "3650d": retire what is gone for good')
    return timedelta(seconds=seconds)


_IDS = click.argument("ids", metavar="ID...", nargs=-1, required=True, type=_TEXT, callback=_ids)
_SAYING = (
    click.option("--reason", default="", type=_TEXT, help="Kept beside it, and told."),
    click.option(
        "--by", default=_who, type=_TEXT, show_default="who runs this", help="Who says so; kept and told."
    ),
    click.option("--json", "as_json", is_flag=True, help="One line of JSON for each that changed."),
)


def _saying(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed((_IDS, *_SAYING)):
        command = option(command)
    return with_settings(command, log_level="error")


@click.group("devices", short_help="List devices, mute some, or retire them.")
def devices() -> None:
    """List devices, mute some for a while, or retire them.

    An ID of - reads ids from stdin, one a line. Of many at once all change or none.
    """


@devices.command("list", short_help="List devices by id.")
@click.option("--state", "states", multiple=True, type=click.Choice(get_args(Wanted)), help="Any of several.")
@click.option("--region", "regions", multiple=True, type=_TEXT, metavar="NAME", help="Any of several.")
@click.option("--prefix", default="", type=_TEXT, metavar="TEXT", help="With which ids begin.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True)
@click.option("--all", "is_all", is_flag=True, help="However many there are.")
@click.option("--pace/--no-pace", default=True, help="Ask how long each usually pauses.", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One line of JSON each.")
@partial(with_settings, log_level="error")
def list_command(
    settings: Settings,
    /,
    *,
    states: tuple[Wanted, ...],
    regions: tuple[str, ...],
    prefix: str,
    limit: int,
    is_all: bool,
    pace: bool,
    as_json: bool,
) -> None:
    """List devices by id, as PostgreSQL has them and as projectors have told of them.

    --state clock-wrong are those that were told to have such a clock, and are neither muted nor retired.
    """
    from projector.devices import listing, words
    from runtime.redis import open_redis

    async def read() -> None:
        async with (
            words.database(settings.postgres.dsn) as pool,
            open_redis(settings.redis.url, settings.redis.prefix) as redis,
        ):
            source = listing.Source(pool, redis, settings.redis.prefix)
            await show(
                listing.listed(source, Selection(states, regions, prefix), paces=pace),
                columns=COLUMNS,
                cells=listing.cells,
                limit=None if is_all else limit,
                as_json=as_json,
                nothing="no devices",
            )

    with until_nobody_reads():
        asyncio.run(read())


@devices.command("mute", short_help="Tell nobody of these for a while.")
@click.option("--for", "lasting", required=True, callback=_lasting, metavar="DURATION", help='Such as "2h".')
@_saying
def mute_command(settings: Settings, /, *, lasting: timedelta, **said: Any) -> None:  # noqa: ANN401  # of `_say`
    """Tell nobody that these are silent, wrong in their clocks or beyond limits; that ends by itself."""
    _say(settings, "muted", lasting=lasting, **said)


@devices.command("unmute", short_help="End a mute now.")
@_saying
def unmute_command(settings: Settings, /, **said: Any) -> None:  # noqa: ANN401  # likewise
    """End a mute now: what is wrong with these is told then."""
    _say(settings, "unmuted", **said)


@devices.command("retire", short_help="Take these out of service.")
@_saying
def retire_command(settings: Settings, /, **said: Any) -> None:  # noqa: ANN401  # likewise
    """Take these out of service: nobody is told of them, and they count no more. All they sent is kept.

    One that sends again is in service again, which is told.
    """
    _say(settings, "retired", **said)


@devices.command("unretire")
@_saying
def unretire_command(settings: Settings, /, **said: Any) -> None:  # noqa: ANN401  # likewise
    """Put these into service again."""
    _say(settings, "unretired", **said)


def _say(
    settings: Settings,
    what: What,
    *,
    ids: list[str],
    reason: str,
    by: str,
    as_json: bool,
    lasting: timedelta | None = None,
) -> None:
    from projector.devices import words

    async def say() -> list[Care]:
        async with words.database(settings.postgres.dsn) as pool:
            return await words.say(pool, what, ids, lasting=lasting, by=by, reason=reason)

    changed = asyncio.run(say())
    if as_json:
        for care in changed:
            click.echo(_encoded(care))
        return
    many = len(set(ids))
    until = f" until {changed[0].until:%Y-%m-%d %H:%M:%S}Z" if changed and changed[0].until else ""
    click.echo(f"{len(changed):,} device{'' if len(changed) == 1 else 's'} {what}{until}")
    if len(changed) < many:
        click.echo(f"{many - len(changed):,} already so, or never otherwise")


def _encoded(care: Care) -> str:
    import msgspec

    said = {"device_id": care.device_id, "state": care.what, "at": care.at, "until": care.until}
    return msgspec.json.encode(said | {"by": care.by, "reason": care.reason or None}).decode()
