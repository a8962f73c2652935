"""Tags that a message names: what a path finds, or each scalar of an object or array that it finds. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from gateway.decode.fields import NoNumber
from gateway.decode.limits import MAX_DEPTH
from gateway.decode.mapping.looks import compile_look, remove, taken
from gateway.decode.names import MAX_NAME, tag_fault
from gateway.decode.paths import alternatives, is_plain
from runtime.errors import ConfigurationError, Reject

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gateway.decode.fields import Unfit
    from gateway.decode.limits import Limits
    from gateway.decode.mapping.each import Element
    from gateway.decode.mapping.looks import Surroundings
    from gateway.decode.mapping.parts import Around

_FIRST: Final = 4  # of what is looked for: the numbers before are device, key, time and region
_LONG: Final = MAX_NAME + 1  # characters: too long for a tag's name


class Tags:
    """Those of a route.

    Args:
        paths: of them.
        where: the route's place in the file, for errors.
        stars: how many `*` there are in `each`.
        taken_paths: paths that mean something else.
        limits: bound how many there are.
        unfit: takes what cannot be one.

    Attributes:
        looks: by name.
        shared: those that may mean something else, too.

    Raises:
        ConfigurationError: a path means nothing, or two come to one name.
    """

    def __init__(  # noqa: PLR0917  # of one place
        self,
        paths: Sequence[str],
        where: str,
        stars: int,
        taken_paths: Sequence[str],
        limits: Limits,
        unfit: Unfit,
    ) -> None:
        looks = [compile_look(path, f"{where}.tags", stars) for path in paths]
        self.looks = list(zip(_names(paths, where), looks, strict=True))
        self.shared = {
            name
            for name, look in self.looks
            if any(
                f"{look.path}.".startswith(f"{path}.") or path.startswith(f"{look.path}.")
                for path in taken_paths
            )
        }
        self._unfit = unfit
        self._max_name, self._most = limits.max_metric_name, limits.max_metrics

    def read(  # noqa: PLR0917  # of one place
        self,
        element: Element,
        value: Any,  # noqa: ANN401  # a message is any value
        rest: dict[str, Any],
        own: set[object],
        around: Around,
        surroundings: Surroundings,
    ) -> tuple[dict[str, str], Around]:
        """Tags, also of what means something else; and what was found around, these included.

        Args:
            element: of which.
            value: its.
            rest: what is left of it; tags leave it.
            own: members of that which are copies.
            around: what was found around it.
            surroundings: of all elements.
        """
        tags: dict[str, str] = {}
        places = around.places
        made = around.everything
        for number, (name, look) in enumerate(self.looks, _FIRST):
            if look.name:
                found = rest.pop(look.name, None)
            elif look.star is not None or look.made:
                found = taken((look,), element, value, rest, own)
            elif hit := look.find(rest):
                found, place = hit
                remove(rest, place or (), own)
            else:
                found = None
            if found is None and name in self.shared and (hit := look.find(value)):
                found = hit[0]
            if found is None and element.around and (hit := surroundings.find(number, (look,), element)):
                found, place = hit
                made |= place is None
                places += () if place is None else (place,)
            if found is not None:
                self.add(tags, name, found)
        if places is not around.places or made != around.everything:
            around = around._replace(places=places, everything=made)
        return tags, around

    def add(self, tags: dict[str, str], name: str, found: Any) -> None:  # noqa: ANN401  # likewise
        """The tags that something found comes to."""
        if type(found) is dict:
            for inner, each in _scalars(found, ""):
                self._add(tags, inner, each)
        elif type(found) is list:
            for inner, each in _scalars(found, f"{name}."):
                self._add(tags, inner, each)
        else:
            self._add(tags, name, found)

    def _add(self, tags: dict[str, str], name: str, value: Any) -> None:  # noqa: ANN401  # likewise
        if type(value) is NoNumber:
            detail = f"tag {name[:40]!r} is {value.text[:40]}"
            self._unfit.add(name[: self._max_name], value.reason, detail)
            return
        text = value if type(value) is str else msgspec.json.encode(value).decode()
        reason, fault = "invalid_tag", tag_fault(name, text)
        if name in tags:
            reason, fault = "duplicate_key", f"two tags of the message are called {name[:40]!r}"
        elif len(tags) == self._most:
            fault = f"{self._most} tags and more, gateway.max_metrics allows as many"
        if fault:
            self._unfit.add(name[: self._max_name], reason, fault)
        else:
            tags[name] = text


def _names(paths: Sequence[str], where: str) -> list[str]:
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
        return alternatives(path)[0].rpartition(".")[2]
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
