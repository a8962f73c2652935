"""Driver of one connection over aiomqtt and paho: MQTT 3.1.1, for brokers without MQTT 5 and for WebSockets.

aiomqtt keeps the connection; messages go past it, because its iterator takes one per task switch, and past
paho's own bookkeeping, for two reasons that its public functions leave no way around:

- paho answers a QoS 2 PUBLISH with PUBREC before anybody has seen it, and forgets it when the process ends,
  although the broker has handed it over by then. Here PUBREC is the ack of the chunk, as in the other driver.
- paho reads one packet for each time the socket is readable, byte by byte, and writes each ack by itself.
  Here a read takes all there is, and the acks of a chunk are one write.

All that reaches into paho is in `_Paho`. MQTT 3.1.1 gives a client no say in how much is under way to it, nor
in how large a message may be: that is the broker's `max_inflight_messages` and `message_size_limit`, and a
message that is too large for us is left to the decoder, because refusing it would only make the broker
deliver it again.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, TypeVar

import aiomqtt
from aiomqtt.exceptions import MqttConnectError
from paho.mqtt import client as paho
from paho.mqtt.enums import MQTTErrorCode

from runtime.certificates import shown_until
from runtime.mqtt import wire
from runtime.mqtt.connection import ReceivedChunk, Refused, check_granted
from runtime.mqtt.outgoing import Outgoing
from runtime.mqtt.port import Disconnected
from runtime.mqtt.terms import Terms

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Coroutine, Sequence

    from runtime.mqtt.port import Message, SessionOptions, Subscription

_T = TypeVar("_T")

_WINDOW = (
    20  # mosquitto's default max_inflight_messages: beyond it, it drops what a 3.1.1 client sends with QoS 2
)
_READ_BYTES = 65536
_CHUNK_MESSAGES = 1000  # then let others run, although there may be more to read
_CHUNK_BYTES = 1_000_000  # the same for large messages
_CLOSE_TIMEOUT_S = 2.0

_quiet = logging.getLogger("mqtt.paho")  # the session tells of every change of state itself
_quiet.setLevel(logging.CRITICAL)


async def open_aiomqtt(
    options: SessionOptions, deliver: Callable[[ReceivedChunk], None]
) -> AiomqttConnection:
    """Connect and wait until the broker has accepted.

    Cancelling waits for the socket's own connect, up to `connect_timeout_s`: it runs in a thread.

    Raises:
        Disconnected: the broker cannot be reached or refused, which the error names.
    """
    connection = AiomqttConnection(options, deliver)
    try:
        await connection.open()
    except BaseException:
        connection.abort()
        raise
    return connection


class _Paho(paho.Client):
    """paho, reading in large pieces and leaving it to us when a delivery is acknowledged."""

    arrived: list[wire.Publish]
    arrived_bytes: int
    drained: bool
    paused: bool
    unread: bytearray
    unreleased: set[int]

    @classmethod
    def adopt(cls, client: paho.Client) -> _Paho:
        """Make a fresh client one of these; aiomqtt builds it itself."""
        client.__class__ = cls
        assert isinstance(client, cls)
        client.arrived = []
        client.arrived_bytes = 0
        client.drained = True
        client.paused = False
        client.unread = bytearray()
        client.unreleased = set()
        return client

    def write_acks(self, acks: list[int]) -> None:
        """Write acknowledgements, all in one."""
        self._packet_queue(paho.PUBACK, wire.encode_acks(acks), 0, 0)

    def write_disconnect(self) -> None:
        """Write DISCONNECT and leave the socket open."""
        self._packet_queue(0, bytes((paho.DISCONNECT, 0)), 0, 0)

    def close_socket(self) -> None:
        """Close at once, without a word to the broker."""
        self._sock_close()

    def _check_keepalive(self) -> None:
        if self.paused:
            self._ping_t = 0  # its answer waits in the socket with everything else
        super()._check_keepalive()

    def _ssl_wrap_socket(self, tcp_sock: socket.socket) -> ssl.SSLSocket:
        assert self._ssl_context is not None
        wrapped = self._ssl_context.wrap_socket(
            tcp_sock, server_hostname=self._host, do_handshake_on_connect=False
        )
        try:
            wrapped.settimeout(self._connect_timeout)
            wrapped.do_handshake()
        except BaseException:
            wrapped.close()  # paho leaves it open
            raise
        return wrapped

    def _sock_recv(self, bufsize: int) -> bytes:
        if not self.unread:
            try:
                self.unread += super()._sock_recv(_READ_BYTES)
            except BlockingIOError:
                self.drained = True
                raise
        taken = bytes(self.unread[:bufsize])
        del self.unread[:bufsize]
        return taken

    def _handle_publish(self) -> MQTTErrorCode:
        try:
            publish = wire.parse_publish(
                self._in_packet["command"], self._in_packet["packet"], with_properties=False
            )
        except ValueError:
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        if publish.qos == 2:  # noqa: PLR2004  # exactly once
            if publish.duplicate and publish.packet_id in self.unreleased:
                return MQTTErrorCode.MQTT_ERR_SUCCESS
            self.unreleased.add(publish.packet_id)
        self.arrived.append(publish)
        self.arrived_bytes += len(publish.payload)
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _handle_pubrel(self) -> MQTTErrorCode:
        packet_id = int.from_bytes(self._in_packet["packet"][:2])
        self.unreleased.discard(packet_id)
        return self._send_pubcomp(packet_id)


class _Client(aiomqtt.Client):
    """aiomqtt with what the driver needs of its callbacks."""

    session_present = False

    def __init__(
        self, options: SessionOptions, readable: Callable[[], None], published: Callable[[int], None]
    ) -> None:
        super().__init__(
            options.host,
            options.port,
            username=options.username,
            password=options.password,
            identifier=options.client_id,
            protocol=aiomqtt.ProtocolVersion.V311,
            clean_session=options.clean_start or options.session_expiry_s == 0,
            transport=options.transport,
            websocket_path=options.websocket_path,
            keepalive=options.keepalive_s,
            timeout=options.connect_timeout_s,
            max_inflight_messages=0,  # no bound of its own: `Outgoing` keeps the window
            tls_context=options.tls,
            will=_will(options.will),
            logger=_quiet,
        )
        self._client.connect_timeout = options.connect_timeout_s
        self.paho = _Paho.adopt(self._client)
        self._readable = readable
        self._published = published

    @property
    def disconnected(self) -> asyncio.Future[None]:
        """Resolves when the connection is over."""
        return self._disconnected

    def give_up(self, reason: str) -> None:
        """Wait no longer for the broker's answer to CONNECT."""
        if not self._connected.done():
            self._connected.set_exception(aiomqtt.MqttError(reason))

    def _on_connect(self, *args: Any) -> None:  # noqa: ANN401  # passed on as it comes
        self.session_present = args[2].session_present
        super()._on_connect(*args)

    def _on_disconnect(self, *args: Any) -> None:  # noqa: ANN401  # passed on as it comes
        self.give_up("closed without an answer to CONNECT")
        super()._on_disconnect(*args)

    def _on_publish(self, _client: object, _userdata: object, mid: int, *_: object) -> None:
        self._published(mid)

    def _on_socket_open(self, client: paho.Client, userdata: object, sock: paho.SocketLike) -> None:
        super()._on_socket_open(client, userdata, sock)
        self._loop.call_soon_threadsafe(self._loop.add_reader, sock.fileno(), self._readable)

    def _on_socket_register_write(self, client: paho.Client, _: object, sock: paho.SocketLike) -> None:
        def add_writer() -> None:
            if sock.fileno() >= 0:  # it may have been closed since
                self._loop.add_writer(sock.fileno(), client.loop_write)

        self._loop.call_soon_threadsafe(add_writer)


class AiomqttConnection:
    """One connection; see `connection.Connection`."""

    driver = "aiomqtt"
    subscribing_repeats_retained = True
    tells_copies = False
    taken_over = False  # MQTT 3.1.1 does not tell
    terms = Terms()  # nor these

    def __init__(self, options: SessionOptions, deliver: Callable[[ReceivedChunk], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[str] = self._loop.create_future()
        self.session_present = False
        self.certificate_ends: float | None = None
        self._deliver = deliver
        self._client = _Client(options, self._readable, self._on_published)
        self._outgoing = Outgoing(_WINDOW, self._send, lambda: None)

    async def open(self) -> None:
        """Connect; called once."""
        entering = asyncio.ensure_future(self._client.__aenter__())
        try:
            await asyncio.shield(entering)
        except asyncio.CancelledError:
            self._client.give_up("cancelled")
            await asyncio.wait([entering])
            entering.exception()
            raise
        except MqttConnectError as error:
            raise Refused(f"refused: {error.rc!s}".lower()) from error
        except (aiomqtt.MqttError, OSError, ValueError) as error:
            raise Disconnected(f"cannot connect: {error}") from error
        self.session_present = self._client.session_present
        shown = getattr(self._client.paho.socket(), "getpeercert", None)  # a WebSocket hides it
        self.certificate_ends = shown_until(shown()) if shown else None
        self._client.disconnected.add_done_callback(self._on_disconnected)

    async def subscribe(self, subscriptions: Sequence[Subscription]) -> list[int]:
        """Subscribe; the broker sends what it retains once more."""
        filters: list[tuple[str, int]] = [(each.topic_filter, each.qos) for each in subscriptions]
        codes = await self._request(self._client.subscribe(filters))
        answers = [(code if isinstance(code, int) else code.value, str(code).lower()) for code in codes]
        return check_granted(subscriptions, answers)

    async def unsubscribe(self, topic_filters: Sequence[str]) -> None:
        """Unsubscribe."""
        await self._request(self._client.unsubscribe(list(topic_filters)))

    async def publish(self, messages: Sequence[Message]) -> None:
        """Publish; MQTT 3.1.1 has no user properties and no refusals."""
        await self._outgoing.publish(messages)

    @property
    def publishing(self) -> bool:
        """Whether a publish is not settled yet."""
        return self._outgoing.busy

    def pause_reading(self) -> None:
        """Let the socket's buffer fill, which holds the broker back."""
        client = self._client.paho
        if not client.paused and not self.lost.done():
            client.paused = True
            self._loop.remove_reader(self._fileno())

    def resume_reading(self) -> None:
        """Read again, what paho has read already included."""
        client = self._client.paho
        if client.paused and not self.lost.done():
            client.paused = False
            self._loop.add_reader(self._fileno(), self._readable)
            self._loop.call_soon(self._readable)

    async def close(self) -> None:
        """Send DISCONNECT behind what is still to be written, and wait until the broker closes.

        paho would close at once, which can drop our last acks on their way, as the other driver explains.
        """
        try:
            if not self.lost.done():
                self._end("closed")
                self._client.paho.write_disconnect()
                await asyncio.wait([self._client.disconnected], timeout=_CLOSE_TIMEOUT_S)
        finally:
            self.abort()

    def abort(self) -> None:
        """Close at once."""
        self._end("aborted")
        self._client.paho.close_socket()

    async def _request(self, answer: Coroutine[Any, Any, _T]) -> _T:
        task = asyncio.ensure_future(answer)
        either: set[asyncio.Future[Any]] = {task, self.lost}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
        except (aiomqtt.MqttError, ValueError) as error:
            raise Disconnected(str(error)) from error
        finally:
            task.cancel()
        raise Disconnected(self.lost.result())

    def _readable(self) -> None:
        client = self._client.paho
        client.drained = False
        while not (
            client.drained
            or client.paused
            or len(client.arrived) >= _CHUNK_MESSAGES
            or client.arrived_bytes >= _CHUNK_BYTES
        ):
            if client.loop_read() != MQTTErrorCode.MQTT_ERR_SUCCESS:
                break
        else:
            if not client.drained and not client.paused:
                self._loop.call_soon(self._readable)
        if client.arrived:
            deliveries, client.arrived, client.arrived_bytes = client.arrived, [], 0
            self._deliver(ReceivedChunk(deliveries, self._write_acks))

    def _fileno(self) -> int:
        sock = self._client.paho.socket()
        assert sock is not None
        return sock.fileno()

    def _write_acks(self, acks: list[int]) -> None:
        if not self.lost.done():
            self._client.paho.write_acks(acks)

    def _send(self, message: Message) -> int:
        return self._client.paho.publish(message.topic, message.payload, message.qos, message.retain).mid

    def _on_published(self, packet_id: int) -> None:
        self._outgoing.acknowledge(packet_id)
        self._loop.call_soon(self._outgoing.pump)

    def _on_disconnected(self, disconnected: asyncio.Future[None]) -> None:
        error = None if disconnected.cancelled() else disconnected.exception()
        self._end(f"connection lost: {error}" if error else "closed")

    def _end(self, reason: str) -> None:
        if not self.lost.done():
            self.lost.set_result(reason)
            self._outgoing.fail(reason)


def _will(message: Message | None) -> aiomqtt.Will | None:
    if message is None:
        return None
    return aiomqtt.Will(message.topic, message.payload, message.qos, message.retain)
