"""How every process of the house starts, waits for what is away, and stops.

Soft stop, then hard. The first SIGTERM or SIGINT sets the event that the work watches: it stops intake,
drains, commits, acks and returns. A second signal, or the deadline that the first one started, cancels the
work, and what does not let itself be cancelled ends with the process three seconds later. What was not acked
by then is delivered again by the broker, so a hard stop costs time and never data; it is still an exit code
of 1, because the work did not end as it should.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from runtime.backoff import Backoff
from runtime.errors import EdgeError, Retry, Stop
from runtime.logs import one_line
from runtime.supervisor import notify

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator

    from runtime.http import Health

T = TypeVar("T")

SIGNALS = (signal.SIGTERM, signal.SIGINT)

_BACKOFF_INITIAL_S = 0.2
_BACKOFF_MAX_S = 15.0
_LAST_RESORT_S = 3.0
_YOUNG_OBJECTS = 50_000
_GENERATION_RATIO = 20

log = structlog.get_logger()


def run_until_stopped(
    main: Callable[[asyncio.Event], Awaitable[None]],
    *,
    shutdown_timeout_s: float,
    hangup: Callable[[], None] | None = None,
) -> int:
    """Run `main(stop)` on uvloop until it returns, fails, or is told to stop by a signal.

    Args:
        main: returns soon after `stop` is set; its errors may come in exception groups.
        shutdown_timeout_s: seconds from the first signal until the work is cancelled.
        hangup: called at SIGHUP, which ends the process without it.

    Returns:
        The exit code: 0 when `main` returned, that of a `Stop`, 1 for any other error and for a hard stop.
    """
    import uvloop  # noqa: PLC0415  # commands that run nothing must start fast

    _calm_collector()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_supervise(main, shutdown_timeout_s, hangup))


def _calm_collector() -> None:
    """Collect garbage seldom, and never what is here from the start.

    A message leaves no cycles behind, but its objects set off collections by their number: with the default
    thresholds they cost an eighth of the gateway's time.
    """
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, _GENERATION_RATIO, _GENERATION_RATIO)


async def keep_trying(what: str, attempt: Callable[[], Awaitable[T]], health: Health) -> T:
    """Call `attempt` until it does not raise `Retry`, with jittered exponential pauses of up to 15 seconds.

    Meanwhile `health` has the reason under `what`. Any other error leaves at once.

    Args:
        what: the component waited for, as an operator names it (`broker`, `postgres`, `redis`).
        attempt: called afresh each time.
        health: readiness of the process.
    """
    waiting = Waiting(what, health)
    backoff = Backoff(_BACKOFF_INITIAL_S, _BACKOFF_MAX_S)
    try:
        while True:
            try:
                result = await attempt()
            except Retry as error:
                waiting.failed(error.reason)
                await asyncio.sleep(backoff.next_s())
            else:
                waiting.over()
                raise_if_cancelled()
                return result
    finally:
        waiting.leave()


async def unless(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """Run `work`, but give it up as soon as `stop` is set.

    Returns:
        Its result, or None when it was given up.
    """
    task = asyncio.create_task(work)
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        return await task if task.done() else None
    finally:
        stopped.cancel()
        task.cancel()
        await asyncio.wait({task, stopped})


def raise_if_cancelled() -> None:
    """Raise the cancellation of the running task that somebody below has swallowed.

    Raises:
        asyncio.CancelledError: the task has been cancelled and still runs.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


class Waiting:
    """Tells what is being waited for: each new reason, and about once a minute the newest.

    When several wait for the same, they tell of it together, and that it is over when it is for all.
    """

    def __init__(self, what: str, health: Health, clock: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._health = health
        self._clock = clock
        self._since: float | None = None

    def failed(self, reason: str) -> None:
        """Note one more failed attempt."""
        now = self._clock()
        self._health.set(self._what, reason, by=self)
        outage = self._health.outage(self._what, now)
        self._since = outage.since
        if outage.is_news(reason, now):
            log.warning("waiting", what=self._what, reason=reason, waited_s=round(now - outage.since, 1))

    def over(self) -> None:
        """Note success; silent when nothing had failed."""
        self.leave()
        if self._since is not None and not self._health.is_away(self._what):
            log.info("available", what=self._what, waited_s=round(self._clock() - self._since, 1))
        self._since = None

    def leave(self) -> None:
        """Wait no more, whatever the outcome: what another waits for is another's to say."""
        self._health.set(self._what, None, by=self)


def next_turn_s(interval_s: float) -> float:
    """Seconds until the next turn of something that has one about each `interval_s`.

    All that turn at the same interval turn together: a process that wakes up finds nothing of it in the
    processor's caches any more, so one awakening costs much less than several.
    """
    left = interval_s - asyncio.get_running_loop().time() % interval_s
    return left if left > interval_s / 2 else left + interval_s


async def every(
    interval_s: float,
    action: Callable[[], Awaitable[object]],
    *,
    stop: asyncio.Event,
    name: str,
    at_once: bool = False,
) -> None:
    """Call `action` each `interval_s` seconds until `stop` is set.

    A `Retry` from it is logged and the next turn comes as usual; any other error leaves. A turn that takes
    longer than the interval is not made up for.

    Args:
        interval_s: seconds from one turn to the next (`next_turn_s`).
        action: one turn.
        stop: ends the series, at once when it waits.
        name: what it does, for the log.
        at_once: whether the first turn is now, not after one interval.
    """
    loop = asyncio.get_running_loop()
    due = loop.time() + (0 if at_once else next_turn_s(interval_s))
    while True:
        try:
            async with asyncio.timeout_at(due):
                await stop.wait()
        except TimeoutError:
            pass
        else:
            return
        try:
            await action()
        except Retry as error:
            log.warning("turn_skipped", name=name, what=error.what, reason=error.reason)
        due = loop.time() + next_turn_s(interval_s)


async def _supervise(
    main: Callable[[asyncio.Event], Awaitable[None]],
    shutdown_timeout_s: float,
    hangup: Callable[[], None] | None,
) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    work: asyncio.Future[None] = asyncio.ensure_future(main(stop))
    signals = 0
    cut_short = False

    def cut(why: str) -> None:
        nonlocal cut_short
        cut_short = True
        log.warning("stopping_hard", reason=why)
        work.cancel()
        loop.call_later(_LAST_RESORT_S, _leave_at_once)

    def on_signal(received: signal.Signals) -> None:
        nonlocal signals
        signals += 1
        if signals == 1:
            log.info("stopping", signal=received.name, deadline_s=shutdown_timeout_s)
            notify("STOPPING=1")
            stop.set()
            loop.call_later(
                shutdown_timeout_s, cut, f"not done {shutdown_timeout_s:g} s after the first signal"
            )
        else:
            cut(f"another {received.name}")

    for each in SIGNALS:
        loop.add_signal_handler(each, on_signal, each)
    if hangup is not None:
        loop.add_signal_handler(signal.SIGHUP, hangup)
    try:
        await work
    except asyncio.CancelledError:
        if not cut_short:
            raise
    except Exception as error:  # noqa: BLE001  # the process's last line of defence
        return _exit_code(error)
    finally:
        for each in SIGNALS:
            loop.remove_signal_handler(each)
    return 1 if cut_short else 0


def _leave_at_once() -> None:
    """End the process although its work does not: it waits for a server that does not answer."""
    log.error("stopping_forced", after_s=_LAST_RESORT_S)
    os._exit(1)


def _exit_code(error: Exception) -> int:
    """Log why the process ends and choose its exit code; a `Stop` among several errors speaks for them."""
    leaves = list(_leaves(error))
    stops = [leaf for leaf in leaves if isinstance(leaf, Stop)]
    if stops:
        log.error("stopped", reason=str(stops[0]))
        return stops[0].exit_code
    if all(isinstance(leaf, EdgeError) for leaf in leaves):
        log.error("stopped", reason=one_line(error))
    else:
        log.error("crashed", exc_info=error)
    return 1


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error
