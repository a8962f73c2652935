"""A scenario's options are a struct of plain fields; this makes command-line arguments of them and back."""

from __future__ import annotations

import argparse
from typing import Any, TypeVar

import msgspec

S = TypeVar("S", bound=msgspec.Struct)


def add_arguments(parser: argparse.ArgumentParser, kind: type[msgspec.Struct]) -> None:
    """Add an argument for each field that is a number, a string or a list of numbers."""
    for field in msgspec.structs.fields(kind):
        if isinstance(field.default, (int, float, str)):
            parser.add_argument(_flag(field.name), type=type(field.default), default=field.default)
        elif isinstance(field.default, tuple):
            item = type(field.default[0])
            parser.add_argument(_flag(field.name), type=item, nargs="+", default=field.default)


def read_arguments(arguments: argparse.Namespace, kind: type[S], **others: Any) -> S:  # noqa: ANN401  # fields of any type
    """Make the struct that the arguments ask for.

    Args:
        arguments: parsed.
        kind: which struct.
        others: fields that have no argument.
    """
    given = {
        f.name: getattr(arguments, f.name) for f in msgspec.structs.fields(kind) if hasattr(arguments, f.name)
    }
    return msgspec.convert({**given, **others}, kind)


def count(text: str) -> int:
    """A whole number of at least one, as `type` of an argument."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
