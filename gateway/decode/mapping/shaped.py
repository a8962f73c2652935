"""Readings out of messages that are not one flat object: arrays inside, a metric an element, names to change.

`each` finds the elements. What the route looks for is looked for in an element first, and then in the
objects around it, from the innermost. With `name` and `value` an element is one metric, what else it says
stands under that name, and elements of one device, key, time and region are one reading. What a path finds in
an element is no metric then; what an expression finds may have been made of metrics, which stay. What is left
is flattened, as of any message, and goes through the route's words. What of the message is in no element, and
not looked for, is left out, and counted.

A key around several readings is the message's: each of them has it with its number, `k17:0`, `k17:1`. Where a
message is cut, each piece has what its reading needs of what is around, its own key among it, so that it is
decoded again to the same reading. A message is not cut where what is looked for around could be another thing
in a piece: an expression that looks at what is cut, or a path that stands in it.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from gateway.decode.fields import SCALARS, Flattening, NoNumber, Refused, Unfit
from gateway.decode.limits import MAX_DEPTH, MAX_READINGS
from gateway.decode.mapping.each import Each, Element, graft, names_in, without
from gateway.decode.mapping.plain import Mapped, named
from gateway.decode.mapping.presence import Presence
from gateway.decode.mapping.words import Words
from gateway.decode.names import MAX_NAME, kind_of, metric_fault, tag_fault
from gateway.decode.paths import alternatives, compile_find, is_plain, star_of, steps_of
from gateway.decode.plan import METRICS
from runtime.errors import ConfigurationError, Reject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gateway.decode.limits import Limits
    from gateway.decode.mapping.each import Layer
    from gateway.decode.paths import Found, Place
    from gateway.decode.plan import Plan
    from runtime.settings import Route

_SPARE: Final = 8
_SPARE_OF_IGNORED: Final = 2048  # of each of fifty gateways that heard a sensor, forty fields
_HASHABLE: Final = SCALARS | {type(None)}  # 1, 1.0, true and "1" are told apart by their types
_LONG: Final = MAX_NAME + 1  # characters: too long for a tag's name
_KEY: Final = 1  # of device, key, time and region
_LEFT_OUT: Final = "left_out"
_BESIDE: Final = "(beside metrics)"
"""The name of what an expression left of an element, where no other can be told."""


class Part(NamedTuple):
    """A reading of a message.

    Attributes:
        mapped: what it says; None when it cannot be read.
        tags: what of it is kept as tags.
        number: of its first element, within its message.
        message: which one of an array of messages it is of.
        places: of its elements; empty when they cannot be said.
        around: what it took of the objects around them.
        reject: why it cannot be read.
        left_out: fields, each with a reason.
        online: what it says of its device; None when nothing.
    """

    mapped: Mapped | None
    tags: dict[str, str]
    number: int
    message: int
    places: tuple[Place, ...]
    around: _Around
    reject: Reject | None = None
    left_out: Sequence[tuple[str, str]] = ()
    online: bool | None = None


class _Around(NamedTuple):
    """What was found in the objects around an element.

    Attributes:
        places: of it, in the message.
        key: the place of the key, when that was found there.
        keyed: whether it was.
        everything: whether an expression found something, of whatever it is made.
    """

    places: tuple[Place, ...] = ()
    key: Place | None = None
    keyed: bool = False
    everything: bool = False


_NOTHING: Final = _Around()


class _Look(NamedTuple):
    """One of the paths of which the first that is there counts.

    Attributes:
        path: itself.
        find: finds what stands there, and where.
        star: which `*`; None for a path.
        made: whether it is an expression, and what it finds may have no place.
        name: of a path that is one name; empty of any other.
    """

    path: str
    find: Callable[[Any], Found | None]
    star: int | None
    made: bool
    name: str


class _Said(NamedTuple):
    """What an element says: device, key, time and region; tags; its metrics."""

    names: tuple[Any, Any, Any, Any]
    tags: dict[str, str]
    metrics: dict[str, Any]
    around: _Around


class _Group:
    """A reading of several elements, of which the first says what they have in common."""

    __slots__ = ("around", "first", "left_out", "metrics", "places")

    def __init__(self, first: Part, metrics: dict[str, Any]) -> None:
        self.first = first
        self.metrics = metrics
        self.places: list[Place] = []
        self.around: set[Place] = set()
        self.left_out: list[tuple[str, str]] = []

    def part(self) -> Part:
        """The reading."""
        first = self.first
        around = first.around._replace(places=tuple(self.around))
        return first._replace(places=tuple(self.places), around=around, left_out=self.left_out)


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
        looks = {
            setting: [
                _look(path, f"{where}.{setting}", self.each.stars)
                for path in alternatives(getattr(route, setting))
            ]
            for setting in ("device", "key", "time", "region", "name", "value", "metrics")
        }
        self._looks = [looks[setting] for setting in ("device", "key", "time", "region")]
        self._name, self._value, self._metrics = looks["name"], looks["value"], looks["metrics"]
        if bool(self._name) != bool(self._value):
            given, missing = ("name", "value") if self._name else ("value", "name")
            raise ConfigurationError(f"{where}.{missing}: is needed beside {given}")
        if self._name and self._metrics:
            raise ConfigurationError(f"{where}.metrics: with name and value an element is one metric")
        tags = [_look(path, f"{where}.tags", self.each.stars) for path in route.tags]
        self._tags = list(zip(_tag_names(route.tags, where), tags, strict=True))
        every = (*self._looks, self._name, self._value, self._metrics, tags)
        self._counted = any(look.star is not None for looks_ in every for look in looks_)
        around = [look for looks_ in (*self._looks, tags) for look in looks_ if look.star is None]
        self._cuts = self.each.cuts and not any(
            self.each.moves(None if look.made else _steps(look.path), look.path) for look in around
        )
        self._words = Words(route, where, limits.max_metric_name)
        if route.presence and self._name:
            raise ConfigurationError(f"{where}.presence: with name and value an element is one metric")
        self._presence = Presence(route, where) if route.presence else None
        taken = [look.path for looks_ in (*self._looks, self._name, self._value) for look in looks_]
        self._shared = {  # tags that may mean something else, too
            name
            for name, look in self._tags
            if any(
                f"{look.path}.".startswith(f"{path}.") or path.startswith(f"{look.path}.") for path in taken
            )
        }
        self._simple = not any(
            look.made or look.star is not None for looks_ in self._looks for look in looks_
        )
        self._names = {  # with which one of the paths begins
            ".".join(names[:end])
            for looks_ in self._looks
            for look in looks_
            for names in [_steps(look.path)]
            for end in range(1, len(names) + 1)
        }
        self._seen: tuple[Layer, ...] = ()
        self._hits: dict[int, Found | None] = {}
        self._max_name, self._max_tags = limits.max_metric_name, limits.max_metrics
        spare = _SPARE_OF_IGNORED if isinstance(route.ignore, tuple) else _SPARE
        self._flattening = Flattening(
            self.unfit,
            bare="" if self._name or self._metrics else METRICS,
            max_name=limits.max_metric_name,
            max_fields=limits.max_metrics + spare,
            ignores=self._words.ignores,
        )

    def parts(self, message: Any, metric: str | None) -> tuple[list[Part], list[tuple[str, str]]]:  # noqa: ANN401  # a format's value is any value
        """The readings of a message, in the order of their first elements, and what is in none of them.

        Args:
            message: what a format made of the payload.
            metric: what the topic calls it.

        Raises:
            Reject: the message has none.
        """
        if type(message) is dict and not self.each.path and not self._name:
            return [self._part(Element(message, (), ()), 0, metric)], []
        elements = self.each.find(message)
        if len(elements) > MAX_READINGS:
            raise Reject(
                "too_many_readings", f"{len(elements)}, {MAX_READINGS} are allowed; send fewer in one message"
            )
        self._seen, self._hits = (), {}
        if not elements:
            where = (
                f"at {self.each.path!r}, which each of its route names" if self.each.path else "in the array"
            )
            raise Reject("empty_message", f"there is no reading {where}")
        if self._name:
            parts = self._grouped(elements, metric)
        else:
            parts = [self._part(each, number, metric) for number, each in _numbered(elements)]
        if not self.each.path:
            return parts, []
        used = {place for part in parts for place in part.around.places}
        left_out = [(name, _LEFT_OUT) for name in self.each.left(message, elements, used)]
        return _with_keys(parts), left_out

    def cut(self, message: Any, part: Part, *, several: bool) -> Any:  # noqa: ANN401  # likewise
        """The message with one of its readings and no others; None when there is no such thing.

        Args:
            message: all of it.
            part: the reading.
            several: whether there are others of its message, so that its key has its number.
        """
        around = part.around
        if not part.places or not self._cuts or (several and around.keyed and around.key is None):
            return None
        cut = self.each.only(message, part.places, around=around.everything, counted=self._counted)
        within, at = (cut[0], 1) if type(message) is list else (cut, 0)
        whole = message[part.message] if at else message
        for place in around.places if not around.everything else ():
            if place != around.key and not graft(within, whole, place[at:]):
                return None
        if around.key is not None:
            key = _numbered_key(_at(message, around.key), part.number) if several else None
            if not graft(within, whole, around.key[at:], key):
                return None
        return cut

    def together(self, message: Any, parts: Sequence[Part]) -> Any:  # noqa: ANN401  # likewise
        """The message without what some other readings are; None when their keys would not be the same."""
        if any(part.around.keyed or not part.places for part in parts) or not self._cuts:
            return None
        places = sorted({place for part in parts for place in part.places}, key=_in_order)
        return self.each.only(message, places, around=True, counted=self._counted)

    def _part(self, element: Element, number: int, metric: str | None) -> Part:
        places = (element.place,) if element.place is not None and self._cuts else ()
        try:
            said = self._read(element, metric)
            metrics = self._words.apply(said.metrics, self.unfit)
            online = self._presence and self._presence.of(element.value, metrics, self.unfit)
            left_out = self.unfit.fields[:]
            return Part(
                (*said.names, metrics, True),
                said.tags,
                number,
                element.message,
                places,
                said.around,
                None,
                left_out,
                online,
            )
        except Reject as reject:
            return Part(None, {}, number, element.message, places, self._around_refused(element), reject)
        finally:
            self.unfit.fields.clear()

    def _around_refused(self, element: Element) -> _Around:
        """All of it, as it is not known what was looked for; and the key of its message, if it has that."""
        hit = self._around(_KEY, self._looks[_KEY], element)
        if hit is None or any(look.find(element.value) for look in self._looks[_KEY]):
            return _Around(everything=bool(element.around))
        return _Around((), hit[1], keyed=True, everything=True)

    def _grouped(self, elements: list[Element], metric: str | None) -> list[Part]:
        """Readings of the metrics of elements; one that says a metric again begins another."""
        found: list[_Group | Part] = []
        open_: dict[tuple[Any, ...], _Group] = {}
        for number, element in _numbered(elements):
            part = self._part(element, number, metric)
            if part.mapped is None:
                found.append(part)
                continue
            *names, metrics, _ = part.mapped
            tags = frozenset(part.tags.items()) if part.tags else None
            key = (part.message, *names, *map(type, names), part.around.keyed, part.around.everything, tags)
            if not _HASHABLE.issuperset(map(type, names)):
                key = (*key[:1], *map(id, names), *key[5:])
            group = open_.get(key)
            if group is None or any(name in group.metrics for name in metrics):
                group = open_[key] = _Group(part, metrics)
                found.append(group)
            else:
                group.metrics.update(metrics)
            group.places += part.places
            group.around.update(part.around.places)
            group.left_out += part.left_out
        return [each if isinstance(each, Part) else each.part() for each in found]

    def _read(self, element: Element, metric: str | None) -> _Said:
        value = element.value
        if type(value) is not dict:
            value = self._wrapped(value, metric)
        rest = value.copy()
        within = f"{metric}." if metric else ""
        self._flattening.within = within
        named_so = of = None
        if self._name:
            named_so = self._taken(self._name, element, value, rest)
            of = self._taken(self._value, element, value, rest)
            self._flattening.within = f"{within}{named_so}." if type(named_so) in SCALARS else within
        names, around = self._found(element, value, rest)
        tags: dict[str, str] = {}
        if self._tags:
            tags, around = self._read_tags(element, value, rest, around)
        if self._metrics:
            fields = self._chosen(value, rest)
        else:
            plain = len(rest) <= self._max_tags and SCALARS.issuperset(map(type, rest.values()))
            fields = rest if plain else self._flattening.flatten(rest)
            if self._name:
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
    ) -> tuple[tuple[Any, Any, Any, Any], _Around]:
        """Device, key, time and region, which leave the rest; and which of them were found around."""
        places: list[Place] = []
        keyed, everything, key_place = False, False, None
        names: list[Any] = []
        bare = self._simple and self._names.isdisjoint(value)
        for at, looks in enumerate(self._looks):
            found = None if bare else self._taken(looks, element, value, rest)
            if found is None and element.around and (hit := self._around(at, looks, element)):
                found, place = hit
                everything |= place is None
                places += () if place is None else (place,)
                if at == _KEY:
                    keyed, key_place = True, place
            names.append(found)
        around = _Around(tuple(places), key_place, keyed, everything) if places or everything else _NOTHING
        return (names[0], names[1], names[2], names[3]), around

    def _wrapped(self, value: Any, metric: str | None) -> dict[str, Any]:  # noqa: ANN401  # a message is any value
        if type(value) is Refused:
            raise value.reject()
        if not self.each.path and not metric and not self._name:
            raise Reject("wrong_root", f"{kind_of(value)}, expected an object or an array of objects")
        if type(value) is list:
            if not self.each.path and not self._name:
                raise Reject(
                    "wrong_root", f"{kind_of(value)}, expected an object, a number, a boolean or a string"
                )
            return {str(at): each for at, each in enumerate(value)}
        if value is None:
            raise Reject("wrong_root", "null, expected an object, a number, a boolean or a string")
        return {"value": value}

    def _taken(self, looks: list[_Look], element: Element, value: Any, rest: dict[str, Any]) -> Any:  # noqa: ANN401  # likewise
        """What stands at the first path that is there in the element; it leaves the rest of it."""
        for look in looks:
            if look.name:
                found = rest.pop(look.name, None)
                if found is not None:
                    return found
                continue
            if look.star is not None:
                return element.stars[look.star]
            hit = look.find(value if look.made else rest)
            if hit is not None:
                found, place = hit
                if place:
                    _remove(rest, place)
                return found
        return None

    def _around(self, at: int, looks: list[_Look], element: Element) -> Found | None:
        """What stands at the first path that is there in the innermost object around an element that has one.

        It is looked for once for elements of one array.
        """
        if element.around is not self._seen:
            self._seen, self._hits = element.around, {}
        if at not in self._hits:
            self._hits[at] = None
            for value, prefix in element.around:
                hit = next((hit for look in looks if look.star is None and (hit := look.find(value))), None)
                if hit is not None:
                    self._hits[at] = hit[0], None if hit[1] is None else (*prefix, *hit[1])
                    break
        return self._hits[at]

    def _read_tags(
        self,
        element: Element,
        value: Any,  # noqa: ANN401  # a message is any value
        rest: dict[str, Any],
        around: _Around,
    ) -> tuple[dict[str, str], _Around]:
        """Tags, also of what means something else; and what was found around, these included."""
        tags: dict[str, str] = {}
        places: list[Place] = []
        made = False
        for at, (name, look) in enumerate(self._tags, len(self._looks)):
            found = self._taken([look], element, value, rest)
            if found is None and name in self._shared and (hit := look.find(value)):
                found = hit[0]
            if found is None and (hit := self._around(at, [look], element)):
                found, place = hit
                made |= place is None
                places += () if place is None else (place,)
            if type(found) is dict:
                for inner, each in _scalars(found, ""):
                    self._tag(tags, inner, each)
            elif type(found) is list:
                for inner, each in _scalars(found, f"{name}."):
                    self._tag(tags, inner, each)
            elif found is not None:
                self._tag(tags, name, found)
        if places or made:
            around = around._replace(places=(*around.places, *places), everything=around.everything or made)
        return tags, around

    def _tag(self, tags: dict[str, str], name: str, value: Any) -> None:  # noqa: ANN401  # likewise
        if type(value) is NoNumber:
            self.unfit.add(name[: self._max_name], value.reason, f"tag {name[:40]!r} is {value.text[:40]}")
            return
        text = value if type(value) is str else msgspec.json.encode(value).decode()
        fault = tag_fault(name, text)
        reason = "invalid_tag"
        if name in tags:
            reason, fault = "duplicate_key", f"two tags of the message are called {name[:40]!r}"
        elif len(tags) == self._max_tags:
            fault = f"{self._max_tags} tags and more, gateway.max_metrics allows as many"
        if fault:
            self.unfit.add(name[: self._max_name], reason, fault)
        else:
            tags[name] = text

    def _chosen(self, value: Any, rest: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401  # likewise
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
            _remove(rest, place)
        self.unfit.fields += [(name, _LEFT_OUT) for name in _beside(rest, holder, place)]
        if type(holder) is list:
            holder = {str(at): each for at, each in enumerate(holder)}
        elif type(holder) is not dict:
            holder = {path if is_plain(path) else "value": holder}
        return self._flattening.flatten(holder)

    def _one(self, name: object, value: Any, fields: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401  # likewise
        """The metric that an element is, and what else it says of it."""
        if type(name) not in SCALARS or name == "":
            where = " | ".join(look.path for look in self._name)
            raise Reject("invalid_metric", f"an element names no metric at {where!r}")
        name = str(name)
        if fault := metric_fault(name, self._max_name):
            self.unfit.add(name[: self._max_name], "invalid_metric", fault)
            self.unfit.fields += [(each, _LEFT_OUT) for each in fields]
            return {}
        metrics = {name: value} if type(value) in SCALARS else self._flattening.flatten({name: value})
        for rest, each in fields.items():
            path = f"{name}.{rest}"
            if path in metrics:
                self.unfit.add(path, "duplicate_key", f"two fields of the message are called {path[:40]!r}")
            else:
                metrics[path] = each
        return metrics


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
        or route.presence
        or route.numbers != "as_sent"
        or isinstance(route.ignore, tuple)
        or "|" in route.metrics
        or not all(map(is_plain, paths))
        or any(star_of(each) is not None for path in paths for each in alternatives(path))
    )


def _look(path: str, where: str, stars: int) -> _Look:
    star = star_of(path)
    if star is not None:
        if star >= stars:
            raise ConfigurationError(f"{where}: {path} is what a * in each stands for, and there are {stars}")
        return _Look(path, lambda _: None, star, made=False, name="")
    made = not is_plain(path) and steps_of(path) is None
    name = path if is_plain(path) and "." not in path else ""
    return _Look(path, compile_find(path, where), None, made, name)


def _steps(path: str) -> Sequence[str]:
    return path.split(".") if is_plain(path) else [str(step) for step in steps_of(path) or ()]


def _numbered(elements: list[Element]) -> Iterator[tuple[int, Element]]:
    number, message = -1, -1
    for element in elements:
        number = number + 1 if element.message == message else 0
        message = element.message
        yield number, element


def _with_keys(parts: list[Part]) -> list[Part]:
    """The readings of a message, each with a key of its own where the message has one."""
    if len(parts) == 1 or not any(part.around.keyed for part in parts):
        return parts
    counts = Counter(part.message for part in parts)
    return [_with_key(part) if counts[part.message] > 1 else part for part in parts]


def _with_key(part: Part) -> Part:
    if part.mapped is None or not part.around.keyed:
        return part
    device_id, key, *rest = part.mapped
    return part._replace(mapped=(device_id, _numbered_key(key, part.number), *rest))


def _numbered_key(key: Any, number: int) -> Any:  # noqa: ANN401  # likewise
    return f"{key}:{number}" if type(key) in {str, int} else key


def _at(value: Any, place: Place) -> Any:  # noqa: ANN401  # likewise
    for step in place:
        value = value[step]
    return value


def _remove(rest: dict[str, Any], place: Place) -> None:
    """Take what stands at a place out of an object, and leave alone what stands in that."""
    first, inner = place[0], place[1:]
    if not inner:
        del rest[first]  # type: ignore[arg-type]  # of an object
    else:
        rest[first] = without(rest[first], inner)  # type: ignore[index]  # likewise


def _tag_names(paths: Sequence[str], where: str) -> list[str]:
    """The last name of each path; the whole path where two are alike."""
    lasts = [_last(path) for path in paths]
    names = [last if lasts.count(last) == 1 else path for last, path in zip(lasts, paths, strict=True)]
    for name in names:
        if fault := tag_fault(name, ""):
            raise ConfigurationError(f"{where}.tags: {fault}")
        if names.count(name) > 1:
            raise ConfigurationError(f"{where}.tags: {name!r} is there twice")
    return names


def _last(path: str) -> str:
    if is_plain(path):
        return path.rpartition(".")[2].strip()
    return path.rstrip('"]').replace('"', ".").replace("]", ".").rpartition(".")[2]


def _scalars(value: Any, prefix: str, depth: int = MAX_DEPTH) -> Iterator[tuple[str, Any]]:  # noqa: ANN401  # likewise
    """The scalars of an object or array, by their paths, as far as those may be names of tags."""
    for name, member in value.items() if type(value) is dict else enumerate(value):
        if type(member) in {dict, list}:
            if not depth:
                raise Reject("too_deep", f"{prefix[:40]!r} is nested deeper than {MAX_DEPTH}")
            yield from _scalars(member, f"{prefix}{name}."[:_LONG], depth - 1)
        elif member is not None:
            yield f"{prefix}{name}"[:_LONG], member


def _beside(rest: Any, holder: Any, place: Place | None) -> list[str]:  # noqa: ANN401  # likewise
    """What an element holds beside its metrics."""
    if place is not None or holder is None:
        return list(names_in(rest))
    names = list(names_in(rest))
    if type(holder) in {dict, list} and len(beside := list(names_in(rest, but={id(holder)}))) < len(names):
        return beside
    return [_BESIDE] if names else []


def _in_order(place: Place) -> tuple[tuple[str, int], ...]:
    return tuple(("", step) if type(step) is int else (str(step), 0) for step in place)
