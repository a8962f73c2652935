"""Readings out of messages that are not one flat object: arrays inside, one metric an element, names to change.

`each` finds the elements. What the route looks for is looked for in an element first and then in the message around
it. With `name` and `value` an element is one metric, what else it says stands under that name, and elements of one
device, key, time and region are one reading. What is left is flattened, as of any message, and goes through the
route's words. What of the message is in no element is left out, and counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from gateway.decode.fields import SCALARS, Flattening, Refused, Unfit
from gateway.decode.limits import MAX_DEPTH
from gateway.decode.mapping.each import Each
from gateway.decode.paths import alternatives, compile_path, is_plain, star_of
from gateway.decode.mapping.plain import Mapped, named
from gateway.decode.mapping.words import Words
from gateway.decode.plan import METRICS
from runtime.errors import ConfigurationError, Reject

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from gateway.decode.limits import Limits
    from gateway.decode.mapping.each import Element, Place
    from gateway.decode.plan import Plan
    from runtime.settings import Route

_SPARE: Final = 8
_LEFT_OUT: Final = "left_out"
_TAG: Final = "tag"  # of an expression, which has no name
_EXPRESSION: Final = "the expression"


class Part(NamedTuple):
    """A reading of a message.

    Attributes:
        mapped: what it says; None when it cannot be read.
        tags: what of it is kept as tags.
        places: of its elements; empty when it is all of the message, or they cannot be said.
        reject: why it cannot be read.
        left_out: fields, each with a reason.
    """

    mapped: Mapped | None
    tags: dict[str, str]
    places: tuple[Place, ...]
    reject: Reject | None
    left_out: list[tuple[str, str]]


class _Look(NamedTuple):
    """One of the paths of which the first that is there counts.

    Attributes:
        name: of a plain path, by which what it finds leaves the fields; empty for an expression.
        look: finds it.
        star: which `*`; None for a path.
    """

    name: str
    look: Callable[[Any], Any]
    star: int | None


class _Said(NamedTuple):
    """What an element says: device, key, time and region; tags; its metrics."""

    names: tuple[Any, Any, Any, Any]
    tags: dict[str, str]
    metrics: dict[str, Any]


class Shaper:
    """Reads the messages of one route.

    Args:
        route: the route.
        plan: made of it.
        limits: bound what is looked at.
        where: its place in the file, for errors.

    Attributes:
        each: finds the elements.
        unfit: takes fields that cannot be metrics.

    Raises:
        ConfigurationError: a path means nothing, or settings contradict each other.
    """

    def __init__(self, route: Route, plan: Plan, limits: Limits, where: str) -> None:
        self.each = Each(route.each, f"{where}.each")
        self.unfit = Unfit(drop=plan.drop)
        stars = route.each.split(".").count("*") if self.each.cuts else 0
        looks = {
            setting: [_look(path, f"{where}.{setting}", stars) for path in alternatives(getattr(route, setting))]
            for setting in ("device", "key", "time", "region", "name", "value")
        }
        self._looks = [looks.pop(setting) for setting in ("device", "key", "time", "region")]
        self._name, self._value = looks["name"], looks["value"]
        if bool(self._name) != bool(self._value):
            given, missing = ("name", "value") if self._name else ("value", "name")
            raise ConfigurationError(f"{where}.{missing}: is needed beside {given}")
        self._tags = [_look(path, f"{where}.tags", stars) for path in route.tags]
        self._metrics = [_look(path, f"{where}.metrics", 0) for path in alternatives(route.metrics)]
        self._words = Words(route, where)
        self._within = bool(route.each)
        self._flattening = Flattening(
            self.unfit,
            bare="" if self._name or self._metrics else METRICS,
            max_name=limits.max_metric_name,
            max_fields=limits.max_metrics + _SPARE,
        )

    def parts(self, message: Any, metric: str | None) -> list[Part]:  # noqa: ANN401  # a format's value is any value
        """The readings of a message, in the order of their first elements.

        Args:
            message: what a format made of the payload.
            metric: what the topic calls it.

        Raises:
            Reject: the message has none.
        """
        elements = self.each.find(message)
        if not elements:
            where = f"at {self.each.path!r}, which each of its route names" if self._within else "in the array"
            raise Reject("empty_message", f"there is no reading {where}")
        around = self.each.around(message) if self._within else None
        if self._name:
            parts = self._grouped(elements, around)
        else:
            parts = [self._part(each, around, metric) for each in elements]
        if self._within:
            parts[0].left_out.extend(self._rest(around))
        return parts

    def _part(self, element: Element, around: Any, metric: str | None) -> Part:  # noqa: ANN401  # a message is any value
        try:
            said = self._read(element, around)
            metrics = named(said.metrics, metric) if metric else said.metrics
            metrics = self._words.apply(metrics, self.unfit)
            return Part((*said.names, metrics, True), said.tags, _places(element), None, self.unfit.fields[:])
        except Reject as reject:
            return Part(None, {}, _places(element), reject, [])
        finally:
            self.unfit.fields.clear()

    def _grouped(self, elements: list[Element], around: Any) -> list[Part]:  # noqa: ANN401  # a message is any value
        """Readings of the metrics of elements; one that says a metric again begins another."""
        groups: list[tuple[_Said, list[Place]]] = []
        open_: dict[str, int] = {}
        refused: list[Part] = []
        for element in elements:
            try:
                said = self._read(element, around)
                said = said._replace(metrics=self._words.apply(said.metrics, self.unfit))
            except Reject as reject:
                refused.append(Part(None, {}, _places(element), reject, []))
                continue
            key = repr((said.names, said.tags))
            at = open_.get(key)
            if at is not None and said.metrics.keys().isdisjoint(groups[at][0].metrics):
                groups[at][0].metrics.update(said.metrics)
                groups[at][1].extend(_places(element))
            else:
                open_[key] = len(groups)
                groups.append((said, [*_places(element)]))
        parts = [Part((*said.names, said.metrics, True), said.tags, tuple(at), None, []) for said, at in groups]
        parts += refused
        parts[0].left_out.extend(self.unfit.fields)
        self.unfit.fields.clear()
        return parts

    def _read(self, element: Element, around: Any) -> _Said:  # noqa: ANN401  # a message is any value
        value = element.value
        if type(value) is list:
            value = {str(i): each for i, each in enumerate(value)}
        elif type(value) is Refused:
            raise value.reject()
        elif type(value) is not dict:
            value = {"value": value}
        fields = {} if self._metrics else self._flattening.flatten(value)
        found = [self._find(looks, element, value, around, fields) for looks in self._looks]
        tags = self._read_tags(element, value, around, fields)
        if self._metrics:
            fields = self._chosen(element, value, around)
        if self._name:
            name = self._find(self._name, element, value, None, fields)
            fields = self._one(name, self._find(self._value, element, value, None, fields), fields)
        device_id, key, time, region = found
        return _Said((device_id, key, time, region), tags, fields)

    def _find(
        self,
        looks: list[_Look],
        element: Element,
        value: Any,  # noqa: ANN401  # a message is any value
        around: Any,  # noqa: ANN401  # likewise
        fields: dict[str, Any],
    ) -> Any:  # noqa: ANN401  # likewise
        """What stands at the first path that is there; what is found in the element leaves the fields."""
        for name, look, star in looks:
            if star is not None:
                return element.stars[star]
            found = look(value)
            if found is not None:
                if name:
                    _leave(fields, name)
                return found
        if around:
            for _, look, star in looks:
                if star is None and (found := look(around)) is not None:
                    return found
        return None

    def _read_tags(self, element: Element, value: Any, around: Any, fields: dict[str, Any]) -> dict[str, str]:  # noqa: ANN401  # likewise
        tags: dict[str, str] = {}
        for look in self._tags:
            found = self._find([look], element, value, around, fields)
            last = look.name.rpartition(".")[2] or _TAG
            for name, each in (found if type(found) is dict else {last: found}).items():
                if type(each) in SCALARS:
                    tags[name] = each if type(each) is str else msgspec.json.encode(each).decode()
                elif each is not None:
                    self.unfit.fields.append((f"{last}.{name}", _LEFT_OUT))
        return tags

    def _chosen(self, element: Element, value: Any, around: Any) -> dict[str, Any]:  # noqa: ANN401  # likewise
        """The metrics of the object that the route names; what else there is, is left out."""
        holder = self._find(self._metrics, element, value, around, {})
        if type(holder) is list:
            holder = {str(i): each for i, each in enumerate(holder)}
        if type(holder) is not dict:
            raise Reject("no_metrics", f"there is no object at {self._metrics[0].name or _EXPRESSION!r}, which holds the metrics of its route")
        fields = self._flattening.flatten(holder)
        names = [look.name for look in self._metrics if look.name]
        for look in (each for looks in self._looks for each in looks if each.name):
            for name in names:
                if look.name.startswith(f"{name}."):
                    fields.pop(look.name.removeprefix(f"{name}."), None)
        taken = {*names, *(each.name for looks in (*self._looks, self._tags) for each in looks)}
        self.unfit.fields += [(name, _LEFT_OUT) for name in names_in(value) if not _is_taken(name, taken)]
        return fields

    def _one(self, name: object, value: Any, fields: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401  # likewise
        """The metric that an element is, and what else it says of it."""
        if type(name) not in SCALARS or name == "":
            raise Reject("invalid_metric", f"an element names no metric at {self._name[0].name or _EXPRESSION!r}")
        metrics: dict[str, Any] = {}
        if type(value) is dict or type(value) is list:
            metrics = self._flattening.flatten({str(name): value})
        elif value is not None:
            metrics[str(name)] = value
        for rest, each in fields.items():
            metrics.setdefault(f"{name}.{rest}", each)
        return metrics

    def _rest(self, around: Any) -> list[tuple[str, str]]:  # noqa: ANN401  # a message is any value
        """What is around the elements and is not looked for."""
        taken = {each.name for looks in (*self._looks, self._tags, self._metrics) for each in looks}
        return [(name, _LEFT_OUT) for name in names_in(around) if not _is_taken(name, taken)]


def needs_shaping(route: Route) -> bool:
    """Whether a route says more of its messages than which names mean what."""
    paths = (route.device, route.key, route.time, route.region, route.metrics)
    return bool(
        route.each
        or route.name
        or route.value
        or route.tags
        or route.rename
        or route.states
        or route.numbers != "as_sent"
        or isinstance(route.ignore, tuple)
        or "|" in route.metrics
        or not all(map(is_plain, paths))
    )


def names_in(value: Any, prefix: str = "", depth: int = MAX_DEPTH) -> Iterator[str]:  # noqa: ANN401  # a message is any value
    """The paths of the scalars of an object."""
    for name, member in _items(value):
        if depth and type(member) in {dict, list}:
            yield from names_in(member, f"{prefix}{name}.", depth - 1)
        elif member is not None:
            yield f"{prefix}{name}"


def _items(value: Any) -> Iterable[tuple[Any, Any]]:  # noqa: ANN401  # a message is any value
    if type(value) is dict:
        return value.items()
    return enumerate(value) if type(value) is list else ()


def _look(path: str, where: str, stars: int) -> _Look:
    star = star_of(path)
    if star is not None:
        if star >= stars:
            raise ConfigurationError(f"{where}: {path} is what a * in each stands for, and there are {stars}")
        return _Look("", bool, star)
    return _Look(path if is_plain(path) else "", compile_path(path, where), None)


def _places(element: Element) -> tuple[Place, ...]:
    return () if element.place is None else (element.place,)


def _leave(fields: dict[str, Any], name: str) -> None:
    if name in fields:
        del fields[name]
    else:
        for each in [each for each in fields if each.startswith(f"{name}.")]:
            del fields[each]


def _is_taken(name: str, taken: Collection[str]) -> bool:
    while name not in taken:
        name, dot, _ = name.rpartition(".")
        if not dot:
            return False
    return True
