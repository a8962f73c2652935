"""README.md says what is so."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec

from gateway.cli import main as gateway
from projector.cli import main as projector
from runtime.settings import Events, Limit, Settings

README = Path(__file__).parents[2] / "README.md"


def test_the_configuration_table_is_complete_and_right() -> None:
    """Every key of the configuration is in the table with its default; `x_file` is told beside x."""
    row = re.compile(r"^\| `([a-z]+(?:\.[a-z0-9_]+)+)` \| `?(.*?)`? \|", re.MULTILINE)
    rows = dict(row.findall(README.read_text()))
    rows = {key: default.replace(r"\|", "|") for key, default in rows.items()}
    expected = {}
    for section in msgspec.structs.fields(Settings):
        if section.name == "units":  # its keys are the metrics'
            expected["units.temperature"] = ""
            continue
        if section.name == "limit":  # there is none, unless somebody sets it
            for field in msgspec.structs.fields(Limit):
                value = field.default if field.default is not msgspec.NODEFAULT else None
                expected[f"limit.{field.encode_name}"] = "" if value is None else json.dumps(value)
            continue
        default = section.default[0] if section.name == "route" else section.default
        for key, value in msgspec.structs.asdict(default).items():
            if (isinstance(default, Events) and key != "topic") or key == "place":  # of ours, no key
                continue
            if isinstance(value, msgspec.Struct):  # a table inside, such as [route.csv]
                for inner, default_ in msgspec.structs.asdict(value).items():
                    expected[f"{section.name}.{key}.{inner}"] = json.dumps(default_)
            elif key.removesuffix("_file") not in {"password", "dsn", "url", "api_url"} or not key.endswith(
                "_file"
            ):
                expected[f"{section.name}.{key}"] = json.dumps(value)
    expected["events.host"] = "as [broker]"
    assert rows == expected


def test_the_table_of_commands_is_complete() -> None:
    """Every command is in the table, and nothing else is."""
    told = re.findall(r"^\| `((?:gateway|projector) [a-z-]+)", README.read_text(), re.MULTILINE)
    there = [
        f"{name} {command}"
        for name, group in (("gateway", gateway), ("projector", projector))
        for command in group.commands
    ]
    assert sorted(told) == sorted(there)
