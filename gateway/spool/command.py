"""`gateway spool`: the command line. What it runs is imported late, so that commands start fast."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runtime.cli import with_settings
from runtime.listing import until_nobody_reads

if TYPE_CHECKING:
    import asyncio

    from gateway.ledger import Ledger
    from runtime.settings import Settings


@click.group("spool", short_help="Look at what is kept on disk, and mend it.")
def spool() -> None:
    """Look at what is kept on disk while PostgreSQL is away, store it, or save what can be saved of it."""


@spool.command("status", short_help="Say what is in the spool, and since when.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON.")
@partial(with_settings, log_level="error")
def status_command(settings: Settings, /, *, as_json: bool) -> int:
    """Say what is in the spool, and since when; also while a gateway uses it."""
    import msgspec

    from gateway.spool import reports
    from gateway.spool.file import NAME
    from gateway.spool.folder import Unusable

    if not settings.spool.path:
        click.echo("off: spool.path is empty", err=True)
        return 1
    folder = Path(settings.spool.path)
    try:
        extent = reports.extent(folder / NAME)
    except Unusable as unusable:
        click.echo(f"error: {unusable}", err=True)
        return 1
    aside = sorted(str(each) for each in (*folder.glob("aside-*.db"), *folder.glob("damaged-*.bin")))
    size = sum(each.stat().st_size for each in folder.glob(f"{NAME}*"))
    if as_json:
        said = {
            "path": str(folder), "messages": extent.messages, "oldest": extent.oldest or None,
            "bytes": size, "max_bytes": settings.spool.max_bytes, "set_aside": aside,
        }  # fmt: skip
        click.echo(msgspec.json.encode(said).decode())
        return 0
    since = f", the oldest of {extent.oldest[:19]}Z" if extent.oldest else ""
    click.echo(f"{extent.messages:,} messages{since}")
    click.echo(f"{size:,} bytes of {settings.spool.max_bytes} in {folder}")
    for each in aside:
        click.echo(f"set aside: {each}")
    return 0


@spool.command("export", short_help="Write all messages of the spool.")
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@partial(with_settings, log_level="error")
def export_command(settings: Settings, /, *, file: Path | None) -> int:
    """Write all messages of the spool, or of a FILE that was set aside, as lines of JSON; it keeps them."""
    import msgspec

    from gateway.spool import reports
    from gateway.spool.file import NAME
    from gateway.spool.folder import Unusable

    with until_nobody_reads():
        try:
            for line in reports.lines(file or Path(settings.spool.path) / NAME):
                click.echo(msgspec.json.encode(line))
        except Unusable as unusable:
            click.echo(f"error: {unusable}", err=True)
            return 1
    return 0


@spool.command("drain", short_help="Store what a stopped gateway has kept.")
@with_settings
def drain_command(settings: Settings, /) -> int:
    """Store what is in the spool of a gateway that does not run, and end; nothing is taken from the broker.

    A gateway that runs does so by itself.
    """
    from gateway import app
    from runtime.lifecycle import run_until_stopped
    from runtime.settings import duration_s

    def report(ledger: Ledger) -> None:
        click.echo(" ".join(f"{name}={value}" for name, value in ledger.line().items()))

    async def work(stop: asyncio.Event) -> None:
        await app.run(settings, stop, report, drain=True)

    return run_until_stopped(work, shutdown_timeout_s=duration_s(settings.gateway.shutdown_timeout))


@spool.command("recover", short_help="Put what is whole in a FILE into the spool.")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@with_settings
def recover_command(settings: Settings, /, *, file: Path) -> int:
    """Put what is whole in a FILE that was set aside into the spool, while no gateway runs.

    The next one stores it, each message once. The file stays as it is.
    """
    from gateway.spool.folder import Folder, Unusable
    from gateway.spool.recover import recover

    try:
        folder = Folder(settings.spool)
        try:
            saved = recover(file, folder)
        finally:
            folder.close()
    except Unusable as unusable:
        click.echo(f"error: {unusable}", err=True)
        return 1
    click.echo(
        f"{saved.messages:,} messages are in the spool; {saved.damaged} entries are damaged, "
        f"{saved.unreadable} cannot be read"
    )
    return int(bool(saved.damaged or saved.unreadable))
