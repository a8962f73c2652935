"""Filters that change while a connection is there, and a broker that does not answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest
import structlog

from gateway.reload import asked
from runtime.mqtt.filters import Filters
from runtime.mqtt.port import Disconnected, SessionOptions, Subscription

if TYPE_CHECKING:
    from runtime.mqtt.connection import Connection

OLD, NEW = Subscription("old/#", 1), Subscription("new/#", 1)


class Silent:
    """A connection that leaves some requests unanswered."""

    def __init__(self, unanswered: str) -> None:
        self.unanswered = unanswered
        self.subscribed = False
        self.unsubscribed: list[str] = []

    async def subscribe(self, _wanted: object) -> list[int]:
        await self._answer("subscribe")
        self.subscribed = True
        return [1]

    async def unsubscribe(self, topic_filters: list[str]) -> None:
        await self._answer("unsubscribe")
        self.unsubscribed = topic_filters

    session_present = subscribing_repeats_retained = tells_copies = True

    async def _answer(self, request: str) -> None:
        if request == self.unanswered:
            await asyncio.Event().wait()


def changing(unanswered: str) -> tuple[Filters, Connection]:
    """Filters of the old route, and such a connection."""
    options = SessionOptions("h", 1883, "c", subscriptions=(OLD,), connect_timeout_s=0.05)
    return Filters(options, structlog.get_logger()), cast("Connection", Silent(unanswered))


async def test_a_subscription_that_is_not_answered_is_refused() -> None:
    """The change fails with an error that says so, which a reload refuses; the process goes on."""
    filters, connection = changing("subscribe")
    with pytest.raises(Disconnected, match="no answer to SUBSCRIBE"):
        await filters.change((NEW,), connection)


async def test_what_is_subscribed_counts_whatever_becomes_of_the_old() -> None:
    """When the new is subscribed the change holds, though the broker does not answer of the old."""
    filters, connection = changing("unsubscribe")
    await filters.change((NEW,), connection)


async def test_a_change_without_a_connection_is_subscribed_at_the_next() -> None:
    """By MQTT 3.1.1 too, where what the session holds already is not subscribed again."""
    filters, connection = changing("")
    await filters.change((NEW,), None)
    await filters.apply(connection)
    assert cast("Silent", connection).subscribed


@pytest.mark.parametrize(
    ("wanted", "subscribes", "leaves"),
    [(NEW, True, ["old/#"]), (OLD, False, ["new/#"])],
)
async def test_a_start_after_a_change_that_was_cut_off(
    *, wanted: Subscription, subscribes: bool, leaves: list[str]
) -> None:
    """What was only asked for is not taken for held, and what may be held and is not wanted is left."""
    known = tuple(asked((OLD,), (NEW,)))
    options = SessionOptions("h", 1883, "c", subscriptions=(wanted,), known=known)
    connection = Silent("")
    await Filters(options, structlog.get_logger()).apply(cast("Connection", connection))
    assert (connection.subscribed, connection.unsubscribed) == (subscribes, leaves)
