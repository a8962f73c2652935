"""Sends what the fleet says, at a rate that does not depend on the broker, and counts what was acknowledged.

Open loop: messages fall due by the clock (`Pace`), whether or not the broker keeps up. What is due waits in
its device's *lane*: one session, one queue, so a device's messages stay in order. A lane takes all that
waits, publishes it and awaits the acks; a slower broker gets larger batches. When a lane is full nothing
more is made until there is room, the fleet falls *behind* its clock, and that is logged and counted, never
hidden by a lower rate.

A lost connection leaves a tail of unknown outcome. At QoS 1 and 2 it is sent again on the next connection, as
devices do, so that the broker sees some of it twice; at QoS 0 it is counted as lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import structlog

from runtime.errors import Reject, Stop
from runtime.lifecycle import unless
from runtime.mqtt.port import Disconnected, Message

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.simulate.devices import Emission, Kind
    from gateway.simulate.pace import Pace
    from runtime.mqtt.port import Qos, Session

log = structlog.get_logger()

DRAIN_S = 10.0
"""How long the last acks are awaited after the last message was made."""

_AGAIN_S = 0.05
_LANE_LIMIT = 10_000
_BATCH = 500
_SLICE = 500
_BEHIND_S = 1.0
_CAUGHT_UP_S = 0.1


@dataclass(slots=True)
class Tally:
    """What happened so far, in messages unless the name says otherwise.

    Attributes:
        made: taken from the fleet.
        sent: handed to a connection at least once, by kind.
        acknowledged: acknowledged by the broker, at QoS 0 written to the socket, by kind.
        readings: readings in the acknowledged messages; an array carries several.
        repeated: sent again after a lost connection.
        lost: of QoS 0, given up with a lost connection.
        behind: due by the clock but not sent.
    """

    made: int = 0
    sent: Counter[Kind] = field(default_factory=Counter)
    acknowledged: Counter[Kind] = field(default_factory=Counter)
    readings: int = 0
    repeated: int = 0
    lost: int = 0
    behind: int = 0


class Talking(Protocol):
    """Devices that say one thing after the other."""

    def emit(self, now: float) -> Emission:
        """Make the next message, at a time in epoch seconds."""


class Lane:
    """One connection and the queue before it."""

    def __init__(self, session: Session, qos: Qos, tally: Tally) -> None:
        self.session = session
        self._qos = qos
        self._tally = tally
        self._waiting: deque[Emission] = deque()
        self._wake = asyncio.Event()
        self._closed = False

    @property
    def room(self) -> int:
        """How many more emissions it takes now."""
        return _LANE_LIMIT - len(self._waiting)

    def put(self, emission: Emission) -> None:
        """Queue a message."""
        self._waiting.append(emission)
        self._wake.set()

    def close(self) -> None:
        """Take nothing more: `run` returns when the queue is sent."""
        self._closed = True
        self._wake.set()

    async def run(self) -> None:
        """Publish what is queued until closed and empty.

        Raises:
            Stop: the broker refuses the messages.
        """
        while True:
            if not self._waiting:
                if self._closed:
                    return
                self._wake.clear()
                await self._wake.wait()
                continue
            batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            await self._deliver(batch)

    async def _deliver(self, batch: Sequence[Emission]) -> None:
        messages = [Message(emission.topic, emission.payload, self._qos) for emission in batch]
        await self.session.connected()
        self._tally.sent.update(emission.kind for emission in batch)
        while True:
            try:
                await self.session.publish(messages)
            except Disconnected as gone:
                done = gone.acknowledged
            except Reject as refused:
                raise Stop(f"{refused.detail}: has this client the right to publish there?") from refused
            else:
                done = len(messages)
            self._tally.acknowledged.update(emission.kind for emission in batch[:done])
            self._tally.readings += sum(emission.readings for emission in batch[:done])
            batch, messages = batch[done:], messages[done:]
            if not messages:
                return
            if self._qos == 0:
                self._tally.lost += len(messages)
                return
            await asyncio.sleep(
                _AGAIN_S
            )  # `connected` may return at once until the session has seen the loss
            await self.session.connected()
            self._tally.repeated += len(messages)


class Publisher:
    """Drives a fleet over several sessions.

    Args:
        sessions: open sessions; devices are dealt out over them.
        tally: counts as it happens.
        clock: the devices' clock, in epoch seconds.
    """

    def __init__(
        self,
        fleet: Talking,
        sessions: Sequence[Session],
        pace: Pace,
        qos: Qos,
        tally: Tally,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.tally = tally
        self.started_at: float | None = None
        self._fleet = fleet
        self._pace = pace
        self._lanes = [Lane(session, qos, self.tally) for session in sessions]
        self._clock = clock
        self._due = 0
        self._lagging = False

    @property
    def elapsed_s(self) -> float:
        """Seconds since the first message fell due; 0 before."""
        return 0.0 if self.started_at is None else time.monotonic() - self.started_at

    async def run(self, stop: asyncio.Event) -> None:
        """Wait for every connection, send until the pace is over or `stop` is set, await what is under way.

        Raises:
            Stop: the broker refuses the messages, or a session met what no retry can mend.
        """
        async with asyncio.TaskGroup() as group:
            lanes = [
                group.create_task(lane.run(), name=f"simulate-lane-{index}")
                for index, lane in enumerate(self._lanes)
            ]
            if await unless(stop, self._connected()):
                self.started_at = time.monotonic()
                await self._emit(stop)
            for lane in self._lanes:
                lane.close()
            _, late = await asyncio.wait(lanes, timeout=DRAIN_S)
            for task in late:
                task.cancel()
        self.tally.behind = self._due - self.tally.sent.total()

    async def _connected(self) -> bool:
        for lane in self._lanes:
            await lane.session.connected()
        return True

    async def _emit(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            elapsed = self.elapsed_s
            self._due = self._pace.due(elapsed)
            self._make(min(self._due - self.tally.made, _SLICE))
            self._watch_lag()
            if self._pace.over(elapsed, self.tally.made):
                return
            if self._due > self.tally.made and self._has_room():
                await asyncio.sleep(0)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pace.next_in(elapsed, self.tally.made)):
                    await stop.wait()

    def _watch_lag(self) -> None:
        self.tally.behind = self._due - self.tally.sent.total()
        allowed_s = _CAUGHT_UP_S if self._lagging else _BEHIND_S
        lagging = self.tally.behind > self._pace.rate * allowed_s
        if lagging != self._lagging:
            self._lagging = lagging
            event = "simulation_falls_behind" if lagging else "simulation_caught_up"
            log.warning(event, behind=self.tally.behind, elapsed_s=round(self.elapsed_s, 1))

    def _make(self, count: int) -> None:
        now = self._clock()
        for _ in range(count):
            if not self._has_room():
                return
            emission = self._fleet.emit(now)
            self._lanes[emission.device % len(self._lanes)].put(emission)
            self.tally.made += 1

    def _has_room(self) -> bool:
        return all(lane.room > 0 for lane in self._lanes)
