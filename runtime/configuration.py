"""How a TOML file and the environment become a checked struct, and how a mistake in them is said.

Knows no key by name: what there is to configure stands in the struct given (`runtime.settings.Settings`). A
value is never quoted in a message unless its field allows only a list of words, so that no secret leaves
through an error.

- Environment over file: `EDGE_<SECTION>_<KEY>`; a list of tables, or a table whose keys are free, is
  `EDGE_<KEY>`, in JSON, a list of words has commas between them.
- A section with the keys `x` and `x_file` takes `x` from that file, without the white space around it; it is
  read anew wherever it is used (`runtime.secret`).
"""

from __future__ import annotations

import difflib
import re
import tomllib
import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import msgspec

from runtime.errors import ConfigurationError
from runtime.secret import FromFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

S = TypeVar("S", bound=msgspec.Struct)
Raw = dict[str, Any]

PREFIX = "EDGE_"
FILE_VARIABLE = "EDGE_CONFIG"
_STEPS = re.compile(r"([^.\[\]]+)|\[(\d+|\.\.\.)\]")


def read(
    schema: type[S],
    path: str | Path | None,
    environ: Mapping[str, str],
    complete: Callable[[Raw], None] | None = None,
    *,
    secrets: bool = True,
) -> S:
    """Read the file if there is one, put the environment over it, fetch secrets from files, check types.

    Args:
        schema: a struct whose fields are sections (structs), lists of structs, or tables whose keys are free.
        path: the TOML file; None looks at `EDGE_CONFIG` and then does without one.
        environ: the environment; variables without the prefix `EDGE_` are not looked at.
        complete: puts into what was read, and is checked, what it stands for; that is checked again.
        secrets: whether those in files are read, for who connects to anything.

    Raises:
        ConfigurationError: with the key's path and what would be right.
    """
    path = path or environ.get(FILE_VARIABLE) or None
    raw = read_file(Path(path)) if path else {}
    _merge_environment(raw, schema, environ)
    if secrets:
        _read_secrets(raw, schema)
    try:
        checked = msgspec.convert(raw, schema)  # as it is written, so that an error names a place in the file
        if complete is None:
            return checked
        complete(raw)
        return msgspec.convert(raw, schema)
    except msgspec.ValidationError as error:
        raise ConfigurationError(_explain(error, schema, raw)) from None


def read_file(path: str | Path) -> Raw:
    """The file as it is written.

    Raises:
        ConfigurationError: it cannot be read, or is no TOML.
    """
    path = Path(path)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot read the configuration file: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: not UTF-8: {error.reason} at byte {error.start}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: not valid TOML: {error}") from error


class _Variable(NamedTuple):
    """Where an environment variable's value goes; `key` is None for a value in JSON that is all of it."""

    section: str
    key: str | None
    type: Any


def _merge_environment(raw: Raw, schema: type[msgspec.Struct], environ: Mapping[str, str]) -> None:
    known = dict(_variables(schema))
    given = {
        name: text for name, text in environ.items() if name.startswith(PREFIX) and name != FILE_VARIABLE
    }
    for name, text in given.items():
        if name not in known:
            raise ConfigurationError(f"{name}: no such setting; {_suggest(name, list(known))}")
        section, key, kind = known[name]
        if key is None:
            raw[section] = _from_json(name, text, kind)
            continue
        table = raw.setdefault(section, {})
        if not isinstance(table, dict):
            raise ConfigurationError(f"{section}: expected a table")
        table[key] = _from_text(name, f"{section}.{key}", text, kind)
        # A secret replaces either form that the file has of it, itself and `<key>_file`.
        twin = name.removesuffix("_FILE") if name.endswith("_FILE") else f"{name}_FILE"
        if twin in known and twin not in given:
            table.pop(known[twin].key, None)


def _variables(schema: type[msgspec.Struct]) -> Iterator[tuple[str, _Variable]]:
    for section in msgspec.structs.fields(schema):
        if _is_struct(section.type):
            for field in msgspec.structs.fields(section.type):
                name = f"{PREFIX}{section.name}_{field.name}".upper()
                yield name, _Variable(section.name, field.name, field.type)
        else:
            yield f"{PREFIX}{section.name}".upper(), _Variable(section.name, None, section.type)


def _from_text(variable: str, where: str, text: str, kind: Any) -> Any:  # noqa: ANN401  # any field's value
    if _element(kind) is not None:
        value: Any = [part.strip() for part in text.split(",") if part.strip()]
    else:
        value = text
    for strict in (True, False):  # as it stands if it can be: "null" is a password, not the lack of one
        try:
            return msgspec.convert(value, kind, strict=strict)
        except msgspec.ValidationError as error:
            message = str(error)
    raise ConfigurationError(f"{variable} ({where}): {_expected(message, kind)}")


def _from_json(variable: str, text: str, kind: Any) -> Any:  # noqa: ANN401  # checked with the rest
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"{variable}: not valid JSON: {error}") from None
    if typing.get_origin(kind) is dict:
        if not isinstance(value, dict):
            raise ConfigurationError(f'{variable}: expected a JSON object, such as {{"key": "value"}}')
    elif not isinstance(value, list):
        raise ConfigurationError(
            f'{variable}: expected a JSON array of objects, such as [{{"key": "value"}}]'
        )
    return value


def _read_secrets(raw: Raw, schema: type[msgspec.Struct]) -> None:
    for section in msgspec.structs.fields(schema):
        table = raw.get(section.name)
        if not _is_struct(section.type) or not isinstance(table, dict):
            continue
        for key in section.type.__struct_fields__:
            source = table.get(f"{key}_file")
            if (
                f"{key}_file" not in section.type.__struct_fields__
                or not source
                or not isinstance(source, str)
            ):
                continue
            if table.get(key):
                raise ConfigurationError(
                    f"{section.name}.{key}: set either this or {section.name}.{key}_file"
                )
            try:
                table[key] = FromFile.read(source)
            except ValueError as error:
                raise ConfigurationError(f"{section.name}.{key}_file: {error}") from None


def _explain(error: msgspec.ValidationError, schema: type[msgspec.Struct], raw: Raw) -> str:
    message, _, where = str(error).partition(" - at `$")
    path = where.rstrip("`").lstrip(".")
    kind = _type_at(schema, path)
    path = _with_key(path, schema, raw)
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", message, re.DOTALL):
        names = list(kind.__struct_encode_fields__) if _is_struct(kind) else []
        what = "key" if path else "section"
        return f"{path + '.' if path else ''}{unknown[1]}: no such {what}; {_suggest(unknown[1], names)}"
    if missing := re.fullmatch(r"Object missing required field `(.*)`", message):
        return f"{path}.{missing[1]}: is needed"
    if _is_struct(kind) or typing.get_origin(kind) is dict:
        return f"{path}: expected a table"
    if _is_struct(_element(kind)):
        return f"{path}: expected a list of tables, [[{path}]]"
    return f"{path}: {_expected(message, kind)}"


def _with_key(path: str, schema: type[msgspec.Struct], raw: Raw) -> str:
    """A path with the key of a table whose keys are free, `states.ON`, where the library says `[...]`."""
    before, free, after = path.partition("[...]")
    if not free:
        return path
    table: Any = raw
    for name, index in _STEPS.findall(before):
        table = table[int(index) if index else name]
    kind = _element(_type_at(schema, before))
    for key, value in table.items():
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError:
            return f"{before}.{key}{after}"
    return path


def _expected(message: str, kind: Any) -> str:  # noqa: ANN401  # any annotation
    """Say in a person's words what msgspec said of a value of this type."""
    words = [str(word) or '""' for literal in _parts(kind, Literal) for word in typing.get_args(literal)]
    if words and "enum" in message:
        return f"expected one of {', '.join(words)}, got {message.rpartition('enum value ')[2]}"
    descriptions = [meta.description for meta in _parts(kind, msgspec.Meta) if meta.description]
    _, got, found = message.partition(", got ")
    if descriptions:
        return f"expected {descriptions[-1]}{got}{found.replace('`', '')}"
    return message.replace("`", "").replace("Expected", "expected", 1).replace("bool", "true or false")


def _parts(kind: Any, wanted: Any) -> Iterator[Any]:  # noqa: ANN401  # any annotation
    """Every `Meta` or `Literal` inside an annotation."""
    if typing.get_origin(kind) is wanted or (isinstance(wanted, type) and isinstance(kind, wanted)):
        yield kind
    for part in typing.get_args(kind):
        yield from _parts(part, wanted)


def _type_at(schema: Any, path: str) -> Any:  # noqa: ANN401  # any annotation
    """The annotation at a path such as `broker.port` or `route[0].qos`."""
    kind: Any = schema
    for name, index in _STEPS.findall(path):
        if index:
            kind = _element(kind)
        elif _is_struct(kind):
            kind = next(
                (field.type for field in msgspec.structs.fields(kind) if field.encode_name == name), None
            )
    return kind


def _element(kind: Any) -> Any:  # noqa: ANN401  # any annotation
    origin, within = typing.get_origin(kind), typing.get_args(kind)
    if origin is dict:
        return within[1]
    if origin in {tuple, list}:
        return within[0]
    if origin in {typing.Annotated, typing.Union, types.UnionType}:
        return next((element for each in within if (element := _element(each)) is not None), None)
    return None


def _is_struct(kind: Any) -> bool:  # noqa: ANN401  # any annotation
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _suggest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else "see the configuration table in README.md"
