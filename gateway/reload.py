"""The configuration read again while a gateway runs (SIGHUP): what can change in place does, or nothing does.

Routes, what all gateways of a site share and the log level change in place. New topics are subscribed before
old ones are unsubscribed; what had arrived of a route that is gone becomes a dead letter, as after a restart.
A configuration that is wrong, or a topic that the broker refuses, changes nothing. Any other key that has
changed is named: it counts from the next start on. Secrets and certificates in files need no word: each
connection reads them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from gateway.site import SHARED
from gateway.sparkplug.topics import is_spoken
from gateway.subscriptions import plan
from runtime import logs
from runtime.errors import ConfigurationError
from runtime.mqtt import Subscription
from runtime.reload import differences
from runtime.settings import refuse_open

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from gateway.pipeline import Pipeline
    from gateway.presence import Presence
    from gateway.upkeep import Upkeep
    from runtime.mqtt import MqttSession, Qos
    from runtime.settings import Settings


class Running:
    """What of a running gateway can change in place.

    Args:
        remember: notes what the broker's session holds, for the next start.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        session: MqttSession,
        pipeline: Pipeline,
        presence: Presence,
        upkeep: Upkeep,
        remember: Callable[[Sequence[Subscription]], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._session = session
        self._pipeline = pipeline
        self._presence = presence
        self._upkeep = upkeep
        self._remember = remember

    async def change(self, new: Settings) -> tuple[list[str], list[str]]:
        """Go by another configuration; returns the keys that changed, and those that will at the next start.

        Raises:
            ConfigurationError: it is impossible, or its routes need a restart; nothing has changed.
            Disconnected: the broker refuses a topic; nothing has changed.
        """
        wanted = plan(new)
        if reason := refuse_open("gateway", new.gateway):
            raise ConfigurationError(reason)
        keys = differences(self._settings, new)
        changed = [key for key in keys if key == "route" or key in _IN_PLACE]
        if "route" in changed:
            if is_spoken(new.route) or is_spoken(self._settings.route):
                raise ConfigurationError(
                    "route: with format sparkplug, what is known of nodes needs a restart"
                )
            before = self._pipeline.decoder
            await self._remember(asked(plan(self._settings).subscriptions, wanted.subscriptions))
            if any(route.presence for route in new.route):  # else there may be words under way all the same
                self._presence.told = True
            self._pipeline.decoder = wanted.decoder
            try:
                await self._session.change(wanted.subscriptions)
            except BaseException:
                self._pipeline.decoder = before
                raise
            await self._remember(wanted.subscriptions)
        logs.set_level(new.gateway.log_level)
        gateway = {name: getattr(new.gateway, name) for name in (*SHARED, "log_level")}
        self._settings = msgspec.structs.replace(
            self._settings,
            route=new.route,
            gateway=msgspec.structs.replace(self._settings.gateway, **gateway),
        )
        self._upkeep.reload(self._settings)
        return changed, [key for key in keys if key not in changed]


def asked(held: Sequence[Subscription], wanted: Sequence[Subscription]) -> list[Subscription]:
    """What to remember while a change is under way, for a start after an end halfway.

    All that the session may hold, so that what is not wanted then is unsubscribed. What is only asked for
    stands there with another QoS than it is asked for with: it is not taken for held, and subscribed again.
    """
    added = [each for each in wanted if each not in held]
    unsure = [Subscription(each.topic_filter, _OTHER_QOS[each.qos]) for each in added]
    return list({each.topic_filter: each for each in (*held, *unsure)}.values())


_OTHER_QOS: Final[Mapping[Qos, Qos]] = {0: 1, 1: 0, 2: 1}
_IN_PLACE = frozenset(f"gateway.{name}" for name in (*SHARED, "log_level"))
