"""What an element of a message says: device, key, time and region; tags; metrics; what is left out.

What the route looks for is looked for in the element first, and then in the objects around it, from the
innermost. What a path finds in an element is no metric then; what an expression finds may have been made of
metrics, which stay. What is left is flattened, as of any message, and goes through the route's words. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gateway.decode.fields import SCALARS, Flattening, Refused
from gateway.decode.mapping.each import Element, names_in
from gateway.decode.mapping.learned import Learned
from gateway.decode.mapping.looks import Surroundings, compile_holders, compile_looks, remove, taken
from gateway.decode.mapping.parts import Around, Part
from gateway.decode.mapping.plain import named
from gateway.decode.mapping.presence import Presence
from gateway.decode.mapping.tags import Tags
from gateway.decode.names import kind_of, metric_fault
from gateway.decode.paths import is_plain, is_text
from gateway.decode.plan import METRICS
from runtime.errors import ConfigurationError, Reject

if TYPE_CHECKING:
    from gateway.decode.fields import Unfit
    from gateway.decode.known import Room
    from gateway.decode.limits import Limits
    from gateway.decode.mapping.looks import Look
    from gateway.decode.mapping.words import Words
    from gateway.decode.paths import Place
    from runtime.settings import Route

LEFT_OUT: Final = "left_out"

_SPARE: Final = 8
_SPARE_OF_IGNORED: Final = 2048  # of each of fifty gateways that heard a sensor, forty fields
_KNOWN: Final = 5  # microseconds, as these: of an element of which the shape is known
_SLOWLY: Final = 16  # of another
_EXPRESSION: Final = 8
_KEY: Final = 1  # of device, key, time and region
BESIDE: Final = "(beside metrics)"
"""The name of what an expression left of an element, where no other can be told."""
_NOTHING: Final = Around()


Names = tuple[Any, Any, Any, Any]
"""Device, key, time and region."""


class _Said(NamedTuple):
    """What an element says: device, key, time and region; tags; its metrics."""

    names: Names
    tags: dict[str, str]
    metrics: dict[str, Any]
    around: Around


class Elements:
    """Reads the elements of a route's messages.

    Args:
        route: the route.
        limits: bound what is looked at.
        where: its place in the file, for errors.
        stars: how many `*` there are in `each`.
        words: change metrics.
        unfit: takes fields that cannot be metrics.
        room: what is remembered takes its bytes of that.

    Attributes:
        roles: what is looked for as device, key, time and region.
        name, value: the same of an element that is one metric.
        tags: those of the route.
        surroundings: of the elements of one message.
        learned: what is known of their shapes; None where the values decide what is what.

    Raises:
        ConfigurationError: a path means nothing, or settings contradict each other.
    """

    def __init__(  # noqa: PLR0917  # of one place
        self, route: Route, limits: Limits, where: str, stars: int, words: Words, unfit: Unfit, room: Room
    ) -> None:
        looks = {
            setting: compile_looks(getattr(route, setting), f"{where}.{setting}", stars)
            for setting in ("device", "key", "time", "region", "name", "value")
        }
        self.roles = [looks[setting] for setting in ("device", "key", "time", "region")]
        self.name, self.value = looks["name"], looks["value"]
        self._metrics = compile_holders(route.metrics, f"{where}.metrics", stars)
        if bool(self.name) != bool(self.value):
            given, missing = ("name", "value") if self.name else ("value", "name")
            raise ConfigurationError(f"{where}.{missing}: is needed beside {given}")
        if self.name and self._metrics:
            raise ConfigurationError(f"{where}.metrics: with name and value an element is one metric")
        if route.presence and self.name:
            raise ConfigurationError(f"{where}.presence: with name and value an element is one metric")
        self._presence = Presence(route, where) if route.presence else None
        paths = [look.path for looks_ in (*self.roles, self.name, self.value) for look in looks_]
        self.tags = Tags(route.tags, where, stars, paths, limits, unfit)
        self.surroundings = Surroundings()
        self._unfit, self._words = unfit, words
        self._each = route.each
        self._simple = not any(look.made or look.star is not None for role in self.roles for look in role)
        self._names = {  # with which one of the paths begins
            ".".join(look.steps[:end])
            for role in self.roles
            for look in role
            for end in range(1, len(look.steps) + 1)
        }
        self._max_name, self._most = limits.max_metric_name, limits.max_metrics
        spare = _SPARE_OF_IGNORED if isinstance(route.ignore, tuple) else _SPARE
        self._flattening = Flattening(
            unfit,
            bare="" if self.name or self._metrics else METRICS,
            max_name=limits.max_metric_name,
            max_fields=limits.max_metrics + spare,
            room=room,
            ignores=words.ignores,
        )
        self._room = room
        self._cost = _SLOWLY + _EXPRESSION * sum(look.made and not is_text(look.path) for look in self.looks)
        self.learned: Learned | None = None
        plain = not any(look.made or look.star is not None for look in self.looks)
        if plain and not self.name and not route.presence and not (self.tags.looks and route.each):
            self.learned = Learned(self._read_anew, words, self.tags, unfit, room)

    @property
    def looks(self) -> list[Look]:
        """All that is looked for."""
        return [*self.wanted, *self.name, *self.value, *self._metrics]

    @property
    def wanted(self) -> list[Look]:
        """What is looked for around an element, too."""
        return [*(look for role in self.roles for look in role), *(look for _, look in self.tags.looks)]

    def read(self, element: Element, number: int, metric: str | None, places: tuple[Place, ...]) -> Part:
        """The reading that an element is, or why it is none.

        Args:
            element: it.
            number: its own, within its message.
            metric: what the topic calls it.
            places: its own, where the message can be cut.
        """
        if self.learned is not None and type(element.value) is dict:
            known = self.learned.find(element.value, metric)
            self._room.spend(_KNOWN)
            if known is not None:
                mapped, tagged, alike, left_out = known
                around = _NOTHING
                if element.around:
                    names, around = self._around(element, mapped[:4])
                    mapped = (*names, *mapped[4:])
                tags = tagged.tags if tagged else {}
                if alike:
                    left_out = (*alike.fields, *left_out)
                return Part(mapped, tags, number, element.message, places, around, None, left_out)
        return self._read_slowly(element, number, metric, places)

    def _read_anew(self, value: dict[str, Any], metric: str | None) -> Part:
        """An object, as it is read when nothing is known of its shape."""
        return self._read_slowly(Element(value), 0, metric, ())

    def _read_slowly(
        self, element: Element, number: int, metric: str | None, places: tuple[Place, ...]
    ) -> Part:
        unfit = self._unfit
        self._room.spend(self._cost)
        try:
            said = self._read(element, metric)
            self._room.spend(self._words.cost * len(said.metrics))
            metrics = self._words.apply(said.metrics, unfit)
            online = None if self._presence is None else self._presence.of(element.value, metrics, unfit)
            mapped, left_out = (*said.names, metrics, True), unfit.fields[:]
            return Part(
                mapped, said.tags, number, element.message, places, said.around, None, left_out, online
            )
        except Reject as reject:
            reject = reject.with_traceback(None)  # which holds all that was under way
            return Part(None, {}, number, element.message, places, self._around_refused(element), reject)
        finally:
            unfit.fields.clear()

    def _around_refused(self, element: Element) -> Around:
        """All of it, as it is not known what was looked for; and the key of its message, if it has that."""
        hit = self.surroundings.find(_KEY, self.roles[_KEY], element)
        if hit is None or any(look.find(element.value) for look in self.roles[_KEY]):
            return Around(everything=bool(element.around))
        return Around((), hit[1], keyed=True, everything=True)

    def _read(self, element: Element, metric: str | None) -> _Said:
        value = element.value
        members = value if type(value) is dict else self._wrapped(value, metric)
        if type(value) is not list:  # which an expression looks at as it is
            value = members
        rest, own = members.copy(), set[object]()
        within = f"{metric}." if metric else ""
        self._flattening.within = within
        named_so = of = None
        if self.name:
            named_so = taken(self.name, element, value, rest, own)
            self._flattening.within = f"{within}{named_so}." if type(named_so) in SCALARS else within
        names, around = self._found(element, value, rest, own)
        if self.name:  # after the names, which may be of its members
            of = taken(self.value, element, value, rest, own)
        tags: dict[str, str] = {}
        if self.tags.looks:
            tags, around = self.tags.read(element, value, rest, own, around, self.surroundings)
        if self._metrics:
            fields = self._chosen(value, rest, own)
        else:
            plain = len(rest) <= self._most and SCALARS.issuperset(map(type, rest.values()))
            fields = rest if plain else self._flattening.flatten(rest)
            if self.name:
                self._flattening.within = within
                fields = self._one(named_so, of, fields)
        if metric:
            fields = named(fields, metric)
        return _Said(names, tags, fields, around)

    def _found(
        self,
        element: Element,
        value: Any,  # noqa: ANN401  # a message is any value
        rest: dict[str, Any],
        own: set[object],
    ) -> tuple[Names, Around]:
        """Device, key, time and region, which leave the rest; and which of them were found around."""
        names: list[Any] = []
        bare = self._simple and self._names.isdisjoint(rest)
        for looks in self.roles:
            if bare or not looks:
                found = None
            elif len(looks) == 1 and looks[0].name:
                found = rest.pop(looks[0].name, None)
            else:
                found = taken(looks, element, value, rest, own)
            names.append(found)
        said = (names[0], names[1], names[2], names[3])
        return self._around(element, said) if element.around else (said, _NOTHING)

    def _around(self, element: Element, names: Names) -> tuple[Names, Around]:
        """Device, key, time and region of an element, with those of them that stand around it only."""
        places: tuple[Place, ...] = ()
        keyed, everything, key_place = False, False, None
        found = list(names)
        for number, looks in enumerate(self.roles):
            if found[number] is None and looks and (hit := self.surroundings.find(number, looks, element)):
                found[number], place = hit
                everything |= place is None
                places += () if place is None else (place,)
                if number == _KEY:
                    keyed, key_place = True, place
        around = Around(places, key_place, keyed, everything) if places or everything else _NOTHING
        return (found[0], found[1], found[2], found[3]), around

    def _wrapped(self, value: Any, metric: str | None) -> dict[str, Any]:  # noqa: ANN401  # a message is any value
        if type(value) is Refused:
            raise value.reject()
        if not self._each and not metric and not self.name:
            raise Reject("wrong_root", f"{kind_of(value)}, expected an object or an array of objects")
        if type(value) is list:
            if not self._each and not self.name:
                raise Reject(
                    "wrong_root", f"{kind_of(value)}, expected an object, a number, a boolean or a string"
                )
            return {str(at): each for at, each in enumerate(value)}
        if value is None:
            raise Reject("wrong_root", "null, expected an object, a number, a boolean or a string")
        return {"value": value}

    def _chosen(self, value: Any, rest: dict[str, Any], own: set[object]) -> dict[str, Any]:  # noqa: ANN401  # likewise
        """The metrics of what stands where the route says; what else there is, is left out."""
        holder, place, path = None, None, ""
        for look in self._metrics:
            if hit := look.find(value if look.made else rest):
                (holder, place), path = hit, look.path
                break
        if holder is None and not any(look.find(value) for look in self._metrics):
            where = " | ".join(look.path for look in self._metrics)
            raise Reject("no_metrics", f"there is nothing at {where!r}, which holds the metrics of its route")
        if place:
            remove(rest, place, own)
        if place != ():
            self._unfit.fields += [(name, LEFT_OUT) for name in _beside(rest, holder, place, self._room)]
        if type(holder) is list:
            holder = {str(at): each for at, each in enumerate(holder)}
        elif type(holder) is not dict:
            holder = {path if is_plain(path) else "value": holder}
        return self._flattening.flatten(holder)

    def _one(self, name: object, value: Any, fields: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401  # likewise
        """The metric that an element is, and what else it says of it."""
        if type(name) not in SCALARS or name == "":
            where = " | ".join(look.path for look in self.name)
            raise Reject("invalid_metric", f"an element names no metric at {where!r}")
        name = str(name)
        if fault := metric_fault(name, self._max_name):
            self._unfit.add(name[: self._max_name], "invalid_metric", fault)
            self._unfit.fields += [(each, LEFT_OUT) for each in fields]
            return {}
        metrics = {name: value} if type(value) in SCALARS else self._flattening.flatten({name: value})
        for rest, each in fields.items():
            path = f"{name}.{rest}"
            if path in metrics:
                self._unfit.add(path, "duplicate_key", f"two fields of the message are called {path[:40]!r}")
            else:
                metrics[path] = each
        return metrics


def _beside(rest: Any, holder: Any, place: Place | None, room: Room) -> list[str]:  # noqa: ANN401  # likewise
    """What an element holds beside its metrics."""
    if place is not None or holder is None:
        return list(names_in(rest, room))
    if _holds(holder, rest):  # merged with others
        return []
    names = list(names_in(rest, room))
    if type(holder) in {dict, list} and len(beside := list(names_in(rest, room, but={id(holder)}))) < len(
        names
    ):
        return beside
    return [BESIDE] if names else []


def _holds(holder: Any, rest: Any) -> bool:  # noqa: ANN401  # likewise
    """Whether all of an object is in another one, by the same names."""
    if type(rest) is not dict:
        return holder is rest
    return type(holder) is dict and all(_holds(holder.get(name), member) for name, member in rest.items())
