"""What every connection over a socket of ours does, whichever version of MQTT it speaks.

Made for rate: one read of the socket becomes one chunk, one chunk's acks are one write, and a message costs
no object but its own. A version adds its words: CONNECT and what answers it, SUBSCRIBE, PUBLISH
(`mqtt5`, `mqtt311`).

Quality of service 2: PUBREC is sent when the chunk is acknowledged, because it takes the message over
(MQTT-4.3.3-2); until then the broker keeps it. A repetition on the same connection is recognised by its
identifier; after a reconnect it is delivered again, because a broker that came back from an older state uses
identifiers anew, and a message passed over by mistake would be lost, while one stored twice is recognised by
its key.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, cast

from runtime.certificates import shown_until
from runtime.mqtt import wire
from runtime.mqtt.connection import ReceivedChunk
from runtime.mqtt.outgoing import Outgoing
from runtime.mqtt.port import Disconnected
from runtime.mqtt.pulse import Pulse
from runtime.mqtt.terms import Terms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runtime.mqtt.port import Message, SessionOptions

C = TypeVar("C", bound="StreamConnection")

REQUEST_ID: Final = 65535  # of SUBSCRIBE and UNSUBSCRIBE, which go one at a time; publishes use those below
_PINGREQ: Final = b"\xc0\x00"
_DISCONNECT: Final = b"\xe0\x00"
_FLUSH_BYTES = 65536
_CLOSE_TIMEOUT_S = 2.0


class Reader(Protocol):
    """From bytes to packets, incomplete ones kept for the next read."""

    def feed(self, data: bytes, packets: list[Any]) -> None:
        """Append the packets that the data completes; a PUBLISH comes out as `wire.Publish`.

        Raises:
            ValueError: nothing after the packets appended can be read.
        """


async def open_stream(connection: C, options: SessionOptions) -> C:
    """Connect and wait until the broker has accepted.

    Raises:
        NotMqtt5: the broker does not take the version.
        Disconnected: it cannot be reached, or it refused for another reason, which the error names.
    """
    loop = asyncio.get_running_loop()
    refusal: type[Disconnected] = Disconnected
    given = False
    try:
        async with asyncio.timeout(options.connect_timeout_s):
            await loop.create_connection(
                lambda: connection,
                options.host,  # looked up anew for each connection
                options.port,
                ssl=options.tls,
                server_hostname=options.tls_server_name if options.tls else None,
            )
            refusal = connection.silence
            await connection.accepted
        given = True
    except TimeoutError as error:
        raise refusal(f"no answer within {options.connect_timeout_s:g} s") from error
    except OSError as error:
        raise Disconnected(f"cannot connect: {error}") from error
    finally:
        if not given:  # also when whoever waits is cancelled in the moment in which the broker accepts
            connection.abort()
    return connection


class StreamConnection(asyncio.Protocol):
    """One connection; see `connection.Connection`.

    Attributes:
        accepted: resolves when the broker has accepted the connection, or raises `Disconnected`.
        open: whether it has and the connection still stands.
        silence: what it means when CONNECT is not answered.
    """

    driver = ""
    subscribing_repeats_retained = False
    taken_over = False
    certificate_ends: float | None = None
    terms = Terms()
    silence: type[Disconnected] = Disconnected

    def __init__(
        self,
        options: SessionOptions,
        deliver: Callable[[ReceivedChunk], None],
        *,
        reader: Reader,
        window: int,
    ) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self.session_present = False
        self.open = False
        self.accepted: asyncio.Future[None] = loop.create_future()
        self.accepted.add_done_callback(_retrieve)  # nobody awaits it when the socket does not even open
        self.lost: asyncio.Future[str] = loop.create_future()
        self._gone = asyncio.Event()
        self._options = options
        self._deliver = deliver
        self._transport: asyncio.Transport | None = None
        self._reader = reader
        self._unreleased: set[int] = set()
        self._answer: asyncio.Future[list[tuple[int, str]]] | None = None
        self._pulse = Pulse(options.keepalive_s, self._ping, self._dead)
        self._last_id = 0
        self._acks: list[int] = []
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._outgoing = Outgoing(window, self._send, self._flush)

    def connect_packet(self) -> bytes:
        """CONNECT."""
        raise NotImplementedError

    def publish_packet(self, message: Message, packet_id: int) -> bytes:
        """PUBLISH; `packet_id` is 0 for QoS 0.

        Raises:
            ValueError: the broker would not take it.
        """
        raise NotImplementedError

    def handle(self, packet: Any) -> None:  # noqa: ANN401  # a packet of the version's codec
        """Act on a packet that is no PUBLISH."""
        raise NotImplementedError

    def goodbye(self, error: ValueError) -> bytes:  # noqa: ARG002  # MQTT 3.1.1 has no words for it
        """What to tell the broker before the connection is closed because of what it sent."""
        return b""

    async def publish(self, messages: Sequence[Message]) -> None:
        """Publish within the broker's window."""
        await self._outgoing.publish(messages)

    @property
    def publishing(self) -> bool:
        """Whether a publish is not settled yet."""
        return self._outgoing.busy

    def pause_reading(self) -> None:
        """Let the socket's buffer fill, which holds the broker back."""
        if self._transport is not None and not self._pulse.deaf and not self.lost.done():
            self._pulse.deaf = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if self._transport is not None and self._pulse.deaf and not self.lost.done():
            self._pulse.deaf = False
            self._pulse.heard()
            self._transport.resume_reading()

    async def close(self) -> None:
        """Send DISCONNECT, which leaves the session at the broker, and wait until the broker closes.

        Closing here would drop our last acks: what the broker still sends would be answered with a reset, and
        a reset discards what it has not read yet.
        """
        self._flush_acks()
        if self._transport is not None and self.open:
            self._transport.write(_DISCONNECT)
            if self._pulse.deaf:
                self._transport.resume_reading()  # or the broker's end is never read
        self.end("closed")
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                    await self._gone.wait()
        finally:
            self.abort()

    def abort(self) -> None:
        """Close at once; what is not written yet is dropped."""
        self.end("aborted")
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send CONNECT."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        self.certificate_ends = shown_until(transport.get_extra_info("peercert"))
        self._transport.write(self.connect_packet())

    def connection_lost(self, exc: Exception | None) -> None:
        """Say why the connection is over."""
        self._gone.set()
        if not self.accepted.done() and (exc is None or isinstance(exc, ConnectionError)):
            self.accepted.set_exception(self.silence("closed without an answer to CONNECT"))
        self.end(f"connection lost: {exc}" if exc else "closed by the broker")

    def pause_writing(self) -> None:
        """The transport's buffer is full: publish no more for now."""
        self._outgoing.pause()

    def resume_writing(self) -> None:
        """The transport's buffer has emptied."""
        self._outgoing.resume()

    def data_received(self, data: bytes) -> None:
        """Take every packet that is complete, and deliver the messages among them as one chunk."""
        self._pulse.heard()
        if self.lost.done():
            return
        packets: list[Any] = []
        try:
            self._reader.feed(data, packets)
        except ValueError as error:
            self._take(packets)
            self.break_off(str(error), self.goodbye(error))
        else:
            self._take(packets)
            self._outgoing.pump()

    def _take(self, packets: list[Any]) -> None:
        deliveries = []
        for packet in packets:
            if type(packet) is not wire.Publish:
                self.handle(packet)
            elif packet.qos < 2:  # noqa: PLR2004  # exactly once
                deliveries.append(packet)
            elif not (packet.duplicate and packet.packet_id in self._unreleased):
                self._unreleased.add(packet.packet_id)
                deliveries.append(packet)
        if deliveries:
            self.deliver(deliveries)

    def deliver(self, deliveries: list[wire.Publish]) -> None:
        """Hand a chunk over."""
        self._deliver(ReceivedChunk(deliveries, self.write_acks))

    def accept(self) -> None:
        """The broker has taken CONNECT."""
        if self.accepted.done():  # nobody waits for it any more
            return
        self.open = True
        self.accepted.set_result(None)
        self._pulse.start()

    def refuse(self, refusal: Disconnected) -> None:
        """The broker has not taken CONNECT."""
        if not self.accepted.done():
            self.accepted.set_exception(refusal)
        self.end("refused")

    def acknowledge(self, packet_id: int, refusal: str = "") -> None:
        """Settle a publish: PUBACK or PUBCOMP."""
        self._outgoing.acknowledge(packet_id, refusal)

    def release(self, packet_id: int) -> None:
        """Answer PUBREL: the packet identifier is free again."""
        self._unreleased.discard(packet_id)
        self.write_acks([wire.PUBCOMP | packet_id])

    def answer(self, codes: list[tuple[int, str]]) -> None:
        """What SUBACK or UNSUBACK says."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(codes)

    async def request(self, packet: bytes) -> list[tuple[int, str]]:
        """Send SUBSCRIBE or UNSUBSCRIBE and wait for the answer.

        Raises:
            Disconnected: the connection went meanwhile.
        """
        if self._transport is None or self.lost.done():
            raise Disconnected(self.lost.result())
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(packet)
        return await self._answer

    def write_acks(self, acks: list[int]) -> None:
        """Write acknowledgements; all of one turn of the loop in one, since each write is a system call."""
        if not self._acks:
            self._loop.call_soon(self._flush_acks)
        self._acks += acks

    def _flush_acks(self) -> None:
        acks, self._acks = self._acks, []
        if acks and self._transport is not None and not self.lost.done():
            self._transport.write(wire.encode_acks(acks))

    def break_off(self, reason: str, last_words: bytes = b"") -> None:
        """End the connection because of what the broker sent."""
        self._flush_acks()
        if self._transport is not None and not self.lost.done():
            if self.open and last_words:
                self._transport.write(last_words)
            self.end(reason)
            self._transport.close()

    def end(self, reason: str) -> None:
        """The connection is over."""
        if self.lost.done():
            return
        self.open = False
        self.lost.set_result(reason)
        self._pulse.stop()
        if not self.accepted.done():
            self.accepted.set_exception(Disconnected(reason))
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Disconnected(reason))
        self._outgoing.fail(reason)

    def _send(self, message: Message) -> int:
        message = self.terms.fit(message)
        packet_id = self._free_id() if message.qos else 0
        packet = self.publish_packet(message, packet_id)
        self._out.append(packet)
        self._out_bytes += len(packet)
        if self._out_bytes >= _FLUSH_BYTES:
            self._flush()
        return packet_id

    def _free_id(self) -> int:
        while True:
            self._last_id = self._last_id % (REQUEST_ID - 1) + 1
            if self._last_id not in self._outgoing:
                return self._last_id

    def _flush(self) -> None:
        if self._out and self._transport is not None:
            packets, self._out, self._out_bytes = self._out, [], 0
            self._transport.write(b"".join(packets))

    def _ping(self) -> None:
        if self._transport is not None:
            self._transport.write(_PINGREQ)

    def _dead(self, reason: str) -> None:
        self.end(reason)
        self.abort()


def _retrieve(future: asyncio.Future[None]) -> None:
    if not future.cancelled():
        future.exception()
