"""The page that says which broker promises what."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from bench.tables import table as markdown
from tests.brokers.promises import PROMISES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.brokers.flood import Outcome
    from tests.brokers.kinds import Kind
    from tests.brokers.promises import Answer

_TEXT: Final = Path(__file__).with_name("brokers.md")
_PLACES: Final = ("PROMISES", "FLOOD", "SETTINGS")


class Row(NamedTuple):
    """A broker and what was seen of it; `outcome` is None when it, or the gateway, did not come back."""

    kind: Kind
    version: str
    answers: dict[str, Answer]
    outcome: Outcome | None


def page(rows: Sequence[Row]) -> str:
    """`docs/brokers.md`: the text of `brokers.md` beside this file, with the tables in their places."""
    text = _TEXT.read_text(encoding="utf-8")
    for place, made in zip(_PLACES, (table(rows), floods(rows), settings(rows)), strict=True):
        text = text.replace(f"<!-- {place} -->", made)
    return text


def table(rows: Sequence[Row]) -> str:
    """Promises, a column each; what is less than a gateway wants has a mark."""
    head = ["", *PROMISES]
    return markdown(head, [[_name(row), *(_cell(row.answers[name]) for name in PROMISES)] for row in rows])


def floods(rows: Sequence[Row]) -> str:
    """What became of the messages of a flood."""
    head = [
        "",
        "acknowledged to the publisher",
        "lost, killed one at a time",
        "lost, both away at once",
        "stored twice",
    ]
    none = ["did not come back", *[""] * (len(head) - 2)]
    cells = [[f"{count:,}" for count in row.outcome] if row.outcome else none for row in rows]
    return markdown(head, [[_name(row), *of] for row, of in zip(rows, cells, strict=True)], numbers=True)


def settings(rows: Sequence[Row]) -> str:
    """How each was configured against loss."""
    return markdown(["", "settings"], [[_name(row), row.kind.settings] for row in rows])


def _name(row: Row) -> str:
    return f"{row.kind.name} ({row.version})"


def _cell(answer: Answer) -> str:
    return answer.text if answer.holds else f"✗ {answer.text}"
