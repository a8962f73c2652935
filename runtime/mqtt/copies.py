"""Telling the copies of one message apart from messages that are alike.

A client whose filters overlap may be sent a message once for each filter that matches, or once for all of
them; the standard leaves it to the broker (MQTT5 §3.3.4). With subscription identifiers each copy says which
filters it is for. A publish is delivered once for each of them, so of deliveries with the same topic and
bytes as many are messages as came for the filter that had most; the rest are copies. So a message is passed
over only when one that is its equal in every byte came by another filter of this connection, whatever the
filters were when the broker queued it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runtime.mqtt.wire import Publish

_REMEMBERED: Final = 10_000  # copies stand close together; a broker sends them when it takes the message


class Copies:
    """What one connection has brought lately, by identifier."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, int, int], dict[int, int]] = OrderedDict()

    def originals(self, deliveries: Sequence[Publish]) -> list[Publish]:
        """The deliveries that are no copy of one before, in order."""
        return [each for each in deliveries if not self._is_copy(each)]

    def _is_copy(self, delivery: Publish) -> bool:
        if not delivery.subscription_ids:
            return False
        key = (delivery.topic, len(delivery.payload), hash(delivery.payload))
        counts = self._seen.pop(key, None) or {}
        self._seen[key] = counts
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        most = max(counts.values(), default=0)
        for number in delivery.subscription_ids:
            counts[number] = counts.get(number, 0) + 1
        return max(counts.values()) == most
