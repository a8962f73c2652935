"""Publishes under way on one connection: many callers, one window, one future per call.

The window is how many QoS 1 and 2 messages may be unacknowledged at the broker (its Receive Maximum, MQTT5
§3.3.4). Calls are served in order; what does not fit waits here until acks make room. A message that the
broker would not take is refused here by itself: sent, it would end the connection for all the others (MQTT5
§3.2.2.3.6).
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from runtime.mqtt.port import Disconnected, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from runtime.mqtt.port import Message


class _Call:
    """One call of `publish`, until all its messages are settled."""

    __slots__ = ("acknowledged", "done", "messages", "open", "refusals")

    def __init__(self, messages: Sequence[Message], done: asyncio.Future[None]) -> None:
        self.messages: Iterator[Message] = iter(messages)
        self.open = len(messages)
        self.acknowledged = 0
        self.refusals: list[str] = []
        self.done = done

    def settle(self, refusal: str = "") -> None:
        """Count one message as acknowledged, or as refused with the reason given."""
        self.open -= 1
        if refusal:
            self.refusals.append(refusal)
        else:
            self.acknowledged += 1
        if not self.open and not self.done.done():
            self.done.set_result(None)


class Outgoing:
    """The window and the calls that wait for it.

    Args:
        window: unacknowledged messages that the broker takes.
        send: encodes a message and keeps it for `flush`; returns the packet identifier under which
            `acknowledge` will be called, or 0 when none will come. Raises ValueError for a message that
            cannot be sent.
        flush: writes what `send` kept.
    """

    def __init__(self, window: int, send: Callable[[Message], int], flush: Callable[[], None]) -> None:
        self.window = window
        self._send = send
        self._flush = flush
        self._calls: deque[_Call] = deque()
        self._under_way: dict[int, _Call] = {}
        self._paused = False
        self._lost = ""

    def __contains__(self, packet_id: int) -> bool:
        """Whether a packet identifier is in use."""
        return packet_id in self._under_way

    @property
    def busy(self) -> bool:
        """Whether anything waits, for the window or for the broker's answer."""
        return bool(self._calls or self._under_way)

    async def publish(self, messages: Sequence[Message]) -> None:
        """Send in order and wait until every message is settled. See `port.Session.publish`."""
        if self._lost:
            raise Disconnected(self._lost)
        if not messages:
            return
        call = _Call(messages, asyncio.get_running_loop().create_future())
        self._calls.append(call)
        self.pump()
        await call.done
        if call.refusals:
            others = f" (and {len(call.refusals) - 1} more)" if len(call.refusals) > 1 else ""
            raise Refused(len(call.refusals), call.refusals[0] + others)

    def pump(self) -> None:
        """Send as much as the window and the transport take now."""
        while self._calls and not self._paused and not self._lost and len(self._under_way) < self.window:
            call = self._calls[0]
            message = next(call.messages, None)
            if message is None or call.done.done():
                self._calls.popleft()
                continue
            try:
                packet_id = self._send(message)
            except ValueError as error:
                call.settle(f"topic {message.topic!r}: {error}")
                continue
            if packet_id:
                self._under_way[packet_id] = call
            else:
                call.settle()
        self._flush()

    def acknowledge(self, packet_id: int, refusal: str = "") -> None:
        """Settle a message; the caller calls `pump` when it has handed over all that arrived together."""
        call = self._under_way.pop(packet_id, None)
        if call is not None:
            call.settle(refusal)

    def pause(self) -> None:
        """Send nothing more until `resume`: the transport has enough to write."""
        self._paused = True

    def resume(self) -> None:
        """The transport takes more again."""
        self._paused = False
        self.pump()

    def fail(self, reason: str) -> None:
        """The connection is over: every call that is not settled raises `Disconnected`."""
        self._lost = reason
        for call in {*self._calls, *self._under_way.values()}:
            if not call.done.done():
                call.done.set_exception(Disconnected(reason, call.acknowledged))
        self._calls.clear()
        self._under_way.clear()
