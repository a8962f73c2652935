"""The queues of a session: what waits for `receive`, what waits for the broker, and how long to back off."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.backoff import Backoff
from runtime.errors import Reject
from runtime.mqtt import Disconnected, Message
from runtime.mqtt.connection import ReceivedChunk
from runtime.mqtt.inbox import Inbox
from runtime.mqtt.mqtt5 import Mqtt5Connection
from runtime.mqtt.mqtt311 import Mqtt311Connection
from runtime.mqtt.outgoing import Outgoing
from runtime.mqtt.port import SessionOptions, SessionStatus
from runtime.mqtt.stream import open_stream
from runtime.mqtt.wire import Publish

mixed = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), max_size=12)


def chunk_of(first: int, qualities: list[int], written: list[int]) -> ReceivedChunk:
    deliveries = [
        Publish(
            topic="t", payload=b"%d" % n, qos=qos, retain=False, duplicate=False, packet_id=n if qos else 0
        )
        for n, qos in enumerate(qualities, first)
    ]
    return ReceivedChunk(deliveries, written.extend)


def drain(inbox: Inbox) -> list[Publish]:
    taken = []
    while (chunk := inbox.take()) is not None:
        taken += chunk.deliveries
        chunk.ack()
    return taken


@given(mixed, st.integers(0, 10))
def test_only_the_oldest_qos0_is_dropped(chunks: list[list[int]], limit: int) -> None:
    """All of QoS 1 and 2 and the newest QoS 0 up to the limit remain, in order; the others are counted."""
    status, written = SessionStatus(), list[int]()
    inbox = Inbox(limit, status)
    first = 1
    for qualities in chunks:
        inbox.put(chunk_of(first, qualities, written))
        first += len(qualities)
    qos0 = [n for n, qos in enumerate((q for each in chunks for q in each), 1) if not qos]
    taken = drain(inbox)
    numbers = [int(each.payload) for each in taken]
    assert numbers == sorted(numbers)
    assert [int(each.payload) for each in taken if not each.qos] == (qos0[-limit:] if limit else [])
    assert status.dropped_qos0 == max(0, len(qos0) - limit)
    assert len([each for each in taken if each.qos]) == first - 1 - len(qos0)
    assert [ack & 0xFFFF for ack in written] == [each.packet_id for each in taken if each.qos]


@given(mixed, st.booleans())
def test_a_lost_connection(chunks: list[list[int]], session_present: bool) -> None:  # noqa: FBT001  # drawn
    """QoS 0 stays; the rest comes back from the broker, or from here when the broker lost the session."""
    inbox = Inbox(1000, SessionStatus())
    first = 1
    for qualities in chunks:
        inbox.put(chunk_of(first, qualities, []))
        first += len(qualities)
    inbox.connection_lost()
    inbox.connection_lost()
    inbox.connection_made(session_present=session_present)
    taken = drain(inbox)
    qualities = [qos for each in chunks for qos in each]
    assert len([each for each in taken if not each.qos]) == qualities.count(0)
    expected = 0 if session_present else len(qualities) - qualities.count(0)
    assert len([each for each in taken if each.qos]) == expected


def test_a_closed_inbox_takes_nothing() -> None:
    """`close` leaves to the broker what needs an ack and hands out the rest; QoS 0 after it is a drop."""
    status, written = SessionStatus(), list[int]()
    inbox = Inbox(1000, status)
    inbox.put(chunk_of(1, [0, 1], written))
    left = inbox.close()
    assert [int(each.payload) for chunk in left for each in chunk.deliveries] == [1]
    inbox.put(chunk_of(3, [0, 0, 2], written))
    assert inbox.take() is None
    assert status.dropped_qos0 == 2
    assert inbox.size_bytes == 0
    assert written == []


class Wire:
    """A connection that only counts."""

    def __init__(self, window: int) -> None:
        self.sent: list[bytes] = []
        self.most = 0
        self.outgoing = Outgoing(window, self.send, lambda: None)
        self.open: list[int] = []

    def send(self, message: Message) -> int:
        if message.topic == "bad":
            raise ValueError("no such topic")
        self.sent.append(message.payload)
        if not message.qos:
            return 0
        self.open.append(len(self.sent))
        self.most = max(self.most, len(self.open))
        return len(self.sent)

    def acknowledge_all(self, refusal: str = "") -> None:
        acked, self.open = self.open, []
        for packet_id in acked:
            self.outgoing.acknowledge(packet_id, refusal)
        self.outgoing.pump()


async def test_the_window_is_never_exceeded() -> None:
    """No more messages are unacknowledged than the window; all are sent in order."""
    wire = Wire(window=3)
    publishing = asyncio.create_task(wire.outgoing.publish([Message("t", b"%d" % n) for n in range(10)]))
    await asyncio.sleep(0)
    while not publishing.done():
        assert len(wire.open) <= 3
        wire.acknowledge_all()
        await asyncio.sleep(0)
    assert wire.most == 3
    assert wire.sent == [b"%d" % n for n in range(10)]


async def test_refusals_are_collected() -> None:
    """A message that cannot be sent and one the broker refuses are told together; the rest goes out."""
    wire = Wire(window=3)
    batch = [Message("t", b"1"), Message("bad", b"2"), Message("t", b"3", qos=0)]
    publishing = asyncio.create_task(wire.outgoing.publish(batch))
    await asyncio.sleep(0)
    wire.acknowledge_all("quota exceeded")
    with pytest.raises(Reject, match=r"no such topic \(and 1 more\)"):
        await publishing
    assert wire.sent == [b"1", b"3"]


async def test_a_lost_connection_tells_what_was_acknowledged() -> None:
    """Each caller learns how many of its own messages the broker had acknowledged, and later ones none."""
    wire = Wire(window=2)
    calls = [asyncio.create_task(wire.outgoing.publish([Message("t", b"")] * 3)) for _ in range(2)]
    await asyncio.sleep(0)
    wire.acknowledge_all()
    wire.outgoing.fail("gone")
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [each.acknowledged for each in results if isinstance(each, Disconnected)] == [2, 0]
    with pytest.raises(Disconnected, match="gone"):
        await wire.outgoing.publish([Message("t", b"")])


async def test_a_cancelled_caller_is_forgotten() -> None:
    """What a cancelled caller had not sent is not sent, and its acks are not missed."""
    wire = Wire(window=1)
    first = asyncio.create_task(wire.outgoing.publish([Message("t", b"%d" % n) for n in range(5)]))
    second = asyncio.create_task(wire.outgoing.publish([Message("t", b"other")]))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    wire.acknowledge_all()
    wire.acknowledge_all()
    await second
    assert wire.sent == [b"0", b"other"]


@given(st.floats(0.01, 10), st.floats(0.01, 100))
def test_backoff_is_bounded_and_begins_anew(initial: float, maximum: float) -> None:
    """Every wait lies between half the first one and the maximum; after a reset waits are short again."""
    backoff = Backoff(initial, maximum)
    waits = [backoff.next_s() for _ in range(20)]
    assert all(min(initial / 2, maximum) <= wait <= maximum for wait in waits)
    backoff.reset()
    assert backoff.next_s() <= min(initial, maximum)


@pytest.mark.parametrize("cancelled_first", [True, False], ids=["cancelled first", "accepted first"])
@pytest.mark.parametrize(
    ("make", "connack"),
    [
        pytest.param(Mqtt5Connection, b"\x20\x03\x00\x00\x00", id="mqtt5"),
        pytest.param(Mqtt311Connection, b"\x20\x02\x00\x00", id="mqtt311"),
    ],
)
async def test_left_while_the_broker_accepts(
    make: type[Mqtt5Connection | Mqtt311Connection], connack: bytes, *, cancelled_first: bool
) -> None:
    """Who gives up in the very moment in which the broker accepts leaves no connection behind."""
    made, left = asyncio.Event(), asyncio.Event()

    async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.set()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        left.set()

    async with await asyncio.start_server(broker, "127.0.0.1") as server:
        options = SessionOptions("127.0.0.1", server.sockets[0].getsockname()[1], "x")
        connection = make(options, lambda _: None)
        opening = asyncio.create_task(open_stream(connection, options))
        await made.wait()
        if cancelled_first:
            opening.cancel()
            connection.data_received(connack)
        else:
            connection.data_received(connack)
            opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        assert connection.lost.done()
        async with asyncio.timeout(10):
            await left.wait()
