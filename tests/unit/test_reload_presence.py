"""A configuration read again whose routes say who is online."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from gateway.presence import Presence
from gateway.reload import Running
from gateway.subscriptions import plan
from runtime.settings import Route, Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.pipeline import Pipeline
    from gateway.upkeep import Upkeep
    from runtime.mqtt import MqttSession, Subscription


class Parts:
    """What a gateway consists of, as far as a change looks at it.

    Attributes:
        heard: whether words were listened to when topics were subscribed, each time.
    """

    def __init__(self, settings: Settings) -> None:
        self.presence = Presence(told=any(route.presence for route in settings.route))
        self.decoder = plan(settings).decoder
        self.heard: list[bool] = []

    async def change(self, _subscriptions: Sequence[Subscription]) -> None:
        self.heard.append(self.presence.told)

    def reload(self, settings: Settings) -> None:
        """Nothing of it is looked at."""


async def test_words_that_come_with_the_subscription_count() -> None:
    """Kept ones come before a change is noted; what came by a route that is gone is still to be stored."""
    quiet = Settings(route=(Route(topic="a/{device_id}"),))
    telling = Settings(route=(Route(topic="b/{device_id}", format="value", metric="online", presence="@"),))
    parts = Parts(quiet)

    async def remember(_subscriptions: Sequence[Subscription]) -> None:
        """Note nothing."""

    running = Running(
        quiet,
        session=cast("MqttSession", parts),
        pipeline=cast("Pipeline", parts),
        presence=parts.presence,
        upkeep=cast("Upkeep", parts),
        remember=remember,
    )
    await running.change(telling)
    await running.change(quiet)
    assert parts.heard == [True, True]
    assert parts.presence.told
