from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from projector.live import feed as feed_module
from projector.live.feed import VIEWERS, Feed, TooManyViewersError
from projector.live.frames import Frames
from projector.live.rates import Rate
from projector.live.state import Devices, Letters, Rates, Row, State
from projector.meters import Meters

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SOON_S = 5.0


def state(at_ms: int, **rows: int) -> State:
    """A state in which devices were last heard at some time."""
    made = {
        id_: Row(
            *(id_, "ok", None, {}, last_seen_ms, None),
            clock_wrong=False,
            clock_error_s=None,
            rejected=0,
            reason=None,
            values={},
        )
        for id_, last_seen_ms in rows.items()
    }
    devices = Devices(total=len(rows), watched=len(rows), silent=0, clocks_wrong=0, order=list(rows))
    return State(
        at_ms,
        at_ms,
        at_ms,
        {},
        Rates(None, 0, []),
        [],
        [],
        devices,
        Letters([], 0, more=False, reasons={}, constant_keys=[]),
        made,
        {},
    )


class CountingBoard:
    """Counts how often it is looked at."""

    def __init__(self) -> None:
        self.looks = 0
        self.left = asyncio.Event()

    async def look(self) -> State:
        self.looks += 1
        return state(self.looks, a=self.looks, b=0)

    def forget(self) -> None:
        self.left.set()


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> CountingBoard:
    """What a feed looks at, a hundred times as fast as usual."""
    monkeypatch.setattr(feed_module, "LOOK_S", 0.01)
    monkeypatch.setattr(feed_module, "LINGER_S", 0.05)
    return CountingBoard()


@pytest.fixture
async def feed(board: CountingBoard) -> AsyncIterator[Feed]:
    """A feed that runs."""
    running = Feed(board, Meters(CollectorRegistry()))
    stop = asyncio.Event()
    task = asyncio.create_task(running.run(stop))
    yield running
    stop.set()
    await task


def read(frame: bytes | None) -> dict[str, Any]:
    """A frame as it is parsed by a viewer."""
    assert frame is not None
    found: dict[str, Any] = msgspec.json.decode(frame)
    return found


async def test_one_look_for_all_and_none_for_nobody(feed: Feed, board: CountingBoard) -> None:
    """Nothing is looked at before the first viewer and after the last; ten viewers cost one look."""
    assert board.looks == 0
    with ExitStack() as stack:
        viewers = [stack.enter_context(feed.viewer()) for _ in range(10)]
        frames = await asyncio.gather(*(viewer.next(SOON_S) for viewer in viewers))
        assert len(set(frames)) == 1
        assert read(frames[0])["at_ms"] == board.looks
    await asyncio.wait_for(board.left.wait(), SOON_S)
    looks = board.looks
    assert not await anything(feed)
    assert board.looks == looks


async def anything(feed: Feed) -> bool:
    """Whether a frame comes that is not for a viewer."""
    return await feed.after(None, 0.1) is not None


async def test_who_comes_at_the_very_end_is_served(
    board: CountingBoard, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who comes after the last look for those who left gets frame after frame, like any other."""
    monkeypatch.setattr(feed_module, "LINGER_S", 0.001)
    with feed.viewer() as leaving:
        left = read(await leaving.next(SOON_S))
    with feed.viewer() as coming:
        assert read(await coming.next(SOON_S))["seq"] == left["seq"]
        assert read(await coming.next(SOON_S))["seq"] == left["seq"] + 1
        assert read(await coming.next(SOON_S))["seq"] == left["seq"] + 2
        assert not board.left.is_set()
    await asyncio.wait_for(board.left.wait(), SOON_S)


async def test_who_follows_gets_changes_and_who_is_late_gets_all(feed: Feed) -> None:
    """The first frame stands alone, the next tells what is new, and one after a pause stands alone."""
    with feed.viewer() as quick, feed.viewer() as slow:
        first = read(await quick.next(SOON_S))
        assert read(await slow.next(SOON_S))["full"] is True
        assert (first["full"], set(first["rows"])) == (True, {"a", "b"})
        second = read(await quick.next(SOON_S))
        assert (second["full"], second["seq"]) == (False, first["seq"] + 1)
        assert set(second["rows"]) == {"a"}
        assert "streams" not in second
        await quick.next(SOON_S)
        late = read(await slow.next(SOON_S))
        assert (late["full"], set(late["rows"])) == (True, {"a", "b"})


async def test_viewers_are_so_many_and_no_more(feed: Feed) -> None:
    """One viewer too many is refused; when another leaves there is room again."""
    with ExitStack() as stack:
        leaving = ExitStack()
        leaving.enter_context(feed.viewer())
        for _ in range(VIEWERS - 1):
            stack.enter_context(feed.viewer())
        with pytest.raises(TooManyViewersError), feed.viewer():
            pass
        leaving.close()
        with feed.viewer() as viewer:
            assert await viewer.next(SOON_S)


async def test_viewers_are_sent_away_at_the_end(board: CountingBoard) -> None:
    """When the process stops nobody is left waiting."""
    feed, stop = Feed(board, Meters(CollectorRegistry())), asyncio.Event()
    task = asyncio.create_task(feed.run(stop))
    with feed.viewer() as viewer:
        await viewer.next(SOON_S)
        stop.set()
        await task
        with pytest.raises(EOFError):
            await viewer.next(SOON_S)


def test_a_delta_leaves_out_what_is_as_it_was() -> None:
    """Applied one after the other, deltas give what the full frame says."""
    frames = Frames()
    frames.next(state(1, a=1, b=1))
    frame = frames.next(state(2, a=1, b=2))
    delta = msgspec.json.decode(frame.delta)
    assert delta == {
        "full": False,
        "seq": 2,
        "at_ms": 2,
        "views_at_ms": 2,
        "letters_at_ms": 2,
        "rows": {"b": msgspec.to_builtins(state(2, b=2).rows["b"])},
    }
    full = msgspec.json.decode(frame.full)
    assert full == {**msgspec.to_builtins(state(2, a=1, b=2)), "full": True, "seq": 2}


def test_rates() -> None:
    """A rate is that of the last minute; the series has each second of it."""
    rate = Rate()
    rate.add(0.0, 100)
    for second in range(1, 81):
        rate.add(float(second), 100 + 10 * second)
    rate.add(81.0, 1500)
    assert (rate.per_s, rate.span_s) == (19.833, 60.0)
    assert list(rate.series) == [10.0] * 59 + [600.0]


def test_the_rate_of_a_quiet_plant() -> None:
    """A message each five seconds is twelve a minute, also in between."""
    rate = Rate()
    for second in range(100):
        rate.add(float(second), second // 5)
        if second >= 60:
            assert rate.per_s is not None
            assert round(rate.per_s * 60) == 12


def test_looks_that_take_long() -> None:
    """A rate tells over how long it is, however many looks there were."""
    rate = Rate()
    assert rate.span_s == 0
    for second in (0.0, 3.0, 7.5):
        rate.add(second, int(second))
    assert (rate.span_s, len(rate.series)) == (7.5, 2)


def test_no_rate_without_two_looks() -> None:
    """Before the second look, and after the counter began anew, there is none."""
    rate = Rate()
    for at_s, count in ((0.0, 100), (1.0, 200), (2.0, 5)):
        rate.add(at_s, count)
    assert rate.per_s is None
    assert list(rate.series) == [100.0]
