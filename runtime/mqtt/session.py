"""The session: it keeps one connection to the broker, and outlives it.

The loop: connect with a fresh client, subscribe what is configured and unsubscribe what no longer is
(`filters`), wait until the connection is lost, wait with jittered backoff, again (`temper`).

- A filter that the broker refuses is like no connection: we say which one and keep trying, because rights are
  mended at the broker, and half a set of subscriptions would look healthy.
- Deliveries that nobody had received when the connection went are forgotten if the broker still has the
  session, because it delivers them again, and handed out if it has not (`inbox`).
- A session that speaks MQTT 3.1.1 because of a silence asks from time to time whether the broker takes
  MQTT 5 after all (`opening`). When it does, intake pauses until what was taken is acknowledged, and only
  then is the connection changed: what is unacknowledged for longer comes again, as after any reconnect.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

import structlog

from runtime.backoff import Backoff
from runtime.errors import ConfigurationError, Stop
from runtime.mqtt.filters import Filters
from runtime.mqtt.inbox import Inbox
from runtime.mqtt.opening import Opener
from runtime.mqtt.port import Disconnected, SessionStatus
from runtime.mqtt.temper import Temper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runtime.mqtt.connection import Connection, ReceivedChunk
    from runtime.mqtt.port import Message, SessionOptions, Subscription

_QUIET_WITHIN_S = 5.0
_QUIET_LOOK_S = 0.05


class MqttSession:
    """One MQTT session; see `port.Session`.

    Args:
        options: how to reach the broker and what session to keep there.

    Raises:
        ConfigurationError: the options contradict each other.
    """

    def __init__(self, options: SessionOptions) -> None:
        if options.driver in {"mqtt5", "mqtt311"} and options.transport == "websockets":
            raise ConfigurationError('transport "websockets" needs driver "aiomqtt" or "auto"')
        self._options = options
        self._status = SessionStatus()
        self._inbox = Inbox(options.max_pending_messages, self._status)
        self._opener = Opener(options)
        self._newest: ReceivedChunk | None = None
        self._backoff = Backoff(options.backoff_initial_s, options.backoff_max_s)
        self._ready = asyncio.Event()
        self._connection: Connection | None = None
        self._paused = self._gathering = False
        self._stop: Stop | None = None
        self._short: dict[str, int | bool] = {}  # of the broker's terms, told
        self._task: asyncio.Task[None] | None = None
        self._log: structlog.stdlib.BoundLogger = structlog.get_logger().bind(
            broker=f"{options.host}:{options.port}", client_id=options.client_id
        )
        self._filters = Filters(options, self._log)
        self._temper = Temper(options, self._status, self._backoff, self._log)

    @property
    def status(self) -> SessionStatus:
        """The session's state now."""
        return self._status

    async def __aenter__(self) -> Self:
        """Start the connection loop in the background."""
        self._status.reason = "connecting"
        self._task = asyncio.create_task(self._run(), name=f"mqtt-session {self._options.client_id}")
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Disconnect and stop the loop."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])

    async def connected(self) -> None:
        """Wait until connected and subscribed.

        Raises:
            Stop: the connection loop gave up.
        """
        while True:
            await self._ready.wait()
            self._raise_if_stopped()
            if self._connection is not None and not self._connection.lost.done():
                return
            await asyncio.sleep(0)  # the connection loop is about to notice the loss

    async def receive(self) -> ReceivedChunk:
        """Wait for deliveries and return what has arrived together.

        Raises:
            Stop: the connection loop gave up.
        """
        while True:
            self._raise_if_stopped()
            chunk = self._inbox.take()
            if self._paused and self._inbox.size_bytes <= self._options.max_pending_bytes // 2:
                self._resume()
            if chunk is not None:
                return chunk
            await self._inbox.wait()

    def gather(self, seconds: float) -> None:
        """Let deliveries gather in the socket's buffer for a moment, and read them all at once then.

        Each read costs as much as several messages. Whoever has time until then saves that.
        """
        if self._connection is not None and not self._paused and not self._gathering:
            self._gathering = True
            self._connection.pause_reading()
            asyncio.get_running_loop().call_later(seconds, self._gathered)

    def _gathered(self) -> None:
        self._gathering = False
        if self._connection is not None and not self._paused:
            self._connection.resume_reading()

    def stop_receiving(self) -> list[ReceivedChunk]:
        """Take no more deliveries, while acks and publishes go on; returns the QoS 0 that had arrived."""
        return self._inbox.close()

    async def change(self, subscriptions: Sequence[Subscription]) -> None:
        """Subscribe these from now on, and no others.

        Raises:
            Disconnected: the broker refused one or did not answer, or the connection went; nothing has
                changed.
        """
        await self._filters.change(subscriptions, self._connection)

    async def publish(self, messages: Sequence[Message]) -> None:
        """Publish in order and wait until the broker has acknowledged all.

        Raises:
            Disconnected: not connected, or the connection went before every ack arrived.
            Refused: the broker refused a message; all others were still sent.
            Stop: the connection loop gave up.
        """
        self._raise_if_stopped()
        if self._connection is None or not self._status.connected:
            raise Disconnected(self._status.reason)
        await self._connection.publish(messages)

    def _deliver(self, chunk: ReceivedChunk) -> None:
        self._status.copies += chunk.copies
        if not chunk.deliveries:
            chunk.ack()
            return
        self._newest = chunk
        self._inbox.put(chunk)
        self._pause_if_full()

    def _pause_if_full(self) -> None:
        if self._connection is not None and self._inbox.size_bytes > self._options.max_pending_bytes:
            self._paused = True
            self._connection.pause_reading()

    def _resume(self) -> None:
        self._paused = False
        if self._connection is not None:
            self._connection.resume_reading()

    async def _run(self) -> None:
        try:
            while True:
                await self._keep_one_connection()
        except Stop as error:
            self._give_up(error)
        except Exception as error:  # noqa: BLE001  # a bug here must not end the session unseen
            self._log.exception("session_failed")
            self._give_up(Stop(f"MQTT session failed: {error!r}"))
        finally:
            self._status.connected = False
            self._status.reason = self._status.reason or "closed"

    async def _keep_one_connection(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            connection = await self._open()
            since = loop.time()
            try:
                await self._set_up(connection)
                upgrades = await self._live(connection)
            finally:
                self._leave()
                await connection.close()
        except Disconnected as error:
            self._temper.failed(error)
        else:
            if upgrades:
                return
            self._temper.ended(connection.lost.result(), loop.time() - since)
            if connection.taken_over:
                await self._temper.yield_to_other()
        await asyncio.sleep(self._backoff.next_s())

    async def _open(self) -> Connection:
        if self._status.connections == 0 and not self._temper.complained:
            self._log.info("connecting", driver=self._options.driver)
        connection = await self._opener.open(self._deliver)
        fallback = self._opener.fallback
        if fallback is not None and self._status.driver != connection.driver:
            self._log.warning("protocol_fallback", driver=connection.driver, reason=fallback.reason)
        return connection

    async def _live(self, connection: Connection) -> bool:
        """Wait until the connection is lost, or is to be left for one by MQTT 5; then return True."""
        pause_s = self._options.upgrade_initial_s
        while True:
            # Never the future itself: our cancellation is not its own.
            await asyncio.wait([connection.lost], timeout=pause_s if self._opener.guesses else None)
            if connection.lost.done():
                return False
            asking = asyncio.create_task(self._opener.speaks_mqtt5())
            try:
                either: set[asyncio.Future[Any]] = {connection.lost, asking}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if asking.done() and asking.result():
                    await self._come_to_rest(connection)
                    return True
            finally:
                asking.cancel()
                await asyncio.wait([asking])
            pause_s = min(2 * pause_s, self._options.upgrade_max_s)

    async def _come_to_rest(self, connection: Connection) -> None:
        self._log.info("protocol_upgrade", driver=connection.driver)
        self._status.reason = "changing to MQTT 5"
        self._retire()
        if self._options.subscriptions:
            connection.pause_reading()
        deadline = asyncio.get_running_loop().time() + _QUIET_WITHIN_S
        while asyncio.get_running_loop().time() < deadline and not connection.lost.done():
            if (self._newest is None or self._newest.settled) and not connection.publishing:
                return
            await asyncio.sleep(_QUIET_LOOK_S)

    async def _set_up(self, connection: Connection) -> None:
        options, status = self._options, self._status
        session_lost = status.connections > 0 and not connection.session_present and not options.clean_start
        self._inbox.connection_made(session_present=connection.session_present)
        try:
            async with asyncio.timeout(options.connect_timeout_s):
                await self._filters.apply(connection)
        except TimeoutError as error:
            raise Disconnected("no answer to SUBSCRIBE") from error
        self._connection = connection
        self._pause_if_full()
        status.connected = True
        self._temper.connected()
        status.driver = connection.driver
        status.certificate_ends = connection.certificate_ends
        status.connections += 1
        self._say(connection.terms.short())
        self._log.info(
            "connected",
            driver=connection.driver,
            session_present=connection.session_present,
            **({"address": self._opener.address} if options.others else {}),
        )
        if session_lost:
            status.sessions_lost += 1
            self._log.warning("session_lost", sessions_lost=status.sessions_lost)
        self._ready.set()

    def _say(self, short: dict[str, int | bool]) -> None:
        if short and short != self._short:
            self._log.warning("broker_limits", **short)
        self._short = short

    def _leave(self) -> None:
        self._retire()
        self._inbox.connection_lost()

    def _retire(self) -> None:
        """Take no more publishes; what has arrived can still be received and acknowledged."""
        self._connection = None
        self._paused = False
        self._status.connected = False
        self._ready.clear()

    def _give_up(self, error: Stop) -> None:
        self._stop = error
        self._status.reason = str(error)
        self._log.error("session_stopped", reason=str(error))
        self._ready.set()
        self._inbox.wake()

    def _raise_if_stopped(self) -> None:
        if self._stop is not None:
            raise self._stop
