"""README.md says what is so."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec

from runtime.settings import Events, Settings

README = Path(__file__).parents[2] / "README.md"


def test_the_configuration_table_is_complete_and_right() -> None:
    """Every key of the configuration is in the table with its default; `x_file` is told beside x."""
    rows = dict(re.findall(r"^\| `([a-z]+\.[a-z0-9_]+)` \| `?(.*?)`? \|", README.read_text(), re.MULTILINE))
    expected = {}
    for section in msgspec.structs.fields(Settings):
        default = section.default[0] if section.name == "route" else section.default
        for key, value in msgspec.structs.asdict(default).items():
            if isinstance(default, Events) and key != "topic":
                continue
            if key.removesuffix("_file") not in {"password", "dsn", "url"} or not key.endswith("_file"):
                expected[f"{section.name}.{key}"] = json.dumps(value)
    expected["events.host"] = "as [broker]"
    assert rows == expected
