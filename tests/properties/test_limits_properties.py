"""Whatever comes late, twice or after a restart: the newest reading says where a device is, told once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from contract.events import Event, format_time
from contract.order import microseconds
from projector.limits.book import Known, Mark
from projector.limits.rules import CRIT, OK, WARN, Choice, Rules
from projector.limits.states import Limits
from runtime.settings import Limit

START = datetime(2026, 11, 23, 9, tzinfo=UTC)
SECOND = 1_000_000
LASTING = 60
KEY = ("a", "t", "above")


class Reading(NamedTuple):
    """Comes some seconds after the one before, and was measured some before that."""

    pause: int
    age: int
    value: int
    turn: bool
    restart: bool


readings = st.lists(
    st.builds(
        Reading,
        st.integers(1, 89),
        st.sampled_from([0, 0, 0, 1, 30, 300]),
        st.sampled_from([0, 10, 11, 20, 21]),
        st.booleans(),
        st.booleans(),
    ),
    max_size=30,
)


def text(second: int) -> str:
    return format_time(START + timedelta(seconds=second))


def naive(heard: list[tuple[int, Mark, int]], now: int, lasting: int) -> int:
    """The level by going through all that was ever the newest."""
    newest: Mark = (-1, "")
    taken = []
    for at, mark, value in heard:
        if mark > newest:
            newest = mark
            taken.append((at, value))
    for level, limit in ((CRIT, 20), (WARN, 10)):
        since = None
        for at, value in reversed(taken):
            if value <= limit:
                break
            since = at
        if since is not None and now - since >= lasting:
            return level
    return OK


def play(sent: list[Reading], limit: Limit, *, restarts: bool) -> None:
    """Compare with the naive way after each reading, and what was told with what is so."""
    rules = Rules([limit])
    limits, told, now = Limits(rules), Known(OK, 0), 0
    heard: list[tuple[int, Mark, int]] = []
    for number, reading in enumerate(sent):
        now += reading.pause
        measured = text(now - reading.age)
        mark = (microseconds(measured), f"{text(now)}{number}")
        heard.append((now, mark, reading.value))
        event = Event("a", None, measured, text(now), f"{number}", {"t": reading.value})
        limits.hear(0, microseconds(text(now)) // SECOND, [event, event])
        if reading.turn:
            limits.turn()
            for change in limits.take_pending(9):
                assert change.level != told.level, "told twice"
                assert change.at > told.at, "nobody would claim it"
                told = Known(change.level, change.at)
        if restarts and reading.restart:
            limits = Limits(rules, {KEY: told} if told.level else {})
            _, newest, value = max(heard, key=lambda each: each[1])
            limits.learn("a", None, "t", value, newest)
        state = limits.groups["t"][0].states["a"]
        level = naive(heard, now, LASTING if limit.for_ else 0)
        assert state.level == level or (state.is_waiting and not reading.turn)
        counts = [0, 0, 0]
        counts[state.level] = 1
        assert limits.groups["t"][0].counts == counts
        assert bool(limits.beyond) == (state.level > OK)
        assert bool(limits.pending) == (state.level != state.told)


@given(readings)
def test_the_newest_reading_counts(sent: list[Reading]) -> None:
    """Late and repeated readings and restarts change nothing, and nothing is told twice."""
    play(sent, Limit("t", warn=10, crit=20), restarts=True)


@given(readings)
def test_beyond_for_as_long_as_it_has_to_be(sent: list[Reading]) -> None:
    """Whether somebody looks between two readings or not."""
    play(sent, Limit("t", warn=10, crit=20, for_=f"{LASTING}s"), restarts=False)


PATTERNS = st.sampled_from(["", "*", "a", "b", "ab", "a*", "?", "[ab]", "*b"])
limits_set = st.lists(
    st.builds(lambda device, region: Limit("t", device=device, region=region, crit=1), PATTERNS, PATTERNS)
)


@given(
    limits_set,
    st.lists(st.tuples(st.sampled_from(["a", "b", "ab", "c"]), st.sampled_from([None, "a", "b", "c"]))),
)
def test_the_first_limit_that_fits_counts(limits: list[Limit], asked: list[tuple[str, str | None]]) -> None:
    """Whether it names a device or is a pattern, and whoever was asked for before."""
    rules = Rules(limits).get(("t", "above"), [])
    choice = Choice(rules)
    for device_id, region in asked * 2:
        first = next((rule for rule in rules if rule.fits(device_id, region)), None)
        assert choice.of(device_id, region) is first
