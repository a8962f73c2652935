"""Man pages and shell completion, made from the commands themselves."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import click
from click.shell_completion import get_completion_class

if TYPE_CHECKING:
    from collections.abc import Iterator

_EXIT: Final = (
    ("0", "done"),
    ("1", "failed, or differences were found"),
    ("2", "wrong usage or configuration, with the key and the reason on stderr"),
)


def page(name: str, command: click.Group, *, version: str, date: str, see_also: str) -> str:
    """One man page, section 1, of a program with all its commands.

    Args:
        name: the program's.
        command: what it does.
        version: of the package.
        date: of the page, such as `2026-11-30`.
        see_also: the other program's name.
    """
    lines = [
        f'.TH {name.upper()} 1 "{date}" "mqtt-edge-gateway {version}" "MQTT edge gateway"',
        ".SH NAME",
        f"{name} \\- {_text(command.help).rstrip('.')}",
        ".SH SYNOPSIS",
        f".B {name}",
        "[\\fIoptions\\fR] \\fIcommand\\fR [\\fIarguments\\fR]",
        ".SH DESCRIPTION",
        _text(command.help),
        ".SH COMMANDS",
        *_commands(command, name),
        ".SH EXIT STATUS",
        *(line for code, words in _EXIT for line in (".TP", f".B {code}", _text(words))),
        ".SH FILES",
        ".TP",
        ".I /etc/mqtt\\-edge\\-gateway/edge.toml",
        "The configuration of the services.",
        ".SH SEE ALSO",
        f".BR {see_also} (1)",
    ]
    return "\n".join(lines) + "\n"


def completion(name: str, command: click.Group, shell: str) -> str:
    """What a shell sources to complete a program's arguments.

    Args:
        name: the program's.
        command: what it does.
        shell: `bash` or `zsh`.
    """
    kind = get_completion_class(shell)
    assert kind is not None
    variable = f"_{name.upper()}_COMPLETE"
    made = kind(command, {}, name, variable)
    return str(made.source_template % made.source_vars())


def _commands(group: click.Group, name: str) -> Iterator[str]:
    for each in sorted(group.commands.values(), key=lambda command: str(command.name)):
        full = f"{name} {each.name}"
        if isinstance(each, click.Group):
            yield from _commands(each, full)
            continue
        usage = " ".join(each.collect_usage_pieces(click.Context(each, info_name=full)))
        yield f".SS {_text(full)}"
        yield f"\\fB{_text(full)}\\fR {_text(usage)}"
        for paragraph in (each.help or "").replace("\b\n", "").split("\n\n"):
            yield f".PP\n{_text(paragraph)}"
        for parameter in each.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                yield from _option(parameter, each)


def _option(option: click.Option, command: click.Command) -> Iterator[str]:
    record: Any = option.get_help_record(click.Context(command))
    if record is not None:
        yield f".TP\n\\fB{_text(record[0])}\\fR\n{_text(record[1]) or _text(option.name)}"


def _text(text: str | None) -> str:
    """One line of roff; what begins a line as a request does not."""
    line = re.sub(r"\s+", " ", text or "").strip()
    line = line.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    return f"\\&{line}" if line.startswith(".") else line
