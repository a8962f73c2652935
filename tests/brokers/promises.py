"""What a broker promises, asked for one by one; each answer is what was seen."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.brokers.client import WEEK_S, Client, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.brokers.broker import Broker

_WAITING: Final = 20_000
_UNACKED: Final = 100
_KILLED: Final = 1000
_SHARED: Final = 200
_LATE_S: Final = 45.0
_DROPS: Final = "$SYS/broker/publish/messages/dropped"


class Answer(NamedTuple):
    """What was seen of one promise.

    Attributes:
        text: in a few words, for a cell of the table.
        holds: whether it is all that a gateway wants.
    """

    text: str
    holds: bool


def protocol(broker: Broker) -> Answer:
    """MQTT 5, which has session expiry, flow control and reasons?"""
    return Answer("5" if broker.speaks_5 else "3.1.1", broker.speaks_5)


def session_expiry(broker: Broker) -> Answer:
    """Is a session kept for the week that is asked for?"""
    if not broker.speaks_5:
        return Answer("not told (3.1.1)", holds=True)
    client = _client(broker)
    client.connect()
    granted = client.granted.get("SessionExpiryInterval", WEEK_S)
    client.disconnect()
    return Answer("as asked" if granted >= WEEK_S else f"lowered to {granted} s", granted >= WEEK_S)


def limits(broker: Broker) -> Answer:
    """Quality of service, size of packets and messages under way that it announces."""
    client = _client(broker)
    client.connect()
    qos = client.subscribe(_topic(), 2)
    client.disconnect()
    said = [f"QoS {min(qos, client.granted.get('MaximumQoS', 2))}"]
    if (most := client.granted.get("MaximumPacketSize")) is not None:
        said.append(f"{most:,} bytes")
    if (inflight := client.granted.get("ReceiveMaximum")) is not None:
        said.append(f"{inflight:,} under way")
    return Answer(", ".join(said), qos >= 1)


def waits(broker: Broker) -> Answer:
    """Does everything that was acknowledged wait for a session whose client is away, in order?"""
    topic, session = _topic(), _session()
    _away(broker, topic, session)
    sent = _publish(broker, topic, _WAITING)
    got = _back(broker, session, sent)
    text = f"{len(set(got)):,} of {sent:,}"
    in_order = got == sorted(got)
    return Answer(text if in_order else f"{text}, out of order", len(set(got)) >= sent and in_order)


def comes_again(broker: Broker) -> Answer:
    """Does what was not acknowledged come again at the next connection, in order, and marked?"""
    topic, session = _topic(), _session()
    first = _client(broker, session, acks=False)
    first.connect()
    first.subscribe(topic)
    sent = _publish(broker, topic, _UNACKED)
    first.wait_for(sent)
    seen = len(first.received)
    first.drop()
    again = _client(broker, session)
    again.connect()
    began = time.monotonic()
    again.wait_for(1, _LATE_S)
    late_s = time.monotonic() - began
    again.wait_for(sent)
    again.disconnect()
    numbers = [int(each.payload) for each in again.received]
    marked = sum(each.is_repeat for each in again.received)
    text = f"{len(set(numbers))} of {sent}"
    if numbers != sorted(numbers):
        text += ", out of order"
    if late_s > 1 and numbers:
        text += f", after {late_s:.0f} s"
    if marked < min(seen, len(numbers)):
        text += f", {marked} marked DUP"
    return Answer(text, len(set(numbers)) >= sent and numbers == sorted(numbers))


def survives_a_kill(broker: Broker) -> Answer:
    """Is what it acknowledged still there when it is killed at once?"""
    topic, session = _topic(), _session()
    _away(broker, topic, session)
    sent = _publish(broker, topic, _KILLED)
    broker.kill()
    got = set(_back(broker, session, sent))
    return Answer(f"{len(got):,} of {sent:,}", len(got) >= sent)


def shares(broker: Broker) -> Answer:
    """`$share`: does one member get each message, and another those that a dead one did not acknowledge?"""
    topic, group = _topic(), _session()
    members = [_client(broker, _session(), acks=not silent) for silent in (False, True)]
    try:
        for member in members:
            member.connect()
            member.subscribe(f"$share/{group}/{topic}")
    except RefusedError:
        return Answer("no", holds=False)
    sent = _publish(broker, topic, _SHARED)
    alive, silent = members
    alive.wait_for(sent, 5)
    total = len(alive.received) + len(silent.received)
    silent.drop()
    alive.wait_for(sent, 10)
    alive.disconnect()
    if total == 0:
        return Answer("no: nothing comes", holds=False)
    if total > sent:
        return Answer("no: each member gets all", holds=False)
    got = len({each.payload for each in alive.received})
    return Answer("yes" if got >= sent else f"yes; a dead member keeps {sent - got} of {sent}", got >= sent)


def counts_drops(broker: Broker) -> Answer:
    """Is the count of dropped messages published under `$SYS`?"""
    client = _client(broker)
    client.connect()
    try:
        client.subscribe(_DROPS)
    except RefusedError:
        return Answer("no", holds=False)
    client.wait_for(1, 12)
    client.disconnect()
    return Answer("yes" if client.received else "no", bool(client.received))


PROMISES: Final[dict[str, Callable[[Broker], Answer]]] = {
    "MQTT": protocol,
    "session for a week": session_expiry,
    "announces": limits,
    f"{_WAITING:,} wait for who is away": waits,
    "unacknowledged comes again": comes_again,
    "acknowledged, then killed": survives_a_kill,
    "`$share`": shares,
    "`$SYS` counts drops": counts_drops,
}
"""By the heading of its column."""


def _client(broker: Broker, session: str | None = None, *, acks: bool = True) -> Client:
    return Client(broker.port, session or _session(), speaks_5=broker.speaks_5, acks=acks)


def _topic() -> str:
    return f"promise/{uuid.uuid4().hex[:12]}"


def _session() -> str:
    return f"s{uuid.uuid4().hex[:12]}"


def _away(broker: Broker, topic: str, session: str) -> None:
    """A session that has subscribed, whose client has left."""
    client = _client(broker, session)
    client.connect()
    client.subscribe(topic)
    client.disconnect()


def _publish(broker: Broker, topic: str, count: int) -> int:
    """Publish numbers; how many of them were acknowledged."""
    client = Client(broker.port, _session(), speaks_5=broker.speaks_5, clean=True, inflight=broker.inflight)
    client.connect()
    acked = client.publish(topic, [b"%08d" % n for n in range(count)])
    client.disconnect()
    return acked


def _back(broker: Broker, session: str, count: int) -> list[int]:
    """The session's client comes back: the numbers that it gets."""
    client = _client(broker, session)
    client.insist()
    client.wait_for(count, 20)
    client.disconnect()
    return [int(each.payload) for each in client.received]
