"""The texts of a site's files, with gaps for what differs: `files/` beside this module."""

from __future__ import annotations

from importlib import resources
from string import Template
from typing import Final

_FILES: Final = resources.files("gateway.init") / "files"


def text(name: str) -> str:
    """A file as it is."""
    return (_FILES / name).read_text(encoding="utf-8")


def filled(name: str, **gaps: object) -> str:
    """A file with its gaps filled, `$name` by what is called so."""
    return Template(text(name)).substitute(gaps)
