"""Which devices are beyond which limits, for whoever asks."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from heapq import nsmallest
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import msgspec

from contract.events import format_time
from projector.limits.rules import CRIT, STATES
from runtime.errors import Retry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from projector.limits.book import State
    from projector.limits.states import Limits

_PIECE: Final = 5000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class BeyondLimit(msgspec.Struct, frozen=True):
    """A metric of a device that is beyond a limit.

    Attributes:
        region: which the device named last with it; null when none.
        when: on which side of the limit is beyond.
        value: the newest.
        limit: the number beyond which it is.
        since: from when on that has counted, by the gateway's clock.
        measured_at: when the newest value counts as measured.
    """

    device_id: str
    region: str | None
    metric: str
    when: str
    state: Literal["ok", "warn", "crit"]
    value: float
    limit: float | None
    since: str
    measured_at: str


class LimitCount(msgspec.Struct, frozen=True):
    """How many devices are within the limits of a metric and a side, and beyond."""

    metric: str
    when: str
    ok: int
    warn: int
    crit: int


class Hot(NamedTuple):
    """How many devices are beyond a limit, and how many readings beyond a critical one; None: not known."""

    devices: int | None
    crit: int | None


class Asked(NamedTuple):
    """Which are asked for; None is any."""

    state: str | None = None
    metric: str | None = None
    region: str | None = None


class Page(NamedTuple):
    """Some devices by id, with all of theirs that is asked for; and the last of them when there are more."""

    limits: list[BeyondLimit]
    after: str | None


class Beyond:
    """What is beyond a limit in this site."""

    def __init__(self) -> None:
        self._limits: Limits | None = None
        self._is_learned = False

    def use(self, limits: Limits) -> None:
        """Show these, once it is known what devices sent before."""
        self._limits, self._is_learned = limits, False

    def learned(self) -> None:
        """Note that it is known what devices sent before."""
        self._is_learned = True

    def begin_anew(self) -> None:
        """Note that rows were passed over: what devices sent in them is not known."""
        self._is_learned = False

    def counts(self) -> list[LimitCount]:
        """How many devices are within and beyond, of each metric and side.

        Raises:
            Retry: what devices sent before is not known yet.
        """
        return [LimitCount(metric, when, *numbers) for metric, when, numbers in self._known().counts()]

    async def page(self, asked: Asked, *, limit: int, after: str | None = None) -> Page:
        """List what is beyond; however much that is, others have their turn meanwhile.

        Args:
            asked: which.
            limit: how many devices at the most.
            after: the id of the device after which to go on.

        Raises:
            Retry: what devices sent before is not known yet.
        """
        beyond = self._known().beyond
        every, found = list(beyond), list[str]()
        for start in range(0, len(every), _PIECE):
            some = (id_ for id_ in every[start : start + _PIECE] if after is None or id_ > after)
            found += (id_ for id_ in some if any(_fits(each, asked) for each in beyond.get(id_, {}).values()))
            found = nsmallest(limit + 1, found)
            await asyncio.sleep(0)
        page = found[:limit]
        limits = [shown for id_ in page for shown in _shown(beyond.get(id_, {}).values(), asked)]
        return Page(limits, page[-1] if len(found) > limit else None)

    def hot(self) -> Hot | None:
        """How much is beyond; None without limits."""
        limits = self._limits
        if limits is None or not limits.groups:
            return None
        if not self._is_learned:
            return Hot(None, None)
        return Hot(len(limits.beyond), sum(numbers[CRIT] for _, _, numbers in limits.counts()))

    def ids(self) -> frozenset[str]:
        """The devices that are beyond a limit."""
        return frozenset(self._limits.beyond if self._limits is not None else ())

    def of(self, ids: Iterable[str]) -> dict[str, dict[str, Literal["ok", "warn", "crit"]]]:
        """Of those of these devices that are beyond: metric → the worse of its states."""
        beyond = {} if self._limits is None else self._limits.beyond
        return {
            id_: {
                metric: STATES[max(state.level for (its, _), state in states.items() if its == metric)]
                for metric, _ in sorted(states)
            }
            for id_ in ids
            if (states := beyond.get(id_))
        }

    def _known(self) -> Limits:
        if self._limits is None or not self._is_learned:
            raise Retry("limits", "what devices sent last is being read")
        return self._limits


def _fits(state: State, asked: Asked) -> bool:
    return (
        asked.state in {None, STATES[state.level]}
        and asked.metric in {None, state.key[1]}
        and asked.region in {None, state.region}
    )


def _shown(states: Iterable[State], asked: Asked) -> Iterator[BeyondLimit]:
    for state in sorted(states, key=lambda each: each.key):
        if _fits(state, asked):
            device_id, metric, when = state.key
            yield BeyondLimit(
                device_id,
                state.region,
                metric,
                when,
                STATES[state.level],
                state.value,
                state.rule.crossed(state.level),
                text(state.at),
                text(state.mark[0]),
            )


def text(us: int) -> str:
    """Microseconds since 1970 in the contract's form."""
    return format_time(_EPOCH + timedelta(microseconds=us))
