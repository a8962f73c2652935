"""What the commands say of themselves, as somebody sees it in a terminal of 80 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest

from gateway.cli import main as gateway
from projector.cli import main as projector

if TYPE_CHECKING:
    from collections.abc import Iterator

_COLUMNS = 80
_SCREEN = 30


def _commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        for below in command.commands.values():
            yield from _commands(below, f"{name} {below.name}")


EVERY = dict([*_commands(gateway, "gateway"), *_commands(projector, "projector")])


@pytest.mark.parametrize("name", EVERY)
def test_help_fits_the_terminal(name: str) -> None:
    """No line is wider than 80 columns, and the list of commands is a screen in which no summary is cut."""
    command = EVERY[name]
    context = click.Context(command, info_name=name, terminal_width=_COLUMNS, max_content_width=_COLUMNS)
    lines = command.get_help(context).splitlines()
    assert [line for line in lines if len(line) > _COLUMNS] == []
    if isinstance(command, click.Group):
        assert [line for line in lines if line.startswith("  ") and line.endswith("...")] == []
        assert len(lines) <= _SCREEN
