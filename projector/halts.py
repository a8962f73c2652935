"""Why views cannot follow a stream from where they are. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from contract.views import DAMAGED, OUTDATED, UNFINISHED

if TYPE_CHECKING:
    from projector.outbox import Position
    from projector.views import Cursor

Halt = Literal[
    "epoch_changed",
    "cursor_beyond_head",
    "cursor_missing",
    "cursor_too_old",
    "swap_unfinished",
    "views_outdated",
    "views_damaged",
    "undecodable_row",
]

UNUSABLE: Final[dict[str | None, Halt]] = {
    UNFINISHED: "swap_unfinished",
    OUTDATED: "views_outdated",
    DAMAGED: "views_damaged",
}
"""What stands in the place of the views' epoch when no stream leads on from them."""

TOLD_BY_MARK: Final[frozenset[Halt]] = frozenset({"epoch_changed", "cursor_beyond_head", *UNUSABLE.values()})
"""What `mismatch` finds, so it is over when that finds nothing."""

MENDED_BY_REBUILD: Final[frozenset[Halt]] = TOLD_BY_MARK | {"cursor_missing", "cursor_too_old"}


def mismatch(mark: Cursor, position: Position) -> Halt | None:
    """Why the views cannot follow the stream from where they are; None when nothing says so.

    Args:
        mark: the views' cursor, read before `position`, so that progress between the two is no mismatch.
        position: the stream in PostgreSQL.
    """
    if mark.epoch in UNUSABLE:
        return UNUSABLE[mark.epoch]
    if mark.n > position.head:
        return "cursor_beyond_head"
    if mark.epoch is not None and mark.epoch != position.epoch:
        return "epoch_changed"
    return None


def missing_rows(mark: Cursor) -> Halt:
    """What it means that the row after the cursor is committed and not kept any more."""
    return "cursor_too_old" if mark.n else "cursor_missing"
