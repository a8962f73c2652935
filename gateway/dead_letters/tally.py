"""The books of a replay."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from gateway.dead_letters.verdicts import Verdicts
    from gateway.transaction import Appended, Evidence


class Page(NamedTuple):
    """What became of the letters of one transaction.

    Attributes:
        last_id: of the letters looked at.
        stored: readings stored now.
        appended: its outbox row, None when it stored nothing.
        evidence: by which it is found when its COMMIT got no answer; None when it replayed nothing.
    """

    last_id: int
    stored: int
    verdicts: Verdicts
    appended: Appended | None = None
    evidence: Evidence | None = None


class Tally:
    """What a replay has done so far.

    Attributes:
        selected: letters that it set out to replay.
        replayed: letters of which everything that can be is stored.
        failing: letters that stay, by reason.
        stored: readings stored.
        duplicates: readings that were stored before.
        orphans: elements of arrays that became letters of their own.
        stopped: whether it ended before its time.
        others: letters that would be selected but are of other gateways.
    """

    def __init__(self, selected: int, others: int = 0) -> None:
        self.selected = selected
        self.others = others
        self.replayed = 0
        self.failing: Counter[str] = Counter()
        self.stored = 0
        self.duplicates = 0
        self.orphans = 0
        self.stopped = False

    @property
    def done(self) -> int:
        """Letters looked at."""
        return self.replayed + self.failing.total()

    @property
    def complete(self) -> bool:
        """Whether everything selected is stored now."""
        return not (self.stopped or self.failing or self.orphans)

    def told(self) -> dict[str, object]:
        """All of it, for programs."""
        names = ("selected", "replayed", "stored", "duplicates", "failing", "orphans", "stopped", "others")
        return {name: getattr(self, name) for name in names}

    def add(self, page: Page) -> None:
        """Count a page."""
        self.replayed += len(page.verdicts.replayed)
        self.failing.update(rejection.reason for _, rejection in page.verdicts.failing)
        self.stored += page.stored
        self.duplicates += page.verdicts.duplicates
        self.orphans += len(page.verdicts.orphans)
