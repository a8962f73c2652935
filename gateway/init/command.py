"""`gateway init` and `gateway devices password`: the command lines. What they run is imported late."""

from __future__ import annotations

import functools
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, ParamSpec

import click

from runtime.errors import ConfigurationError, Stop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gateway.init.answers import Answers
    from gateway.init.site import Given

P = ParamSpec("P")

_STATE: Final = Path("/var/lib/mqtt-edge-gateway")  # of the account that a package has made


def _told(command: Callable[P, None]) -> Callable[P, None]:
    """What a command cannot do is a line on stderr and an exit code."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except Stop as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(error.exit_code)

    return run


@click.command("init", short_help="Make the files of a site, with secrets of its own.")
@click.argument("folder", metavar="[DIR]", type=click.Path(path_type=Path), default="edge")
@click.option("--yes", is_flag=True, help="Ask nothing: what is not said is as suggested.")
@click.option(
    "--host", "hosts", multiple=True, metavar="NAME", help="Where devices reach the broker; several may be."
)
@click.option(
    "--broker-here/--broker-elsewhere", default=None, help="Whether it is on the gateway's machine."
)
@click.option("--bind", metavar="ADDRESS", help="Where it listens for devices; everywhere without.")
@click.option("--port", type=int, help="Of the broker, for devices: 8883.")
@click.option("--inner-port", type=int, help="Of the broker, for gateway and projector: 8884.")
@click.option("--cert", type=click.Path(path_type=Path), help="The broker's certificate, if there is one.")
@click.option("--key", type=click.Path(path_type=Path), help="Its key.")
@click.option("--ca", type=click.Path(path_type=Path), help="What devices trust, unless the system does.")
@click.option("--postgres", metavar="URL", help="Without a user, with the database to be made.")
@click.option("--psql", metavar="COMMAND", help="How an administrator calls psql.")
@click.option("--redis", metavar="URL", help="Without a user.")
@click.option(
    "--http", metavar="ADDRESS", help="Of page and API: 127.0.0.1:9102. Elsewhere: by TLS, with tokens."
)
@click.option("--topic", "topics", multiple=True, help="Where devices publish; several may be.")
@click.option("--events-topic", "events", metavar="TOPIC", help="The internal topic.")
@click.option("--sparkplug", metavar="HOST_ID", help="Sparkplug B too, as this host application.")
@click.option("--force", is_flag=True, help="Make the files anew, and keep all secrets.")
@click.option("--new-passwords", is_flag=True, help="With --force: passwords too, but those of devices.")
@click.option("--renew", is_flag=True, help="New certificates, and nothing else.")
@_told
def init_command(
    folder: Path,
    *,
    yes: bool,
    cert: Path | None,
    key: Path | None,
    ca: Path | None,
    force: bool,
    new_passwords: bool,
    renew: bool,
    **said: Any,  # noqa: ANN401  # the answers, each of its own type
) -> None:
    """Make all files of a site in DIR: configuration, passwords, certificates, rights, and what to run.

    Asks what it was not told. Each secret is new, in a file that only its owner reads. Nothing is
    overwritten.
    """
    from datetime import UTC, datetime

    from gateway.init import site
    from gateway.init.answers import Answers, in_the_clear
    from gateway.init.folder import ACCOUNTS, Folder, is_there

    path = folder.absolute()
    site.refuse_name(path)
    if new_passwords and not force:
        raise ConfigurationError("--new-passwords: replaces what is there, so say --force too")
    place = Folder(path, force=force or renew, anew=new_passwords)
    before = site.read_answers(place)
    if renew:
        if before is None:
            raise ConfigurationError(f"{path}: no site of `gateway init`, so nothing to renew")
        site.renew(place, before, datetime.now(UTC))
        written = place.write()
        click.echo("\n".join(f"new  {path / name}" for name in written))
        click.echo(
            "have mosquitto read them: kill -HUP its process; gateway and projector read them by themselves"
        )
        return
    known = before or Answers(hosts=(socket.gethostname(),))
    answers = _ask(
        {name: value for name, value in said.items() if value not in (None, ())}, known, ask=not yes
    )
    server = path / site.SERVER[0]
    if known.given and cert is key is ca is None and server.exists():
        cert, key, ca = server, path / site.SERVER[1], path / site.CA if known.given_ca else None
    given = _given(cert, key, ca, answers.hosts)
    answers = _replace(
        answers, given=given is not None, given_ca=given is not None and given.authority is not None
    )
    site.lay_out(
        place,
        answers,
        datetime.now(UTC),
        programs={name: _called(name) for name in ("gateway", "projector")},
        spool=str((_STATE if is_there(ACCOUNTS["gateway"]) else path) / "spool"),
        given=given,
    )
    written = place.write()
    for each in (*in_the_clear(answers), *filter(None, [place.unreachable()])):
        click.echo(f"warning: {each}", err=True)
    click.echo(f"{len(written)} files in {path}; README.txt says what each is for. Then:\n")
    for script in ("servers", "database", "run"):
        click.echo(f"  sh {path}/{script}.sh")


@click.command("password", short_help="Give devices passwords at the broker.")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option(
    "--site", "folder", type=click.Path(path_type=Path), default="edge", help="The folder of `gateway init`."
)
@click.option("--remove", is_flag=True, help="Let them in no more.")
@_told
def password_command(names: tuple[str, ...], *, folder: Path, remove: bool) -> None:
    """Give devices new passwords at the broker, and print them, NAME:PASSWORD; nothing else keeps them.

    A mosquitto of this machine that runs with the site's files reads them at once.
    """
    from gateway.init import devices
    from gateway.init.folder import Folder

    place = Folder(folder.absolute(), force=True)
    if remove:
        devices.take(place, names)
        return
    for name, word in devices.give(place, names).items():
        click.echo(f"{name}:{word}")


def _ask(said: dict[str, Any], known: Answers, *, ask: bool) -> Answers:
    """Put together what was said, what is asked now, and what was answered before."""
    questions: tuple[tuple[str, str], ...] = (
        ("hosts", "Names or addresses under which devices reach the broker, with commas between"),
        ("broker_here", "Is the broker on the machine of the gateway?"),
        ("postgres", "PostgreSQL, with the database to be made"),
        ("psql", "How does an administrator call psql?"),
        ("redis", "Redis"),
        ("topics", "Topics on which devices publish, with commas between"),
    )
    if ask and not _somebody_is_there():
        raise ConfigurationError(
            "--yes: nobody is there to be asked, so say what differs by options, and this"
        )
    for name, question in questions if ask else ():
        if name in said:
            continue
        default = getattr(known, name)
        if isinstance(default, bool):
            said[name] = click.confirm(question, default=default)
        elif isinstance(default, tuple):
            said[name] = tuple(_words(click.prompt(question, default=",".join(default))))
        else:
            said[name] = click.prompt(question, default=default)
    return _replace(known, **said)


def _somebody_is_there() -> bool:
    return sys.stdin.isatty()


def _words(text: str) -> Iterable[str]:
    return (word for each in text.split(",") if (word := each.strip()))


def _replace(answers: Answers, **changes: Any) -> Answers:  # noqa: ANN401  # of any field
    import msgspec

    return msgspec.structs.replace(answers, **changes)


def _called(program: str) -> str:
    """How a program of ours is called, from anywhere."""
    beside = Path(sys.executable).with_name(program)
    return str(beside) if beside.exists() else f"{sys.executable} -m {program}"


def _given(cert: Path | None, key: Path | None, ca: Path | None, hosts: tuple[str, ...]) -> Given | None:
    """The certificate that was given, if a client takes it."""
    from gateway.init.certificates import check_given
    from gateway.init.site import Given

    if cert is None and key is None and ca is None:
        return None
    if cert is None or key is None:
        raise ConfigurationError("--cert, --key: one needs the other")
    check_given(cert, key, ca, hosts)
    return Given(cert.read_text(), key.read_text(), None if ca is None else ca.read_text())
