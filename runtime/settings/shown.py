"""What is in force, and from where: every key with its value, secrets masked.

A value comes from a variable of the environment, from the file, or is the default. A section of the events'
broker that is not set is shown as what it takes from `[broker]`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from runtime.configuration import FILE_VARIABLE, PREFIX, read_file
from runtime.logs import mask
from runtime.secret import FromFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from runtime.settings import Settings

_MASK: Final = "***"
_DEFAULT: Final = "default"


class Shown(msgspec.Struct, frozen=True):
    """One key.

    Attributes:
        key: such as `broker.port`, or `route` for all of them.
        value: in force; of a secret nothing but an address.
        source: `default`, a variable's name, or the file.
    """

    key: str
    value: Any
    source: str


def effective(settings: Settings, path: Path | None, environ: Mapping[str, str]) -> Iterator[Shown]:
    """Every key, in the order of the documentation.

    Args:
        settings: checked.
        path: of the file; None looks at `EDGE_CONFIG`.
        environ: the environment that it was read with.
    """
    file = path or environ.get(FILE_VARIABLE) or None
    written = read_file(file) if file else {}
    for section in msgspec.structs.fields(settings):
        found = getattr(settings, section.name)
        table = written.get(section.name, {})
        if not isinstance(found, msgspec.Struct):
            source = str(file) if section.name in written else _DEFAULT
            yield Shown(section.name, _plain(found), _from_variable(environ, section.name) or source)
            continue
        for field in msgspec.structs.fields(found):
            if field.name.endswith("_file") and field.name.removesuffix("_file") in found.__struct_fields__:
                continue  # its twin says so
            value = getattr(found, field.name)
            names = (field.name, f"{field.name}_file")
            sources = [name for each in names if (name := _from_variable(environ, f"{section.name}_{each}"))]
            if not sources:
                inherited = section.name == "events" and value is None
                sources = [str(file)] if any(name in table for name in names) else []
                sources = sources or ["[broker]" if inherited else _DEFAULT]
            if isinstance(value, FromFile):
                sources.append(value.source)
            if section.name == "events" and value is None:
                value = getattr(settings.broker, field.name)
            yield Shown(f"{section.name}.{field.name}", _masked(field.name, value), ", ".join(sources))


def _from_variable(environ: Mapping[str, str], name: str) -> str:
    variable = f"{PREFIX}{name}".upper()
    return variable if variable in environ else ""


def _masked(name: str, value: Any) -> Any:  # noqa: ANN401  # any key's value
    if name == "password":
        return _MASK if value else ""
    if name in {"dsn", "url", "api_url"}:
        return mask(str(value))
    return _plain(value)


def _plain(value: Any) -> Any:  # noqa: ANN401  # any key's value
    return msgspec.to_builtins(value)
