"""Configurations as TOML. Pure."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runtime.settings import Settings

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_FREE: Final = frozenset({"units", "route", "limit"})  # whose keys are free, or which are lists
_WIDTH: Final = 100


def table(values: Mapping[str, Any]) -> list[str]:
    """The lines of a table's keys."""
    return [f"{key(name)} = {value(each)}" for name, each in values.items()]


def key(name: str) -> str:
    """A key, in quotation marks where it has to be."""
    return name if _BARE.fullmatch(name) else text(name)


def value(each: Any) -> str:  # noqa: ANN401  # what TOML can hold
    """A value.

    Raises:
        TypeError: TOML has none of this kind.
    """
    if isinstance(each, bool):
        return "true" if each else "false"
    if isinstance(each, str):
        return text(each)
    if isinstance(each, int | float):
        return repr(each)
    if isinstance(each, list | tuple):
        return f"[{', '.join(map(value, each))}]"
    if isinstance(each, dict):
        members = ", ".join(f"{key(name)} = {value(member)}" for name, member in each.items())
        return f"{{ {members} }}" if members else "{}"
    raise TypeError(f"{type(each)} is nothing that TOML has")


def text(each: str) -> str:
    """A text: what JSON makes of one is the same in TOML but for DEL."""
    return json.dumps(each, ensure_ascii=False).replace("\x7f", "\\u007f")


def comment(said: str) -> list[str]:
    """Lines of a comment."""
    lines = [""]
    for word in "".join(sign if sign.isprintable() else " " for sign in said).split():
        if lines[-1] and len(lines[-1]) + len(word) > _WIDTH:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return [f"# {line}" for line in lines if line]


def sections(settings: Settings) -> list[str]:
    """The lines of the sections that are given, without routes: what is as everybody has it is left out."""
    lines: list[str] = []
    for field in msgspec.structs.fields(type(settings)):
        section = getattr(settings, field.name)
        if field.name in _FREE:
            continue
        given = _given(section)
        if given:
            lines += [f"[{field.name}]", *table(given), ""]
    if settings.units:
        lines += ["[units]", *table(settings.units), ""]
    for limit in settings.limit:
        lines += ["[[limit]]", *table(_given(limit)), ""]
    return lines


def _given(section: msgspec.Struct) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for field in msgspec.structs.fields(type(section)):
        each = getattr(section, field.name)
        from_file = getattr(section, f"{field.name}_file", "")
        if each is not None and each != field.default and not from_file:
            given[field.encode_name] = each
    return given


def secrets(settings: Settings) -> Iterable[str]:
    """Which of the keys that are written are secrets."""
    for where, section, name in (
        ("broker", settings.broker, "password"),
        ("events", settings.events, "password"),
        ("postgres", settings.postgres, "dsn"),
        ("redis", settings.redis, "url"),
    ):
        if name in _given(section):
            yield f"{where}.{name}"
