from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from runtime.errors import ConfigurationError, Retry, Stop
from runtime.http import Health
from runtime.lifecycle import Waiting, every, keep_trying, next_turn_s, run_until_stopped, unless

if TYPE_CHECKING:
    from collections.abc import MutableMapping


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def run(error: BaseException | None) -> tuple[int, list[MutableMapping[str, Any]]]:
    """Run a main that ends at once, with an error or without."""

    async def main(stop: asyncio.Event) -> None:
        assert not stop.is_set()
        if error is not None:
            raise error

    with capture_logs() as logs:
        return run_until_stopped(main, shutdown_timeout_s=1), logs


def test_work_that_returns_is_exit_code_0() -> None:
    """0 means done, and says nothing."""
    assert run(None) == (0, [])


@pytest.mark.parametrize(
    ("error", "code", "event"),
    [
        (Stop("stream 0 is taken"), 1, "stopped"),
        (ConfigurationError("redis.url: malformed"), 2, "stopped"),
        (Retry("postgres", "away"), 1, "stopped"),
        (ValueError("a bug"), 1, "crashed"),
        (
            ExceptionGroup("tasks", [ExceptionGroup("more", [ValueError("x"), ConfigurationError("k: v")])]),
            2,
            "stopped",
        ),
        (ExceptionGroup("tasks", [ValueError("x"), Retry("redis", "away")]), 1, "crashed"),
    ],
)
def test_errors_become_exit_codes(error: Exception, code: int, event: str) -> None:
    """A `Stop` decides the exit code, through whatever task groups it came; a bug is a crash."""
    exit_code, [line] = run(error)
    assert (exit_code, line["event"], line["log_level"]) == (code, event, "error")


def test_the_work_runs_on_uvloop() -> None:
    """The loop is uvloop's."""
    modules = []

    async def main(_stop: asyncio.Event) -> None:
        modules.append(type(asyncio.get_running_loop()).__module__)

    assert run_until_stopped(main, shutdown_timeout_s=1) == 0
    assert modules == ["uvloop"]


def test_waiting_tells_once_and_again_when_the_reason_changes() -> None:
    """Waiting is told at first, when the reason changes, about once a minute, and when it is over."""
    clock, health = Clock(), Health()
    waiting = Waiting("postgres", health, clock)
    with capture_logs() as logs:
        for now, reason in (
            (0, "refused"),
            (5, "refused"),
            (9, "starting up"),
            (60, "starting up"),
            (69, "starting up"),
        ):
            clock.now = now
            waiting.failed(reason)
            assert health.reasons() == {"postgres": reason}
        clock.now = 70
        waiting.over()
        waiting.over()
    assert [(line["event"], line.get("reason"), line["waited_s"]) for line in logs] == [
        ("waiting", "refused", 0),
        ("waiting", "starting up", 9),
        ("waiting", "starting up", 69),
        ("available", None, 70),
    ]
    assert health.reasons() == {}


def test_several_that_wait_for_the_same_tell_of_it_together() -> None:
    """Whoever was first and tries no more, the newest reason is said, a line a minute, and the end once."""
    clock, health = Clock(), Health()
    first, second = (Waiting("redis", health, clock) for _ in range(2))
    with capture_logs() as logs:
        first.failed("refused")
        for now in range(5, 130, 5):
            clock.now = now
            second.failed("loading" if now > 90 else "refused")
            assert health.reasons() == {"redis": "loading" if now > 90 else "refused"}
        first.over()
        assert health.reasons() == {"redis": "loading"}
        second.over()
        first.over()
    assert [(line["event"], line.get("reason"), line["waited_s"]) for line in logs] == [
        ("waiting", "refused", 0),
        ("waiting", "refused", 60),
        ("waiting", "loading", 95),
        ("available", None, 125),
    ]


def test_reasons_that_alternate_are_said_once_a_minute() -> None:
    """Two that wait for the same with reasons of their own fill no log."""
    clock, health = Clock(), Health()
    both = [Waiting("postgres", health, clock) for _ in range(2)]
    with capture_logs() as logs:
        for now in range(120):
            clock.now = now
            both[now % 2].failed(f"reason {now % 2}")
    assert [line["waited_s"] for line in logs] == [0, 1, 61, 62]


async def test_keep_trying_until_it_works() -> None:
    """`Retry` is tried again, with the reason on `Health` meanwhile; success clears it."""
    health, seen = Health(), []

    async def attempt() -> str:
        seen.append(health.reasons())
        if len(seen) < 3:
            raise Retry("redis", f"away {len(seen)}")
        return "result"

    with capture_logs() as logs:
        assert await keep_trying("redis", attempt, health) == "result"
    assert seen == [{}, {"redis": "away 1"}, {"redis": "away 2"}]
    assert health.reasons() == {}
    assert [line["event"] for line in logs] == ["waiting", "waiting", "available"]


async def test_keep_trying_is_silent_when_nothing_is_wrong() -> None:
    """What answers at once is not worth a line."""

    async def attempt() -> int:
        return 7

    with capture_logs() as logs:
        assert await keep_trying("redis", attempt, Health()) == 7
    assert logs == []


async def test_keep_trying_gives_up_on_what_no_retry_mends() -> None:
    """Any error but `Retry` leaves at once."""

    async def attempt() -> None:
        raise ConfigurationError("redis.url: malformed")

    with pytest.raises(ConfigurationError):
        await keep_trying("redis", attempt, Health())


async def test_unless_returns_the_result_or_gives_up() -> None:
    """Work that can wait for ever is given up as soon as the process is told to stop."""
    stop = asyncio.Event()

    async def quick() -> int:
        return 7

    assert await unless(stop, quick()) == 7

    cleaned = asyncio.Event()

    async def endless() -> int:
        try:
            stop.set()
            await asyncio.Event().wait()
        finally:
            cleaned.set()
        return 7

    assert await unless(stop, endless()) is None
    assert cleaned.is_set()


async def test_unless_passes_errors_on() -> None:
    """An error of the work is the caller's."""

    async def fails() -> None:
        raise Stop("x")

    with pytest.raises(Stop):
        await unless(asyncio.Event(), fails())


async def test_every_goes_on_after_a_retry_and_ends_with_stop() -> None:
    """A turn that could not be is logged and the next one comes; `stop` ends the series."""
    stop, turns = asyncio.Event(), []

    async def action() -> None:
        turns.append(1)
        if len(turns) == 1:
            raise Retry("postgres", "away")
        stop.set()

    with capture_logs() as logs:
        await every(0.001, action, stop=stop, name="trim")
    assert len(turns) == 2
    assert [(line["event"], line["name"], line["what"]) for line in logs] == [
        ("turn_skipped", "trim", "postgres")
    ]


async def test_every_does_not_wait_for_its_interval_when_told_to_stop() -> None:
    """However long the interval, stopping is at once, and another error leaves."""
    stop = asyncio.Event()
    stop.set()

    async def action() -> None:
        raise ValueError("never called")

    await every(3600, action, stop=stop, name="trim")
    with pytest.raises(ValueError, match="never called"):
        await every(0.001, action, stop=asyncio.Event(), name="trim")


async def test_turns_of_one_interval_come_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever begins at whatever time: within half an interval and one and a half."""
    loop = asyncio.get_running_loop()
    ends = []
    for begins_at in (7.0, 7.1, 7.4, 7.6, 7.99, 8.0):
        with monkeypatch.context() as patch:
            patch.setattr(loop, "time", partial(float, begins_at))
            left = next_turn_s(1.0)
        assert 0.5 < left <= 1.5
        ends.append(round(begins_at + left, 6))
    assert ends == [8.0, 8.0, 8.0, 9.0, 9.0, 9.0]
