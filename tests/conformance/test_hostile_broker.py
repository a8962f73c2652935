"""What no real broker does on demand: a little TCP server that breaks the protocol or uses it to the full."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import mqtt5
import pytest

from runtime.errors import Stop
from runtime.mqtt import MqttSession, SessionOptions
from tests.conformance.support import TIMEOUT_S, next_chunk, payloads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.conformance.support import Events

    Behaviour = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

CONNACK = mqtt5.ConnAckPacket().write()
UNSUPPORTED = mqtt5.ConnAckReasonCode.UNSUPPORTED_PROTOCOL_VERSION
BANNED = mqtt5.ConnAckPacket(reason_code=mqtt5.ConnAckReasonCode.BANNED).write()
CONNACK_3 = b"\x20\x02\x00\x00"


def publish_packet(topic: bytes, payload: bytes, packet_id: int, *, qos: int = 1, dup: bool = False) -> bytes:
    """A PUBLISH for MQTT 5 whose topic may be any bytes."""
    body = len(topic).to_bytes(2) + topic + packet_id.to_bytes(2) + b"\x00" + payload
    return bytes([0x30 | qos << 1 | dup << 3, len(body)]) + body


async def until_disconnect(reader: asyncio.StreamReader) -> None:
    """Read until the client has said goodbye or is gone, as a broker does."""
    with contextlib.suppress(asyncio.IncompleteReadError):
        await reader.readuntil(b"\xe0\x00")


@asynccontextmanager
async def talking_to(behave: Behaviour, **options: Any) -> AsyncIterator[MqttSession]:  # noqa: ANN401  # any of the options
    """A session to a server that behaves so on each connection, CONNECT already read."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            connect = await reader.read(1000)
            if connect:
                await behave(connect, reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    options = {"driver": "mqtt5", "backoff_initial_s": 0.01, "backoff_max_s": 0.05, **options}
    async with server, MqttSession(SessionOptions("127.0.0.1", port, "test", **options)) as session:
        yield session


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the codec's panic
async def test_bytes_that_are_no_utf8() -> None:
    """A topic that is no UTF-8 is delivered readable, like its neighbours, and can be acknowledged."""
    answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def behave(_: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        packets = [(b"a/1", b"before", 1), (b"a/\xff\xfe", b"bad", 2), (b"a/3", b"after", 3)]
        writer.write(CONNACK + b"".join(publish_packet(*packet) for packet in packets))
        answered.set_result(await reader.readexactly(12))

    async with talking_to(behave) as session:
        chunk = await next_chunk(session)
        assert [each.topic for each in chunk.deliveries] == ["a/1", r"a/\xff\xfe", "a/3"]
        assert payloads(chunk.deliveries) == [b"before", b"bad", b"after"]
        chunk.ack()
        assert await answered == b"\x40\x02\x00\x01\x40\x02\x00\x02\x40\x02\x00\x03"


async def test_a_repeated_qos2_delivery() -> None:
    """On one connection a QoS 2 message is delivered once, until PUBREL frees its packet id."""
    done = asyncio.Event()

    async def behave(_: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CONNACK + publish_packet(b"t", b"one", 7, qos=2))
        assert await reader.readexactly(4) == b"\x50\x02\x00\x07"
        writer.write(publish_packet(b"t", b"one", 7, qos=2, dup=True) + b"\x62\x02\x00\x07")
        assert await reader.readexactly(4) == b"\x70\x02\x00\x07"
        writer.write(publish_packet(b"t", b"two", 7, qos=2, dup=True))
        assert await reader.readexactly(4) == b"\x50\x02\x00\x07"
        done.set()

    async with talking_to(behave) as session:
        for expected in (b"one", b"two"):
            chunk = await next_chunk(session)
            assert payloads(chunk.deliveries) == [expected]
            chunk.ack()
        await done.wait()


async def test_a_hostile_length(events: Events) -> None:
    """A packet that announces more than the limit ends the connection before it is read, and is told so."""
    told: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def behave(_: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CONNACK + publish_packet(b"t", b"good", 1) + b"\x32\xff\xff\xff\x7f\x00\x01")
        said = await reader.read(100)
        if not told.done():
            told.set_result(said)

    async with talking_to(behave, max_packet_bytes=10_000) as session:
        assert payloads((await next_chunk(session)).deliveries) == [b"good"]
        lost = await events.wait_for("disconnected")
        assert "268435460 bytes" in lost["reason"]
        packet, _ = mqtt5.read(memoryview(await told))
        assert isinstance(packet, mqtt5.DisconnectPacket)
        assert packet.reason_code == mqtt5.DisconnectReasonCode.PACKET_TOO_LARGE


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"\x00\x00", id="no packet type"),
        pytest.param(b"\x30\xff\xff\xff\xff\x01", id="no length"),
        pytest.param(b"\x36\x05\x00\x01tab", id="QoS 3"),
        pytest.param(b"\x20\x03\x00\x00\x00", id="CONNACK again"),
        pytest.param(b"\xc0\x00", id="a packet of clients"),
    ],
)
async def test_garbage(garbage: bytes, events: Events) -> None:
    """Bytes that are no MQTT, and packets a broker must not send, end the connection, not the session."""

    async def behave(_: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CONNACK + garbage)
        await until_disconnect(reader)

    async with talking_to(behave) as session:
        await events.wait_for("connected", 2)
        assert not session.status.taken_over


async def test_taken_over_twice_is_the_end(events: Events) -> None:
    """Told twice within a minute that another client took the id over, a session gives up and says why."""

    async def behave(_: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        code = mqtt5.DisconnectReasonCode.SESSION_TAKEN_OVER
        writer.write(CONNACK + mqtt5.DisconnectPacket(reason_code=code).write())
        await until_disconnect(reader)

    async with talking_to(behave) as session:
        with pytest.raises(Stop, match="'test'"):
            await next_chunk(session)
        assert session.status.taken_over == 2
        assert session.status.connections == 2
        assert "test" in session.status.reason
        for call in (session.connected(), session.publish([])):
            with pytest.raises(Stop):
                await call
    assert len(events.named("session_taken_over")) == 1
    assert len(events.named("session_stopped")) == 1


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"\x20\x02\x00\x01", id="in the words of 3.1.1"),
        pytest.param(b"\x20\x02\x00\x84", id="in words of both"),
        pytest.param(mqtt5.ConnAckPacket(reason_code=UNSUPPORTED).write(), id="in the words of 5"),
        pytest.param(b"", id="without a word"),
    ],
)
async def test_every_way_to_refuse_mqtt_5(answer: bytes, events: Events) -> None:
    """A refusal in words of either version, or a closed connection, makes `auto` try MQTT 3.1.1 at once."""

    async def behave(connect: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        protocol_level = connect[connect.index(b"MQTT") + 4]
        writer.write(CONNACK_3 if protocol_level == 4 else answer)
        if protocol_level == 4:
            await until_disconnect(reader)

    async with talking_to(behave, driver="auto") as session:
        async with asyncio.timeout(TIMEOUT_S):
            await session.connected()
        assert session.status.driver == "mqtt311"
        assert events.named("protocol_fallback")
        assert not events.named("connection_failed")


async def test_other_refusals_do_not_fall_back(events: Events) -> None:
    """A broker that speaks MQTT 5 and refuses for another reason is not asked again in MQTT 3.1.1."""

    async def behave(connect: bytes, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert connect[connect.index(b"MQTT") + 4] == 5
        code = mqtt5.ConnAckReasonCode.BANNED
        writer.write(mqtt5.ConnAckPacket(reason_code=code, reason_str="go away").write())

    async with talking_to(behave, driver="auto") as session:
        failure = await events.wait_for("connection_failed")
        assert failure["reason"] == "refused: banned (0x8a): go away"
        assert session.status.reason == failure["reason"]


async def test_the_broker_decides_on_keepalive_and_expiry(events: Events) -> None:
    """Server Keep Alive replaces ours (MQTT5 §3.2.2.3.14); a session kept shorter than asked for is told."""
    pinged = asyncio.Event()

    async def behave(_: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(mqtt5.ConnAckPacket(server_keep_alive=1, session_expiry_interval=60).write())
        if await reader.readexactly(2) == b"\xc0\x00":
            pinged.set()
        await until_disconnect(reader)

    async with talking_to(behave, keepalive_s=1000):
        async with asyncio.timeout(TIMEOUT_S):
            await pinged.wait()
    assert events.named("broker_limits")[0]["session_expiry_s"] == 60


def speaks_mqtt5(connect: bytes) -> bool:
    """Whether a CONNECT is one of MQTT 5."""
    return connect[connect.index(b"MQTT") + 4] == 5


def is_probe(connect: bytes) -> bool:
    """Whether a CONNECT comes from a client id of its own, used to ask."""
    return b"-probe-" in connect


@pytest.mark.parametrize("silent", [False, True], ids=["closes", "keeps silent"])
async def test_one_silence_is_not_believed(silent: bool, events: Events) -> None:  # noqa: FBT001  # parametrized
    """A balancer that closes the first CONNECT, or never answers it, costs a session nothing."""
    connects: list[bytes] = []

    async def behave(connect: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connects.append(connect)
        if len(connects) > 1:
            writer.write(CONNACK)
        if len(connects) > 1 or silent:
            await until_disconnect(reader)

    async with talking_to(behave, driver="auto", connect_timeout_s=0.5) as session:
        async with asyncio.timeout(TIMEOUT_S):
            await session.connected()
        assert session.status.driver == "mqtt5"
        assert len(connects) == 2
        assert not events.named("protocol_fallback")


@pytest.mark.parametrize("words", [CONNACK, BANNED], ids=["takes the probe", "refuses the probe"])
async def test_a_guess_is_mended_at_rest(words: bytes, events: Events) -> None:
    """A session at MQTT 3.1.1 for a silence changes once MQTT 5 is answered, and after its last ack."""
    up, acked = asyncio.Event(), asyncio.Event()

    async def behave(connect: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not speaks_mqtt5(connect):
            writer.write(CONNACK_3 + b"\x32\x07\x00\x01t\x00\x07hi")
            assert await reader.readexactly(4) == b"\x40\x02\x00\x07"
            acked.set()
            assert await reader.readexactly(2) == b"\xe0\x00"
        elif up.is_set():
            assert acked.is_set() or is_probe(connect)
            writer.write(words if is_probe(connect) else CONNACK)
            await until_disconnect(reader)

    async with talking_to(behave, driver="auto", upgrade_initial_s=0.1) as session:
        chunk = await next_chunk(session)
        assert session.status.driver == "mqtt311"
        up.set()
        await events.wait_for("protocol_upgrade")
        assert not session.status.connected
        chunk.ack()
        await events.wait_for("connected", 2)
        assert session.status.driver == "mqtt5"
        assert not events.named("disconnected")


async def test_a_refusal_in_words_is_believed(events: Events) -> None:
    """A broker that says that it does not take MQTT 5 is asked no more while the connection stands."""
    connects: list[bytes] = []

    async def behave(connect: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connects.append(connect)
        writer.write(
            mqtt5.ConnAckPacket(reason_code=UNSUPPORTED).write() if speaks_mqtt5(connect) else CONNACK_3
        )
        if not speaks_mqtt5(connect):
            await until_disconnect(reader)

    async with talking_to(behave, driver="auto", upgrade_initial_s=0.01) as session:
        await events.wait_for("protocol_fallback")
        async with asyncio.timeout(TIMEOUT_S):
            await session.connected()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):  # what is waited for is that nothing happens
                await events.wait_for("protocol_upgrade")
        assert [speaks_mqtt5(each) for each in connects] == [True, False]


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"\x30\xff\xff\xff\xff\x01", id="no length"),
        pytest.param(b"\x36\x05\x00\x01tab", id="QoS 3"),
        pytest.param(b"\x20\x02\x00\x00", id="CONNACK again"),
        pytest.param(b"\x90\x00", id="SUBACK of nothing"),
        pytest.param(b"\xc0\x00", id="a packet of clients"),
    ],
)
async def test_garbage_in_3_1_1(garbage: bytes, events: Events) -> None:
    """What is no MQTT 3.1.1 ends the connection, not the session."""

    async def behave(_: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CONNACK_3 + garbage)
        await until_disconnect(reader)

    async with talking_to(behave, driver="mqtt311"):
        await events.wait_for("connected", 2)


async def test_what_was_found_out_is_not_found_out_again(events: Events) -> None:
    """A broker that kept silent twice is asked once at a reconnect, before MQTT 3.1.1 is tried."""
    versions: list[int] = []
    again = asyncio.Event()

    async def behave(connect: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        versions.append(5 if speaks_mqtt5(connect) else 4)
        if versions[-1] == 4:
            writer.write(CONNACK_3)
            if len(versions) > 3:
                again.set()
                await until_disconnect(reader)

    async with talking_to(behave, driver="auto"):
        async with asyncio.timeout(TIMEOUT_S):
            await again.wait()
        assert versions == [5, 5, 4, 5, 4]
        assert len(events.named("protocol_fallback")) == 1
