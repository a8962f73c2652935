"""The list of mutants: a line of ours, what it becomes, and the tests that ought to notice."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import msgspec

ROOT = Path(__file__).parents[2]
LIST = Path(__file__).with_name("mutants.toml")


class Mutant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One break.

    Attributes:
        safeguard: what is taken out.
        file: where, from the root of the tree.
        find: text that is there exactly once.
        replace: what stands there instead.
        tests: as pytest takes them; the quickest that should fail.
    """

    safeguard: str
    file: str
    find: str
    replace: str
    tests: list[str]

    def applied(self, tree: Path) -> str:
        """The file's text with the break in it.

        Raises:
            ValueError: the line is not there exactly once, or what becomes of it is no program.
        """
        text = (tree / self.file).read_text(encoding="utf-8")
        if (found := text.count(self.find)) != 1:
            raise ValueError(f"{self.safeguard}: {self.file} has {self.find!r} {found} times, not once")
        broken = text.replace(self.find, self.replace)
        if self.file.endswith(".py"):
            try:
                ast.parse(broken)
            except SyntaxError as error:
                raise ValueError(f"{self.safeguard}: no Python any more: {error}") from error
        return broken


def read() -> list[Mutant]:
    """All of them, in the order of the path."""
    found = tomllib.loads(LIST.read_text(encoding="utf-8"))
    return msgspec.convert(found["mutant"], list[Mutant])
