"""The parameters of the query API: what they look like, and what is wrong with those that do not fit."""

from __future__ import annotations

import re
import time
from math import isfinite
from typing import TYPE_CHECKING, Annotated, Any, Final

from litestar import Request  # noqa: TC002  # Litestar reads the hook's signature
from litestar.exceptions import ValidationException
from litestar.params import PathParameter, QueryParameter

from projector.query import CHOSEN, LOOK, Place, Selection
from projector.views.writes import RESERVED
from runtime.http import STORABLE
from runtime.settings import duration_s

if TYPE_CHECKING:
    from collections.abc import Iterable

_REPEATABLE: Final = frozenset({"tag", "label"})
_MAX_NAME: Final = 128
_MOST_TAGS: Final = 20
_DURATION: Final = "[1-9][0-9]{0,8}(ms|s|m|h|d)"
_LONGEST_TOKEN: Final = 1000  # a device id of 128 characters, four bytes each, in base 64

Name = Annotated[str, PathParameter(min_length=1)]
Id = Annotated[
    str,
    QueryParameter(
        name="id",
        min_length=1,
        max_length=_MAX_NAME,
        pattern=STORABLE,
        description="The same as in the path, for ids such as `..` that programs take out of a path unasked.",
    ),
]
Limit = Annotated[
    int,
    QueryParameter(ge=1, le=500, description="How many on a page."),
]
After = Annotated[
    str | None,
    QueryParameter(
        min_length=1,
        max_length=_LONGEST_TOKEN,
        description="`next` of the page before, as it is. The other parameters have to be the same again.",
    ),
]
Region = Annotated[
    str | None,
    QueryParameter(
        min_length=1,
        max_length=_MAX_NAME,
        description="Only devices of this region. "
        f"With it or `metric` a page looks at {LOOK:,} devices at most, however few fit.",
    ),
]
SilentFor = Annotated[
    str | None,
    QueryParameter(
        schema_extra={"pattern": f"^{_DURATION}$"},  # `selection` checks it, with a message for people
        description="Only devices without a reading for so long by their own clock, such as `90s`, `5m`, "
        "`2h`, `1d`.",
    ),
]
Metric = Annotated[
    str | None,
    QueryParameter(
        min_length=1, max_length=_MAX_NAME, description="Only devices that have sent this metric."
    ),
]
Above = Annotated[
    float | None,
    QueryParameter(description="Only devices whose last value of `metric` is a number greater than this."),
]
Below = Annotated[
    float | None,
    QueryParameter(description="Only devices whose last value of `metric` is a number less than this."),
]
Tags = Annotated[
    list[str] | None,
    QueryParameter(
        max_items=_MOST_TAGS,
        description="Only devices with this tag, as `name:value`, such as `tag=line:3`; may be given several "
        "times, and all have to fit.",
    ),
]
Labels = Annotated[
    list[str] | None,
    QueryParameter(
        max_items=_MOST_TAGS,
        description="Only devices that somebody gave this label (`gateway devices`), as `name:value`; may be "
        "given several times, and all have to fit. "
        f"With it a page looks at {CHOSEN} devices at most of those that fit otherwise.",
    ),
]
ClockAhead = Annotated[
    bool | None,
    QueryParameter(
        description="Only devices whose clock is ahead by more than five minutes, or with `false` all others."
    ),
]
Online = Annotated[
    bool | None,
    QueryParameter(
        description="Only devices that are online, as their own messages say, or with `false` offline; those "
        "that never said are neither."
    ),
]


def selection(
    *,
    region: str | None,
    silent_for: str | None,
    metric: str | None,
    above: float | None,
    below: float | None,
    tags: list[str] | None,
    clock_ahead: bool | None,
    online: bool | None,
) -> Selection:
    """Check parameters that the framework took one by one against each other.

    Raises:
        ValidationException: they do not go together.
    """
    for name, value in (("above", above), ("below", below)):
        if value is not None and not isfinite(value):
            raise refuse(name, "expected a finite number")
        if value is not None and metric is None:
            raise refuse(name, "needs `metric`, the metric to compare, such as `metric=temperature`")
    if metric in RESERVED:
        raise refuse("metric", f"a metric named {metric} has no last value to select by")
    until = None
    if silent_for is not None:
        if not re.fullmatch(_DURATION, silent_for):
            raise refuse("silent_for", "expected a duration such as `90s`, `5m`, `2h` or `1d`")
        until = int((time.time() - duration_s(silent_for)) * 1000)
    return Selection(region, until, metric, above, below, pairs("tag", tags), clock_ahead, online)


def pairs(parameter: str, given: Iterable[str] | None) -> dict[str, str]:
    """Read what a parameter gives as `name:value`, by name.

    Raises:
        ValidationException: one is none, or a name is to have two values.
    """
    found: dict[str, str] = {}
    for each in given or ():
        name, colon, value = each.partition(":")
        if not name or not colon:
            raise refuse(parameter, f"expected a name and a value, such as `{parameter}=line:3`")
        if found.setdefault(name, value) != value:
            raise refuse(parameter, f"{name} is to have two values, {found[name]!r} and {value!r}")
    return found


def place(after: str | None) -> Place | None:
    """Read the place from which a page of devices goes on.

    Raises:
        ValidationException: nobody has been given this place.
    """
    if after is None:
        return None
    try:
        return Place.parse(after)
    except ValueError:
        raise refuse("after", "expected the `next` of a page before, or nothing to begin anew") from None


async def refuse_unknown(request: Request[Any, Any, Any]) -> None:
    """Refuse query parameters that the route does not know, or that come twice: a typing error is no wish.

    Raises:
        ValidationException: it names each of them, and those that there are.
    """
    if not request.scope["query_string"]:
        return
    given = [name for name, _ in request.query_params.multi_items()]
    known = _query_parameters(request)
    wrong = {
        name: f"unknown; there are {', '.join(known)}" if known else "unknown; there are none"
        for name in given
        if name not in known
    }
    wrong |= {
        name: "given more than once"
        for name in given
        if name in known and name not in _REPEATABLE and given.count(name) > 1
    }
    if wrong:
        raise _refusals(wrong.items())


def _query_parameters(request: Request[Any, Any, Any]) -> list[str]:
    parameters = request.route_handler.parsed_fn_signature.parameters
    return [
        each.kwarg_definition.name or name
        for name, each in parameters.items()
        if isinstance(each.kwarg_definition, QueryParameter)
    ]


def refuse(parameter: str, message: str) -> ValidationException:
    """The refusal of one query parameter."""
    return _refusals([(parameter, message)])


def _refusals(wrong: Iterable[tuple[str, str]]) -> ValidationException:
    return ValidationException(
        extra=[{"key": name, "message": message, "source": "query"} for name, message in wrong]
    )
