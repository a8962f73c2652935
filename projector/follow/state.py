"""One stream's way into the views: which states it is in, and what leads from one to another. Pure.

The cursor in Redis is authoritative for what the views hold, PostgreSQL for what they should hold; the
topic only saves reading PostgreSQL. `Course.step` says what is to be done next; `follower` does it, says what
came of it, and tells in between what is seen of Redis (a mark), of PostgreSQL (a look) and of the topic.

unknown       Redis has not told the cursor: nothing is done.
              → unconfirmed when it has; → following when it has nothing of the stream.
unconfirmed   Whether PostgreSQL has the row at the cursor as it was is not known, so nothing is applied.
              → following when a look finds it so.
following     The topic's rows are applied, as long as they follow the cursor.
              → catching up when one is behind a gap, or the head was ahead already a look ago, because the
              tail of a stream can be lost without showing a gap.
              After it brought what is not believed (`belief`), the head is due at the next look.
catching up   Rows are read from the outbox, page by page.
              → following when nothing is missing, or the topic's rows follow.
halted        The views cannot be followed from where they are: another epoch, a cursor beyond the head, rows
              that are not kept any more. The consumer sees to a rebuild. Or a row holds no events.
              → following when a look finds it over, when the row that was missing is there and applied, or
              when the views have passed it: another projector made them anew.

A look leads from everywhere to halted, and back to unconfirmed when PostgreSQL has another row than the
views were given: a database that was restored to an older state may keep the epoch, and its head may pass
the cursor before anybody looks. So the cursor says when its row was written, rows applied are remembered,
and each look asks for just these. The views are then given up. The last row that was confirmed stays in them
beside the cursor's, because a projector that ends between two looks may have crossed histories.

Beside the state stands who answers. Without Redis, rows wait in the backlog until a mark is read, which
settles what became of a run whose answer was lost, as the script's guard does. Without PostgreSQL, rows of
the topic flow on until there is a gap, and the next look is waited for.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from projector.follow.backlog import Backlog
from projector.halts import MENDED_BY_REBUILD, TOLD_BY_MARK, UNUSABLE, mismatch, missing_rows
from projector.views.pace import first_part
from projector.views.position import Cursor, Seen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from contract.events import EventBatch
    from projector.halts import Halt
    from projector.outbox import Page, Position
    from projector.views import Outcome

SEEN_ROWS: Final = 10_000  # remembered until PostgreSQL has confirmed them: about 2 MB
BACKLOG_BYTES: Final = 16_000_000  # of JSON, some 80,000 events; in memory four times that

State = Enum("State", ["UNKNOWN", "UNCONFIRMED", "FOLLOWING", "CATCHING_UP", "HALTED"])


class Apply(NamedTuple):
    """To do: apply rows that follow the cursor, and those that are there by then (`Course.following`).

    Attributes:
        is_read: from PostgreSQL. What the topic says is not trusted.
    """

    rows: list[EventBatch]
    is_read: bool


class Read(NamedTuple):
    """To do: read a page of the outbox after a row."""

    after: int


class Asked(NamedTuple):
    """What a look at PostgreSQL asks with: what was known when it began, so that progress is no mismatch.

    Attributes:
        mark: what Redis held.
        cursor: the last row in the views; None when that is not known.
        seen: rows in the views that PostgreSQL should have just as they were; the first it has had before.
        hinted: whether the topic had brought what may be a row.
    """

    mark: Cursor = Cursor(0, None)
    cursor: int | None = None
    seen: Sequence[Seen] = ()
    hinted: bool = False


class Course:
    """A stream's state, and what is known of it.

    Attributes:
        halt: why it is halted; None in every other state.
        mark: what Redis was last seen to hold.
        cursor: the last row known to be in the views; None before Redis was first seen.
        epoch: of the rows in the views; None when they have none of the stream.
        position: where the stream was at the last look; None before.
        confirmed: the last row of which PostgreSQL has been asked whether it still has it; None before.
        redis_away: set when a run had no answer, until the next mark.
        may_read: cleared when a page had no answer, or did not help, until the next look.
    """

    def __init__(self) -> None:
        self.state = State.UNKNOWN
        self.halt: Halt | None = None
        self.mark = Cursor(0, None)
        self.cursor: int | None = None
        self.epoch: str | None = None
        self.position: Position | None = None
        self.confirmed: Seen | None = None
        self.redis_away = self.may_read = False
        self._due = 0  # the head at the look before the last
        self._hinted = False
        self._halted_at = 0
        self._backlog = Backlog(BACKLOG_BYTES)
        self._page: list[EventBatch] = []
        self._seen: deque[Seen] = deque(maxlen=SEEN_ROWS)
        self.offer = self._backlog.offer
        self.arrived_at = self._backlog.arrived_at

    def step(self) -> Apply | Read | None:
        """What is to be done next; None when nothing is before something else is told."""
        cursor, halted = self.cursor, self.state is State.HALTED
        if cursor is None or self.redis_away or self.state is State.UNCONFIRMED:
            return None
        if not halted and (rows := self._backlog.next_part(cursor)):
            self.state = State.FOLLOWING
            return Apply(rows, is_read=False)
        if rows := self._of_page(cursor):
            return Apply(rows, is_read=True)
        missing = self._due > cursor or self._backlog.has_gap(cursor)
        if not halted:
            self.state = State.CATCHING_UP if missing else State.FOLLOWING
        return Read(cursor) if missing and self.may_read else None

    def following(self, after: int) -> Apply:
        """Some rows that follow one that is being applied; none when none are there, or it has to be looked.

        Of much, what is given is not kept: if the run comes to nothing, it is read from PostgreSQL.
        """
        if self._is_under_way and (rows := self._backlog.further(after)):
            return Apply(rows, is_read=False)
        return Apply(self._of_page(after) if self._is_under_way else [], is_read=True)

    def lacks(self, after: int) -> bool:
        """Whether rows after one that is being applied are to be read."""
        return self._is_under_way and self.may_read and (self._due > after or self._backlog.has_gap(after))

    def go_on(self, after: int, rows: list[EventBatch]) -> None:
        """Note rows that were read after one that is being applied."""
        if self._is_under_way and rows and rows[0].n == after + 1:
            self._page = rows

    @property
    def known(self) -> int:
        """The last row that is known to be somewhere."""
        return max(self._due, self._backlog.newest)

    def is_behind(self, last: int) -> bool:
        """Whether more is known to come after a row, so that none need gather."""
        return self.known > last

    def applied(self, rows: list[EventBatch], outcome: Outcome) -> None:
        """Note what Redis answered to a run."""
        self.cursor = outcome.cursor
        if outcome.status == "applied":
            self.epoch = rows[0].epoch
            self._seen.extend(Seen(row.n, row.created_at) for row in rows)
            self._backlog.forget(outcome.cursor)  # before rows gather for the next run
            if self.halt not in TOLD_BY_MARK:  # else it was under way when that was told
                self._go_on()
        elif outcome.status in {"epoch", "lost"}:
            # Strays, another history, or views being replaced: which of them, the next looks tell.
            self._backlog.clear()
            self.may_read = False

    def hint(self) -> None:
        """Note that the topic brought what may be a row, and is not believed."""
        self._hinted = True

    def read(self, after: int, page: Page | None) -> None:
        """Note what stands after a row; None when it holds no events."""
        if after != self.cursor or self.state is State.UNCONFIRMED or self.halt in TOLD_BY_MARK:
            return  # it was asked for before that was told
        if page is None:
            self._stop("undecodable_row")
        elif page.rows and page.rows[0].n == after + 1:
            self._page = page.rows
        elif page.position and page.position.head > after:
            self._stop(missing_rows(Cursor(after, self.epoch)))
        else:
            self._backlog.clear()  # rows that PostgreSQL does not know are none of ours
            self._due = after

    def on_mark(self, mark: Cursor, known: int | None) -> bool:
        """Note what Redis holds.

        Args:
            mark: as read now.
            known: `cursor` from before the read.

        Returns:
            Whether it has lost what it had.
        """
        self.mark = mark
        if mark.epoch in UNUSABLE:
            return False
        went_back = known is not None and mark.n < known
        if self.cursor is None and mark.confirmed and mark.confirmed.n < mark.n:
            self._seen.append(mark.confirmed)
        if self.cursor is None or known is None or went_back or mark.n >= self.cursor:
            self.cursor, self.epoch = mark.n, mark.epoch
            if mark.written_at and not (self._seen and self._seen[-1].n == mark.n):
                self._seen.append(Seen(mark.n, mark.written_at))
            if self.state in {State.UNKNOWN, State.UNCONFIRMED}:
                self.state = State.UNCONFIRMED if mark.n else State.FOLLOWING
        self.redis_away = False
        return went_back

    def asks(self) -> Asked:
        """What the next look is to ask with."""
        hinted, self._hinted = self._hinted, False
        seen = [] if self.halt in MENDED_BY_REBUILD else list(self._seen)
        return Asked(self.mark, self.cursor, seen, hinted)

    def on_look(self, asked: Asked, position: Position, *, replaced: bool) -> bool:
        """Note what PostgreSQL holds.

        Args:
            asked: what it was asked with.
            position: where the stream stands.
            replaced: whether it has another row in place of one of those seen.

        Returns:
            Whether the views must be given up.
        """
        self._due = self.position.head if self.position and not asked.hinted else position.head
        self.position = position
        self.may_read = True
        if halt := mismatch(asked.mark, position):
            self._stop(halt)
        elif self.halt in TOLD_BY_MARK or asked.mark.n == position.head or asked.mark.n > self._halted_at:
            self._go_on()
        if replaced:
            self._seen.clear()
            self._page = []
            self.may_read = False
            if self.halt is None:
                self.state = State.UNCONFIRMED
        elif asked.cursor is not None:
            self._confirm(asked.seen)
        # Beyond the head it may write others in place of those that the views have.
        return self.halt == "cursor_beyond_head" or (replaced and self.halt not in UNUSABLE.values())

    @property
    def _is_under_way(self) -> bool:
        return self.state in {State.FOLLOWING, State.CATCHING_UP} and not self.redis_away

    def _of_page(self, after: int) -> list[EventBatch]:
        if not self._page or self._page[0].n != after + 1:
            return []
        rows = first_part(self._page)
        self._page = self._page[len(rows) :]
        return rows

    def _confirm(self, seen: Sequence[Seen]) -> None:
        for row in seen[:-1]:  # the last stays: whatever is replaced after it, it is replaced too
            if self._seen and self._seen[0] == row:
                self._seen.popleft()
        self.confirmed = seen[-1] if seen else self.confirmed
        if self.state is State.UNCONFIRMED:
            self.state = State.FOLLOWING

    def _stop(self, halt: Halt) -> None:
        self.state, self.halt = State.HALTED, halt
        self._halted_at = self.cursor or 0
        self.may_read = False
        self._backlog.clear()
        self._page = []

    def _go_on(self) -> None:
        if self.halt in MENDED_BY_REBUILD:
            self._seen.clear()  # of views that have been replaced since
        if self.halt:
            self.state, self.halt = State.FOLLOWING, None
