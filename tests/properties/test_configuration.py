"""A configuration of any kind is taken, or refused with a key; nothing else comes of it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.cli import _complete
from gateway.subscriptions import plan
from runtime.errors import ConfigurationError
from runtime.settings import Settings, load

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

SECTIONS = {
    field.name: field.type
    for field in msgspec.structs.fields(Settings)
    if hasattr(field.type, "__struct_fields__")
}
KEYS = [(section, key) for section, kind in SECTIONS.items() for key in kind.__struct_fields__]
ROUTE_KEYS = [field.encode_name for field in msgspec.structs.fields(type(Settings().route[0]))]
TEXTS = st.one_of(
    st.sampled_from(
        ["", "5m", "0s", "127.0.0.1:1", "[::1]:99999", "a/{device_id}", "$share/g/{x...}", "csv", "{"]
    ),
    st.sampled_from(
        ["postgresql://u:p@h:99999/d", "a | b[?", "$9", "*", "\x00", "x" * 9999, "ü\u202e", "tasmota/x"]
    ),
    st.text("az09 :/{}[]|$.*@\\\"'", max_size=12),
)
LEAVES = st.one_of(TEXTS, st.integers(-(2**70), 2**70), st.booleans(), st.floats(allow_nan=False, width=32))
VALUES = st.one_of(LEAVES, st.lists(LEAVES, max_size=3), st.dictionaries(TEXTS, LEAVES, max_size=2))
TABLES = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3)
ROUTES = st.lists(st.dictionaries(st.sampled_from(ROUTE_KEYS), VALUES, min_size=1, max_size=4), max_size=2)


def toml(value: Any) -> str:  # noqa: ANN401  # a value of TOML
    """A value as it stands in a file."""
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(each)}" for key, each in value.items()) + "}"
    return str(value).lower()


def tried(path: Path, environ: dict[str, str]) -> str:
    """Why it is refused, "" when it is not."""
    try:
        plan(load(path, environ=environ, complete=_complete))
    except ConfigurationError as error:
        return str(error)
    return ""


@settings(max_examples=100)
@given(tables=TABLES, routes=ROUTES)
def test_any_configuration(
    tmp_path_factory: pytest.TempPathFactory, tables: dict[tuple[str, str], Any], routes: list[dict[str, Any]]
) -> None:
    """Of values of any type under every key, in the file and in the environment."""
    path = tmp_path_factory.getbasetemp() / "any.toml"
    lines = [f"{section}.{key} = {toml(value)}" for (section, key), value in tables.items()]
    for route in routes:
        lines += ["[[route]]", *(f"{json.dumps(key)} = {toml(value)}" for key, value in route.items())]
    path.write_text("\n".join(lines), encoding="utf-8")
    named = {key.split("_file")[0] for _, key in tables} | {"route", "limit", str(path)}
    if reason := tried(path, {}):
        assert any(name in reason for name in named), reason
    environ = {
        f"EDGE_{section}_{key}".upper(): value if isinstance(value, str) else json.dumps(value)
        for (section, key), value in tables.items()
        if not (isinstance(value, str) and "\0" in value)
    }
    if reason := tried(path, {"EDGE_ROUTE": json.dumps(routes), **environ}):
        assert re.match(r"[\w.\[\]]+|EDGE_\w+", reason), reason
