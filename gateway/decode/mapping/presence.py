"""What a reading says of its device being online: the words of wills, births and states. Pure.

`presence` of a route is the path of such a word; `@` is a message that is nothing but the word. What is
understood is the metric `online`, true or false; under a name of its own the word stays a metric as well. A
word that is not known refuses the reading, for a gateway that guessed would tell a device dead, or alive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gateway.decode.fields import SCALARS
from gateway.decode.names import kind_of
from gateway.decode.paths import compile_find, is_plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.decode.fields import Unfit
    from gateway.decode.paths import Found
    from runtime.settings import Route

METRIC: Final = "online"

# Of Tasmota, ESPHome, Zigbee2MQTT, Home Assistant, Shelly, OpenMQTTGateway; of Homie's $state, of which
# sleeping is one that will be back by itself; and of the events of brokers. In any case of letters.
WORDS: Final = {
    **dict.fromkeys(("online", "connected", "true", "1", "init", "ready", "alert", "sleeping"), True),
    **dict.fromkeys(("offline", "disconnected", "false", "0", "lost"), False),
}

_ITSELF: Final = "@"
_BRIEF: Final = 40


class Presence:
    """Understands what the readings of a route say.

    Args:
        route: whose `presence` it is.
        where: its place in the file, for errors.

    Raises:
        ConfigurationError: the path means nothing.
    """

    def __init__(self, route: Route, where: str) -> None:
        self._path = route.presence
        self._find = _compiled(route.presence, f"{where}.presence")
        self._words = WORDS | {word.casefold(): online for word, online in route.presence_words.items()}

    def of(self, value: Any, metrics: dict[str, Any], unfit: Unfit) -> bool | None:  # noqa: ANN401  # a message is any value
        """What a reading says; None when there is no word in it.

        Args:
            value: the reading as it came.
            metrics: what it came to; `online` is set among them.
            unfit: takes a word that is not understood.
        """
        hit = self._find(value)
        if hit is None:
            return None
        online = self._understood(hit[0])
        if online is None:
            unfit.add(METRIC, "unknown_presence", self._advice(hit[0]))
        elif METRIC in metrics and self._understood(metrics[METRIC]) is not online:
            unfit.add(METRIC, "duplicate_key", f"a field of the message is called {METRIC!r} already")
        else:
            metrics[METRIC] = online
        return online

    def _understood(self, word: object) -> bool | None:
        if type(word) is bool:
            return word
        return self._words.get(str(word).strip().casefold()) if type(word) in SCALARS else None

    def _advice(self, word: object) -> str:
        where = "the message" if self._path == _ITSELF else f"what stands at {self._path!r}"
        if type(word) not in SCALARS:
            return f"{where} is {kind_of(word)}, expected a word that says whether the device is online"
        return (
            f"{where} is {str(word).strip()[:_BRIEF]!r}, which says neither that the device is online nor "
            f"that it is offline; known are {', '.join(self._words)}, and the route's presence_words"
        )


def _compiled(path: str, where: str) -> Callable[[Any], Found | None]:
    ways = [way.strip() for way in path.split("|")]
    if _ITSELF not in ways or not all(way == _ITSELF or is_plain(way) for way in ways):
        return compile_find(path, where)
    finds = [_itself if way == _ITSELF else compile_find(way, where) for way in ways]
    return lambda value: next((found for find in finds if (found := find(value))), None)


def _itself(value: Any) -> Found | None:  # noqa: ANN401  # a message is any value
    return (value, ()) if type(value) in SCALARS else None
