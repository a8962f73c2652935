"""Which broker it is, and what is known of its kind beyond what it tells.

Each limit was measured by `make brokers` (`docs/brokers.md`), or is from its maker's documents alone, which
is said of it. A kind is told by the broker's own words, else by its address, else by answers that no other
kind of this table gives; a broker behind a proxy, or with other settings, may stay unnamed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.check.hearing import Heard
    from runtime.mqtt.terms import Terms

When = Literal["", "always", "shared"]


class Known(NamedTuple):
    """A limit.

    Attributes:
        text: what it is.
        advice: what to do about it.
        warns: whether it weakens a promise for everybody, for who uses shared subscriptions, or just is so.
        read: whether it is from documents alone, and was not measured.
    """

    text: str
    advice: str
    warns: When = ""
    read: bool = False


class Seen(NamedTuple):
    """What a kind is told by; `speaks_5` is whether the connection is by MQTT 5."""

    host: str
    speaks_5: bool
    terms: Terms
    heard: Heard


class Kind(NamedTuple):
    """A kind of broker.

    Attributes:
        name: as people call it.
        known: its limits.
        version: pattern of what it calls itself under `$SYS`.
        topic: pattern of a topic of `$SYS` that only it has.
        host: pattern of addresses at which only it is.
        answers: whether it answers like that.
    """

    name: str
    known: tuple[Known, ...]
    version: str = ""
    topic: str = ""
    host: str = ""
    answers: Callable[[Seen], bool] | None = None


class Named(NamedTuple):
    """A kind, and by what it was told."""

    kind: Kind
    by: str


def name(seen: Seen) -> Named | None:
    """The broker's kind; None for one that is not in the table, or cannot be told."""
    for kind in KINDS:
        if kind.version and re.match(kind.version, seen.heard.version):
            return Named(kind, "by its $SYS")
        if kind.topic and any(re.match(kind.topic, topic) for topic in seen.heard.topics):
            return Named(kind, "by its $SYS")
    for kind in KINDS:
        if kind.host and re.search(kind.host, seen.host.lower()):
            return Named(kind, "by its address")
    if not seen.heard.version:
        for kind in KINDS:
            if kind.answers and kind.answers(seen):
                return Named(kind, "by how it answers")
    return None


_ALL_ALIASES: Final = 65535
_OWN_TOPICS: Final = "give each gateway topics of its own in place of $share"
_BRIDGE: Final = "put a broker of the site between, with a bridge, if a gateway may be away for longer"

_MOSQUITTO: Final = (
    Known(
        "saves now and then: a kill loses what it acknowledged since", "set autosave_interval to 10 or less"
    ),
    Known(
        "ends sessions after persistent_client_expiration, and does not tell",
        "set that, if at all, to more than broker.session_expiry",
        read=True,
    ),
    Known("hands on nothing of a $share group's member that died", _OWN_TOPICS, "shared"),
)
_NATS: Final = (
    Known("sends what was not acknowledged again after ack_wait (30 s), not at the reconnect", ""),
    Known("grants $share and sends nothing: it knows no shared subscriptions", _OWN_TOPICS, "shared"),
    Known(
        "writes to disk every two minutes unless told otherwise",
        "set jetstream.sync_interval to always",
        read=True,
    ),
)
_RABBITMQ: Final = (
    Known("QoS 1 at most", ""),
    Known(
        "sends as many at a time as mqtt.prefetch (10) says, and keeps a session as long as "
        "mqtt.subscription_ttl (a day; by MQTT 5 mqtt.max_session_expiry_interval_seconds)",
        "set them to three times gateway.batch_messages, and to broker.session_expiry",
        read=True,
    ),
    Known("grants $share and sends nothing: it knows no shared subscriptions", _OWN_TOPICS, "shared"),
)
_HIVEMQ: Final = (
    Known(
        "lets 1,000 messages wait for a session, and drops what comes then", "raise max-queue-size", read=True
    ),
    Known("counts what it drops nowhere under $SYS", ""),
)
_AEDES: Final = (
    Known(
        "keeps nothing over a restart without a persistence of its own",
        "configure one that is on disk",
        read=True,
    ),
    Known("sends what was not acknowledged again without DUP: a gateway tells repeats by their keys", ""),
    Known("grants $share and sends nothing: it knows no shared subscriptions", _OWN_TOPICS, "shared"),
)
_MOCHI: Final = (
    Known(
        "loses part of what waits for a session, and what it acknowledged before a kill, its storage hook "
        "notwithstanding; and sends out of order",
        "take another broker where that matters, such as mosquitto",
        "always",
    ),
    Known("hands on nothing of a $share group's member that died", _OWN_TOPICS, "shared"),
)
_EMQX: Final = (
    Known(
        "keeps sessions in memory, which end with their node, unless durable_sessions.enable is set, and not "
        "those of shared subscriptions",
        "set durable_sessions.enable, which its Enterprise edition has",
        read=True,
    ),
    Known("lets nobody but clients on its own machine read $SYS", "allow it in its acl.conf", read=True),
)
_AWS: Final = (
    Known(
        "keeps a session for an hour, and sends ten messages a second of what waits in it",
        _BRIDGE,
        "always",
        read=True,
    ),
    Known("QoS 1 at most, messages of 128 KB", "", read=True),
)
_EVENT_GRID: Final = (
    Known(
        "lets 100 messages or 1 MB wait for a session, and ends it then, or after eight hours at most",
        _BRIDGE,
        "always",
        read=True,
    ),
    Known("QoS 1 at most, messages of 512 KB, no promise of order", "", read=True),
)

KINDS: Final = (
    Kind("mosquitto", _MOSQUITTO, version="mosquitto version "),
    Kind("EMQX", _EMQX, topic=r"\$SYS/brokers/[^/]+/version$", host=r"\.emqx(sl\.com|\.cloud)$",
         answers=lambda seen: seen.terms.topic_aliases == _ALL_ALIASES and seen.terms.packet_bytes > 0),
    Kind("Aedes", _AEDES, topic=r"\$SYS/[0-9a-f-]{36}/new/subscribes$"),
    Kind("mochi-mqtt", _MOCHI, topic=r"\$SYS/broker/messages/dropped$"),
    Kind("AWS IoT Core", _AWS, host=r"\.iot\.[a-z0-9-]+\.amazonaws\.com(\.cn)?$"),
    Kind("Azure Event Grid", _EVENT_GRID, host=r"\.ts\.eventgrid\.azure\.net$"),
    Kind("HiveMQ", _HIVEMQ, host=r"\.hivemq\.cloud$",
         answers=lambda seen: (seen.terms.receive_maximum, seen.terms.topic_aliases) == (10, 5)),
    Kind("NATS", _NATS, answers=lambda seen: not seen.speaks_5 and not seen.heard.takes_spaces),
    Kind("RabbitMQ", _RABBITMQ,
         answers=lambda seen: seen.heard.qos == 1 and (not seen.speaks_5 or not seen.terms.shares)),
)  # fmt: skip
"""In the order in which they are asked."""
