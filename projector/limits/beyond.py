"""Which devices are beyond which limits, for whoever asks."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from heapq import merge
from time import monotonic
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, cast

import msgspec

from contract.events import format_time
from projector.limits.rules import CRIT, STATES, Rules
from projector.limits.states import Limits
from runtime.errors import Retry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from projector.limits.book import State

PIECE: Final = 5000
SORTED_S: Final = 1.0
_ROW: Final = 10  # takes as long as so many looks

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class BeyondLimit(msgspec.Struct, frozen=True):
    """A metric of a device that is beyond a limit.

    Attributes:
        region: which the device named last with it; null when none.
        when: on which side of the limit is beyond.
        value: the newest.
        limit: the number beyond which it is; null for what was told before that was changed.
        since: from when on that has counted, by the gateway's clock.
        measured_at: when the newest value counts as measured.
    """

    device_id: str
    region: str | None
    metric: str
    when: str
    state: Literal["warn", "crit"]
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
    """What is beyond a limit in this site; where none is set, nothing.

    Args:
        rules: what was set.
    """

    def __init__(self, rules: Rules | None = None) -> None:
        self._limits = Limits(rules or Rules([]))
        self._is_learned = not rules
        self._sorted: list[list[str]] = []
        self._sorted_of: object = None
        self._sorted_at = 0.0
        self._sorting = asyncio.Lock()

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
        runs = await self._runs(beyond)
        page: list[str] = []
        limits: list[BeyondLimit] = []
        looked = 0
        for id_ in merge(*(run[bisect_right(run, after or "") :] for run in runs)):
            looked += 1
            if any(_fits(each, asked) for each in beyond.get(id_, {}).values()):
                if len(page) == limit:
                    return Page(limits, page[-1])
                page.append(id_)
                limits += _shown(beyond[id_].values(), asked)
                looked += _ROW
            if looked >= PIECE:
                looked = 0
                await asyncio.sleep(0)
        return Page(limits, None)

    async def _runs(self, beyond: Mapping[str, object]) -> list[list[str]]:
        """The ids in pieces, each of them sorted; of very many as they were within a second."""
        async with self._sorting:
            is_old = len(beyond) <= PIECE or monotonic() - self._sorted_at >= SORTED_S
            if is_old or self._sorted_of is not beyond:
                every, runs = list(beyond), list[list[str]]()
                for start in range(0, len(every), PIECE):
                    runs.append(sorted(every[start : start + PIECE]))
                    await asyncio.sleep(0)
                self._sorted, self._sorted_of, self._sorted_at = runs, beyond, monotonic()
            return self._sorted

    def hot(self) -> Hot | None:
        """How much is beyond; None without limits."""
        limits = self._limits
        if not limits.groups:
            return None
        if not self._is_learned:
            return Hot(None, None)
        return Hot(len(limits.beyond), sum(numbers[CRIT] for _, _, numbers in limits.counts()))

    def ids(self) -> frozenset[str]:
        """The devices that are beyond a limit."""
        return frozenset(self._limits.beyond)

    def of(self, ids: Iterable[str]) -> dict[str, dict[str, Literal["ok", "warn", "crit"]]]:
        """Of those of these devices that are beyond: metric → the worse of its states."""
        beyond = self._limits.beyond
        return {
            id_: {
                metric: STATES[max(state.level for (its, _), state in states.items() if its == metric)]
                for metric, _ in sorted(states)
            }
            for id_ in ids
            if (states := beyond.get(id_))
        }

    def _known(self) -> Limits:
        if not self._is_learned:
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
                cast("Literal['warn', 'crit']", STATES[state.level]),
                state.value,
                state.rule.crossed(state.level),
                text(state.at),
                text(state.mark[0]),
            )


def text(us: int) -> str:
    """Microseconds since 1970 in the contract's form."""
    return format_time(_EPOCH + timedelta(microseconds=us))
