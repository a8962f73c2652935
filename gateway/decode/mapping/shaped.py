"""Readings out of messages that are not one flat object: arrays inside, a metric an element, names to change.

`each` finds the elements, and `element` reads them. With `name` and `value` an element is one metric, what
else it says stands under that name, and elements of one device, key, time and region are one reading. What of
the message is in no element, and not looked for, is left out, and counted.

A key around several readings is the message's: each of them has it with its number, `k17:0`, `k17:1`. Where a
message is cut, each piece has what its reading needs of what is around, its own key among it, so that it is
decoded again to the same reading. A message is not cut where what is looked for around could be another thing
in a piece: an expression that looks at what is cut, or a path that stands in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gateway.decode.fields import Unfit
from gateway.decode.known import Room
from gateway.decode.limits import MAX_ELEMENTS, READING_WORK, check_count, readings_allowed, too_many_values
from gateway.decode.mapping.each import Each, Element, graft
from gateway.decode.mapping.element import LEFT_OUT, Elements
from gateway.decode.mapping.learned import Learned, nothing_known, nothing_seen
from gateway.decode.mapping.listed import listed_of
from gateway.decode.mapping.naming import Naming
from gateway.decode.mapping.parts import Group, Part, group_key, numbered_key, with_keys
from gateway.decode.mapping.words import Words
from gateway.decode.paths import alternatives, is_plain, star_of
from gateway.decode.steps import finish
from runtime.errors import Reject

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from gateway.decode.limits import Limits
    from gateway.decode.paths import Place
    from gateway.decode.plan import Plan
    from runtime.settings import Route


_ROOM_BYTES: Final = 8_000_000

Parts = tuple[list[Part], list[tuple[str, str]]]


class Shaper:
    """Reads the messages of one route.

    Args:
        route: the route.
        plan: made of it.
        limits: bound what is looked at.
        where: its place in the file, for errors.
        room: what is remembered takes its bytes of that; of one of its own when it is not given.
        resolve: what a message means that `known` is asked for; None where it means what it says.

    Attributes:
        each: finds the elements.
        unfit: takes fields that cannot be metrics.
        known: what a message says that is one reading, by its shape; None where it is to be read as ever.
        seen: the same of one that was only glanced at.

    Raises:
        ConfigurationError: a path means nothing, or settings contradict each other.
    """

    def __init__(
        self,
        route: Route,
        plan: Plan,
        limits: Limits,
        where: str,
        room: Room | None = None,
        *,
        resolve: Callable[[Any, bytes], Any] | None = None,
    ) -> None:
        self._resolve = resolve
        self._room = room = room or Room(_ROOM_BYTES)
        self.each = Each(route.each, f"{where}.each", room)
        self.unfit = Unfit(drop=plan.drop)
        words = Words(route, where, limits.max_metric_name)
        self._elements = Elements(route, limits, where, self.each.stars, words, self.unfit, room)
        self._counted = any(look.star is not None for look in self._elements.looks)
        self._cuts = self.each.cuts and not any(
            self.each.moves(None if look.made else look.steps, look.path)
            for look in self._elements.wanted
            if look.star is None
        )
        self._made = any(look.made for look in self._elements.looks) or not self.each.cuts
        self._listed = listed_of(self.each, self._elements, words, limits, self.unfit, room, cuts=self._cuts)
        learned = None if route.each or resolve is not None else self._elements.learned
        if self._listed is not None:  # its elements do without
            learned = None
            if not words.adds:  # the elements of one reading are read one by one
                naming = Naming(self.each, self._elements)
                learned = Learned(self._one, words, self._elements.tags, self.unfit, room, naming)
        self.known = nothing_known if learned is None else learned.find
        self.seen = nothing_seen if learned is None else learned.see

    def parts(
        self,
        message: Any,  # noqa: ANN401  # a format's value is any value
        metric: str | None,
        size: int = 0,
    ) -> Parts:
        """The readings of a message, in the order of their first elements, and what is in none of them.

        Args:
            message: what a format made of the payload.
            metric: what the topic calls it.
            size: of its payload, in bytes.

        Raises:
            Reject: the message has none, or too many.
        """
        return finish(self.in_steps(message, metric, size))

    def in_steps(
        self,
        message: Any,  # noqa: ANN401  # likewise
        metric: str | None,
        size: int,
    ) -> Generator[None, None, Parts]:
        """The same in steps, between which others may have their turn."""
        read = self._elements.read
        if self._made:
            _check_size(message, self._room.patience * MAX_ELEMENTS)
        if type(message) is dict and not self.each.path and not self._elements.name:
            element = Element(message, (), ())
            return [read(element, 0, metric, self._places(element))], []
        if self._listed and metric is None and (found := (yield from self._listed.in_steps(message, size))):
            return found
        most = self._room.patience * readings_allowed(size)
        elements = self.each.find(message, most)
        self._room.check(READING_WORK * len(elements))
        check_count(len(elements), most, "elements" if self._elements.name else "readings", fixed=False)
        self._elements.surroundings.forget()
        if not elements:
            where = (
                f"at {self.each.path!r}, which each of its route names" if self.each.path else "in the array"
            )
            raise Reject("empty_message", f"there is no reading {where}")
        found_ = [
            read(element, number, metric, self._places(element)) for number, element in _numbered(elements)
        ]
        parts = _grouped(found_) if self._elements.name else found_
        if not self.each.path:
            return parts, []
        used = {place for part in parts for place in part.around.places}
        left_out = [(name, LEFT_OUT) for name in self.each.left(message, elements, used)]
        return with_keys(parts), left_out

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
            key = numbered_key(_at(message, around.key), part.number) if several else None
            if not graft(within, whole, around.key[at:], key):
                return None
        return cut

    def together(self, message: Any, parts: Sequence[Part]) -> Any:  # noqa: ANN401  # likewise
        """The message without what some other readings are; None when their keys would not be the same."""
        if any(part.around.keyed or not part.places for part in parts) or not self._cuts:
            return None
        places = sorted({place for part in parts for place in part.places}, key=_in_order)
        return self.each.only(message, places, around=True, counted=self._counted)

    def _one(self, message: Any, metric: str | None) -> Part | None:  # noqa: ANN401  # likewise
        """The only reading of a message, with all that is left out; None where there are several."""
        try:
            if self._resolve is not None:
                message = self._resolve(message, b"")
            parts, left_out = self.parts(message, metric)
        except Reject:
            return None
        (part, *others) = parts
        return None if others else part._replace(left_out=[*left_out, *part.left_out])

    def _places(self, element: Element) -> tuple[Place, ...]:
        return (element.place,) if element.place is not None and self._cuts else ()


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


def _check_size(message: Any, most: int) -> None:  # noqa: ANN401  # a message is any value
    """Refuse a message with more values than an expression may look through: each costs ten microseconds.

    Raises:
        Reject: reason `too_many_values`.
    """
    left, open_ = most, [message]
    while open_:
        value = open_.pop()
        if type(value) is list:
            left -= len(value)
            open_ += _holders(value)
        elif type(value) is dict:
            holders = _holders(value.values())
            left -= len(holders)
            open_ += holders
        if left < 0:
            raise too_many_values(
                most, "values, which an expression of its route would look through,", fixed=False
            )


def _holders(values: Iterable[Any]) -> list[Any]:
    return [value for value in values if type(value) is list or type(value) is dict]


def _grouped(parts: list[Part]) -> list[Part]:
    """Readings of the metrics of elements; one that says a metric again begins another."""
    found: list[Group | Part] = []
    open_: dict[tuple[Any, ...], Group] = {}
    for part in parts:
        if part.mapped is None:
            found.append(part)
            continue
        metrics, key = part.mapped[4], group_key(part)
        group = open_.get(key)
        if group is None or not group.metrics.keys().isdisjoint(metrics):
            group = open_[key] = Group(part, metrics)
            found.append(group)
        else:
            group.metrics.update(metrics)
        group.places += part.places
        group.around.update(dict.fromkeys(part.around.places))
        group.left_out += part.left_out
    return [each if isinstance(each, Part) else each.part() for each in found]


def _numbered(elements: list[Element]) -> Iterator[tuple[int, Element]]:
    number, message = -1, -1
    for element in elements:
        number = number + 1 if element.message == message else 0
        message = element.message
        yield number, element


def _at(value: Any, place: Place) -> Any:  # noqa: ANN401  # likewise
    for step in place:
        value = value[step]
    return value


def _in_order(place: Place) -> tuple[tuple[str, int], ...]:
    return tuple(("", step) if type(step) is int else (str(step), 0) for step in place)
