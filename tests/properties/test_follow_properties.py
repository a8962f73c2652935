"""Following a stream, whatever comes in whatever order: rows are applied in order, once, and all in the end.

PostgreSQL, Redis and the topic are played, each with what it may do to a follower: lose, repeat, be away, be
put back to an older state. The script's guard in Redis is played as well; the real one has its own tests.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec.structs import replace

from contract.events import EventBatch
from contract.views import UNFINISHED
from projector.follow.state import Apply, Asked, Course, Read, State
from projector.halts import MENDED_BY_REBUILD, mismatch, missing_rows
from projector.outbox import Page, Position
from projector.views import Cursor, Outcome, Seen
from tests.support.effort import examples
from tests.unit.test_projector_steps import NOON

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE_ROWS = 3
MOST_STEPS = 500  # of one round
ROUNDS = 12  # of marks and looks within which all is well again

positions = st.integers(1, 9)
fates = st.sampled_from(["answered", "answered", "away", "lost", "evicted"])


class Postgres:
    """A stream and its outbox. Each row is written at a time of its own."""

    def __init__(self) -> None:
        self.epoch = "e0"
        self.rows: list[EventBatch] = []
        self.kept_from = 1
        self.bad: set[int] = set()

    @property
    def position(self) -> Position:
        """Where the stream stands."""
        return Position(self.epoch, len(self.rows))

    def page(self, after: int) -> Page | None:
        """Rows after one; None when the first holds no events."""
        rows = self.rows[max(after, self.kept_from - 1) :][:PAGE_ROWS]
        good = [row for i, row in enumerate(rows) if not any(each.n in self.bad for each in rows[: i + 1])]
        return Page(good, self.position) if good or not rows else None

    def replaced(self, seen: Sequence[Seen]) -> bool:
        """Whether another row is there in place of one of these."""
        kept = {row.n: row.created_at for row in self.rows if row.n >= self.kept_from}
        return any(kept.get(row.n, row.created_at) != row.created_at for row in seen)


class Redis:
    """The views: the rows that are in them, with cursor and epoch."""

    def __init__(self) -> None:
        self.rows: list[EventBatch] = []
        self.epoch: str | None = None
        self.confirmed: Seen | None = None

    @property
    def mark(self) -> Cursor:
        """How far they are."""
        written_at = self.rows[-1].created_at if self.rows else None
        return Cursor(len(self.rows), self.epoch, written_at, self.confirmed)

    def apply(self, rows: list[EventBatch]) -> Outcome:
        """What `write.lua` does."""
        cursor = len(self.rows)
        if self.epoch not in {None, rows[0].epoch}:
            return Outcome("epoch", cursor)
        if rows[-1].n <= cursor:
            return Outcome("duplicate", cursor)
        if rows[0].n != cursor + 1:
            return Outcome("gap", cursor)
        self.rows += rows
        self.epoch = rows[0].epoch
        return Outcome("applied", len(self.rows))


class Following(RuleBasedStateMachine):
    """A follower between them, what it does and what it is told under way."""

    def __init__(self) -> None:
        super().__init__()
        self.names = count()
        self.postgres, self.redis = Postgres(), Redis()
        self.written: list[EventBatch] = []  # by any history
        self.start()

    @rule()
    def start(self) -> None:
        """The process starts, or starts again; not on views that crossed histories since the last look."""
        have, kept = self.redis.rows, self.postgres.rows[: len(self.redis.rows)]
        if have != kept and have[-1:] == kept[-1:]:
            return
        self.course = Course()
        self.doing: Apply | Read | None = None
        self.marking: tuple[int | None, Cursor] | None = None
        self.looking: tuple[Asked, Position, bool] | None = None
        self.confirmed = False

    # What the write side and the topic do.

    @rule(rows=st.integers(1, 9), published=st.booleans())
    def write(self, rows: int, *, published: bool) -> None:
        """Rows are committed, and may be published."""
        for _ in range(rows):
            n, at = len(self.postgres.rows) + 1, f"2026-11-23T09:00:00.{next(self.names):06d}Z"
            self.postgres.rows.append(EventBatch(1, 0, n, self.postgres.epoch, at, []))
            self.written.append(self.postgres.rows[-1])
            if published:
                self.course.offer(self.written[-1], 1, NOON)

    @precondition(lambda self: self.written)
    @rule(data=st.data())
    def offer(self, data: st.DataObject) -> None:
        """The topic brings some, again or late, of this history or of another."""
        newest = st.just(self.written[-1])
        for row in data.draw(st.lists(newest | st.sampled_from(self.written), min_size=1, max_size=4)):
            self.course.offer(row, 1, NOON)

    @rule()
    def forge(self) -> None:
        """The topic brings what is not believed."""
        self.course.hint()

    @rule(n=positions)
    def trim(self, n: int) -> None:
        """Rows that the views have are not kept any more."""
        have = len(self.redis.rows)
        if self.redis.rows == self.postgres.rows[:have]:
            self.postgres.kept_from = max(self.postgres.kept_from, min(n, have + 1))

    @rule(back_to=positions, epoch=st.booleans())
    def restore(self, back_to: int, *, epoch: bool) -> None:
        """The database is put back to an older state; whoever does may give it another epoch."""
        back_to = min(back_to, len(self.postgres.rows))
        del self.postgres.rows[back_to:]
        self.postgres.bad.clear()
        self.postgres.kept_from = min(self.postgres.kept_from, back_to + 1)
        if epoch:
            self.postgres.epoch = f"e{next(self.names)}"
            self.postgres.rows = [replace(row, epoch=self.postgres.epoch) for row in self.postgres.rows]

    @rule(rows=st.sets(positions, max_size=2))
    def spoil(self, rows: set[int]) -> None:
        """Some rows hold no events; those before were put right."""
        self.postgres.bad = rows

    # What others do to the views.

    @rule(rows=st.integers(1, 3))
    def another_projector(self, rows: int) -> None:
        """Another projector, which found the views confirmed, applies what follows."""
        cursor = len(self.redis.rows)
        if cursor < len(self.postgres.rows) and self.redis.rows == self.postgres.rows[:cursor]:
            self.redis.apply(self.postgres.rows[cursor : cursor + rows])

    @rule(back_to=st.integers(0, 9))
    def lose(self, back_to: int) -> None:
        """Redis comes back with an older copy, or with nothing."""
        if self.redis.epoch == UNFINISHED:
            return  # which the copy would not say
        del self.redis.rows[back_to:]
        self.redis.confirmed = None
        self.redis.epoch = self.redis.epoch if back_to else None

    @rule()
    def rebuild(self) -> None:
        """As `Rebuilder.mend`: if the views cannot be followed from where they are, they are made anew."""
        mark, position = self.redis.mark, self.postgres.position
        kept = mark.n + 1 >= self.postgres.kept_from
        if mismatch(mark, position) or (position.head > mark.n and not kept and missing_rows(mark)):
            self.redis.rows, self.redis.confirmed = list(self.postgres.rows), None
            self.redis.epoch = position.epoch if position.head else None

    # What the follower does, and is told.

    @precondition(lambda self: self.doing is None)
    @rule()
    def step(self) -> None:
        """It says what it does next: what follows the cursor, and nothing that is not confirmed."""
        self.doing = todo = self.course.step()
        if isinstance(todo, Apply):
            assert self.confirmed
            assert self.course.cursor is not None
            expected = range(self.course.cursor + 1, self.course.cursor + 1 + len(todo.rows))
            assert [row.n for row in todo.rows] == list(expected)
            assert todo.is_read or self.course.halt is None
        elif todo:
            assert self.confirmed
            assert self.course.state in {State.CATCHING_UP, State.HALTED}
            assert todo.after == self.course.cursor

    @precondition(lambda self: isinstance(self.doing, Apply))
    @rule()
    def add_further(self) -> None:
        """While it is at it, what follows is made part of it: rows that are there, or are read for that."""
        assert isinstance(self.doing, Apply)
        rows, is_read = self.doing
        after = rows[-1].n
        found = self.course.following(after)
        if not found.rows and self.course.lacks(after):
            page = self.postgres.page(after)
            self.course.go_on(after, page.rows if page else [])
            found = self.course.following(after)
        if found.rows and found.rows[0].epoch == rows[0].epoch:
            assert found.rows[0].n == after + 1
            self.doing = Apply([*rows, *found.rows], is_read and found.is_read)

    @precondition(lambda self: self.doing is not None)
    @rule(fate=fates)
    def answer(self, fate: str) -> None:
        """What came of it."""
        todo, self.doing = self.doing, None
        if isinstance(todo, Read):
            if fate == "away":
                self.course.may_read = False
            else:
                self.course.read(todo.after, self.postgres.page(todo.after))
        elif isinstance(todo, Apply):
            if fate == "away":
                self.course.redis_away = True
            elif fate == "lost":
                self.redis.apply(todo.rows)
                self.course.redis_away = True
            elif fate == "evicted":
                self.redis.epoch = UNFINISHED
                self.course.applied(todo.rows, Outcome("lost", len(self.redis.rows), "a view"))
            else:
                self.course.applied(todo.rows, self.redis.apply(todo.rows))

    @precondition(lambda self: self.marking is None)
    @rule()
    def ask_redis(self) -> None:
        """Redis is told what is confirmed, and answers; the answer is under way."""
        self.redis.confirmed = self.course.confirmed or self.redis.confirmed
        self.marking = self.course.cursor, self.redis.mark

    @precondition(lambda self: self.marking is not None)
    @rule()
    def on_mark(self) -> None:
        """The answer is there."""
        assert self.marking
        known, mark = self.marking
        self.marking = None
        self.course.on_mark(mark, known)
        self.confirmed |= mark == Cursor(0, None)

    @precondition(lambda self: self.looking is None)
    @rule()
    def ask_postgres(self) -> None:
        """PostgreSQL is looked at; the answer is under way."""
        asked = self.course.asks()
        self.looking = asked, self.postgres.position, self.postgres.replaced(asked.seen)

    @precondition(lambda self: self.looking is not None)
    @rule()
    def on_look(self) -> None:
        """The answer is there."""
        assert self.looking
        asked, position, replaced = self.looking
        self.looking = None
        given_up = self.course.on_look(asked, position, replaced=replaced)
        self.confirmed = not replaced and (self.confirmed or asked.cursor is not None)
        if given_up and len(self.redis.rows) >= asked.mark.n:
            self.redis.epoch = UNFINISHED

    @rule(fates=st.lists(fates | st.just("later"), min_size=3, max_size=6))
    def go_on(self, fates: Sequence[str] = ()) -> None:
        """A mark and a look, and what is to be done: with these fates, and the rest is answered."""
        if self.marking is None:
            self.ask_redis()
        self.on_mark()
        if self.looking is None:
            self.ask_postgres()
        self.on_look()
        if self.doing is None:
            self.step()
        for fate in [*fates, *["answered"] * MOST_STEPS]:
            if fate == "later":
                return
            if isinstance(self.doing, Apply):
                self.add_further()
            if self.doing:
                self.answer(fate)
                self.step()
        assert self.doing is None

    def teardown(self) -> None:
        """When all answer again, the views come to hold what PostgreSQL has, and it follows."""
        self.spoil(set())
        for _ in range(ROUNDS):
            self.go_on()
            if self.course.halt in MENDED_BY_REBUILD:
                self.rebuild()
        assert self.redis.rows == self.postgres.rows
        assert (self.course.cursor, self.course.state) == (len(self.postgres.rows), State.FOLLOWING)


def test_whatever_comes() -> None:
    """Whatever the servers, the topic and others do meanwhile."""
    run_state_machine_as_test(
        Following, settings=settings(max_examples=examples(100), stateful_step_count=60, deadline=None)
    )
