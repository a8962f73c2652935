"""What the rest of the house knows of MQTT: one session, whichever driver carries it.

A *session* outlives its network connections. It connects, subscribes, reconnects with backoff and tells its
state; a *chunk* is what one read of the socket brought, and carries its own acknowledgement. The broker is
authoritative for what is unacknowledged: whatever was not acked on the connection that delivered it will be
delivered again.

- `Chunk.ack()` acknowledges on the connection that delivered the chunk and on no other: packet identifiers
  are per connection, so a late ack on a new connection could acknowledge a different message. When the
  connection is gone the call does nothing, because the broker delivers again.
- Chunks must be acknowledged in the order in which `Session.receive` returned them (MQTT-4.6.0-2); inside a
  chunk the driver keeps the order.
- QoS 0 needs no ack; when more of it waits than `max_pending_messages`, the oldest is dropped and counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, Self

from runtime.errors import Reject, Retry

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

DriverName = Literal["auto", "mqtt5", "mqtt311", "aiomqtt"]
Qos = Literal[0, 1, 2]


class Delivery(Protocol):
    """One application message as the broker delivered it, read only."""

    @property
    def topic(self) -> str:
        """Topic name, without wildcards."""

    @property
    def payload(self) -> bytes:
        """The bytes as they came."""

    @property
    def qos(self) -> int:
        """0, 1 or 2: the quality of service of this delivery."""

    @property
    def retain(self) -> bool:
        """Whether it is a copy of what the broker had kept, for a new subscription; nothing live is."""

    @property
    def duplicate(self) -> bool:
        """Whether the broker marks it as a repeated attempt (DUP)."""

    @property
    def user_properties(self) -> Sequence[tuple[str, str]]:
        """MQTT 5 user properties in order; empty with a driver or a broker that has none."""


class Chunk(Protocol):
    """Deliveries that arrived together, with their acknowledgement."""

    @property
    def deliveries(self) -> Sequence[Delivery]:
        """At least one delivery, in order of arrival."""

    @property
    def size_bytes(self) -> int:
        """What the deliveries take, about."""

    def ack(self) -> None:
        """Acknowledge every QoS 1 and 2 delivery of the chunk in one write, where it came from.

        Idempotent. Does nothing when that connection is gone.
        """


@dataclass(frozen=True, slots=True)
class Message:
    """One application message to publish."""

    topic: str
    payload: bytes
    qos: Qos = 1
    retain: bool = False
    user_properties: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Subscription:
    """One topic filter with the maximum quality of service asked for.

    Attributes:
        overlaps: whether another filter beside it matches some of the same topics, so that the broker may
            send a message several times.
    """

    topic_filter: str
    qos: Qos = 1
    overlaps: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """How to reach a broker and what session to keep there.

    Attributes:
        session_expiry_s: how long the broker keeps the session after a disconnect, in seconds. MQTT 3.1.1
            knows only 0 (clean session) and for ever.
        receive_maximum: unacknowledged QoS 1 and 2 deliveries the broker may have under way to us (MQTT5
            §3.1.2.11.3).
        max_pending_messages: QoS 0 deliveries held for `receive` before the oldest is dropped.
        max_pending_bytes: of deliveries held for `receive` before reading stops until half of them are taken.
        known: what this client id subscribed when it last ran. When the broker still has that session, what
            is no longer wanted is unsubscribed, and on MQTT 3.1.1 the rest is not subscribed again, because
            that would bring the retained messages again.
        password: read anew for every connection if it came from a file (`runtime.secret`).
        others: further addresses of the same broker, tried in turn when one does not answer or refuses.
        tls_server_name: whose certificate it has to show; None: that of the address.
        tls: a ready SSL context, or None for plain TCP.
        make_tls: makes `tls` anew for every connection, from files that may have changed.
        will: what the broker publishes when the connection ends without a word.
        make_will: makes `will` anew for every connection.
        transport: `websockets` needs the `aiomqtt` driver.
        upgrade_initial_s: how long after a fallback that rests on a silence the broker is asked for MQTT 5
            again; doubled each time, up to `upgrade_max_s`.
    """

    host: str
    port: int
    client_id: str
    driver: DriverName = "auto"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    others: tuple[tuple[str, int], ...] = ()
    tls_server_name: str | None = None
    tls: ssl.SSLContext | None = None
    make_tls: Callable[[], ssl.SSLContext | None] | None = None
    will: Message | None = None
    make_will: Callable[[], Message | None] | None = None
    transport: Literal["tcp", "websockets"] = "tcp"
    websocket_path: str = "/mqtt"
    keepalive_s: int = 30
    connect_timeout_s: float = 10.0
    clean_start: bool = False
    session_expiry_s: int = 7 * 24 * 3600
    receive_maximum: int = 3000
    max_packet_bytes: int = 2_000_000
    max_pending_messages: int = 20_000
    max_pending_bytes: int = 32_000_000
    subscriptions: tuple[Subscription, ...] = ()
    known: tuple[Subscription, ...] = ()
    backoff_initial_s: float = 0.2
    backoff_max_s: float = 15.0
    upgrade_initial_s: float = 60.0
    upgrade_max_s: float = 3600.0


@dataclass(slots=True)
class SessionStatus:
    """What is known of the session now, for readiness, metrics and logs. Written by the session alone.

    Attributes:
        reason: why it is not connected, in one line; empty while it is.
        refused: whether the reason is the broker's word against us or a filter, not its absence.
        driver: the driver in use (`mqtt5`, `mqtt311` or `aiomqtt`); empty before the first connection.
        connections: how many connections have been established so far.
        sessions_lost: reconnects at which the broker no longer had the session (`session_present=0`):
            whatever it had queued for us is gone.
        dropped_qos0: QoS 0 deliveries dropped because nobody took them in time.
        taken_over: connections that the broker ended because another client used our client id.
        copies: deliveries passed over because another filter of ours had brought the same message.
        certificate_ends: epoch seconds of the end of the certificate that the broker showed last; None when
            it showed none.
    """

    connected: bool = False
    reason: str = "not started"
    refused: bool = False
    driver: str = ""
    connections: int = 0
    sessions_lost: int = 0
    dropped_qos0: int = 0
    taken_over: int = 0
    copies: int = 0
    certificate_ends: float | None = None

    def why_not(self) -> str | None:
        """Why nothing arrives now; None while the broker has confirmed every subscription."""
        return None if self.connected else self.reason or "the connection was lost"


class Disconnected(Retry):
    """The connection is away or went while something was under way; its outcome is unknown.

    Attributes:
        acknowledged: of a batch being published, how many messages the broker had acknowledged.
    """

    def __init__(self, reason: str, acknowledged: int = 0) -> None:
        super().__init__("broker", reason)
        self.acknowledged = acknowledged


class Refused(Reject):
    """The broker refused messages with a reason code of 0x80 or more; all others of the batch were sent.

    Attributes:
        messages: how many.
    """

    def __init__(self, messages: int, detail: str) -> None:
        super().__init__("refused_by_broker", detail)
        self.messages = messages


class Session(Protocol):
    """One MQTT session, used as an async context manager.

    Entering starts the connection loop without waiting for it.
    Leaving sends DISCONNECT without ending the session at the broker (clean_start false) and awaits its
    tasks.
    """

    @property
    def status(self) -> SessionStatus:
        """The session's state now."""

    async def __aenter__(self) -> Self:
        """Start the connection loop in the background."""

    async def __aexit__(self, *exc: object) -> None:
        """Disconnect and stop the loop."""

    async def connected(self) -> None:
        """Wait until connected and subscribed. Returns at once when it is."""

    async def receive(self) -> Chunk:
        """Wait for deliveries and return what has arrived together.

        Survives reconnects: it just keeps waiting. Raises `Stop` when the connection loop met something that
        no retry can mend.
        """

    def stop_receiving(self) -> Sequence[Chunk]:
        """Take no more deliveries, while acks and publishes go on: the first step of a soft stop.

        Deliveries not yet returned by `receive` stay unacknowledged with the broker; a `receive` that waits
        is cancelled by its owner. QoS 0 among them would be lost, so it is returned.
        """

    async def publish(self, messages: Sequence[Message]) -> None:
        """Publish in order and wait until the broker has acknowledged all (QoS 0: until written).

        Respects the broker's Receive Maximum and lets several callers publish at once.

        Raises:
            Disconnected: not connected, or the connection went before every ack arrived.
            Refused: the broker refused a message with a reason code of 0x80 or more; reason
                `refused_by_broker`. All others of the batch were still sent.
        """
