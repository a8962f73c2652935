"""Which devices are beyond which limits: the state of all of them, changed by what is heard and by time.

A device's newest reading counts, by the order of last values (`contract/order.py`), so one that comes late
neither raises nor clears anything. A value counts as beyond once it, and what came after it, has been so for
the limit's `for`, by when readings reached the gateway and by the time of the stream that brought the newest
(`clocks.py`): a device that sends only what changes is called beyond too. After a pause of that stream that
is long beside `for` the time begins anew, so an outage makes nobody so; three times, or once where a reading
after it is beyond too. It is over at the first reading that is within the limit. What is text is no reading.
A device is forgotten when the site has gone on for long enough without any message of it.

What is known to have been told comes first (`Known`), so a start tells nothing again; what the views hold is
read as if it came then. What is decided waits in `pending`; what is over again meanwhile is not told of.

Devices that people have muted or retired are heard like others, but neither counted, shown nor told of. What
had been told of one is over with that, and others forget it (`left`); afterwards what it is beyond is told.

An event that no limit names costs one look whether names meet. Pure.
"""

from __future__ import annotations

from itertools import islice
from math import isfinite
from typing import TYPE_CHECKING, Final

from contract.order import microseconds, order_time
from projector.limits.book import SECOND, Change, Group, Known, State
from projector.limits.clocks import Clocks
from projector.limits.leaving import Leaving
from projector.limits.rules import OK

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping, Sequence

    from contract.events import Event, Scalar
    from projector.limits.book import Key, Mark
    from projector.limits.rules import Level, Rule, Rules

MOST: Final = 200_000
CHECKS: Final = 2000  # a turn: some milliseconds

_A_DAY_US: Final = 86_400 * SECOND
_FOR_EVER: Final = 1 << 62
_TIME: Final = len("2026-11-23T09:00:00.250000Z")


class Limits:
    """The devices of a site and the limits that were set.

    Args:
        rules: what was set.
        known: what was told before.
        most: so many devices and limits are known of, first those that were told of; others are counted.
        forget_after_s: how long after its newest message came a device is forgotten; None for never.
        besides: devices that are muted or retired; whoever changes them says so (`take_care`).

    Attributes:
        groups: metric → what is known of it, a group for each side that has limits.
        pending: what is to be told.
        beyond: device → its states that are beyond, by metric and side.
        left: of what others may forget that it was told.
        no_room: how many readings came of devices for which there is no room.
    """

    def __init__(
        self,
        rules: Rules,
        known: Mapping[Key, Known] | None = None,
        *,
        most: int = MOST,
        forget_after_s: float | None = None,
        besides: Container[str] = (),
    ) -> None:
        self.groups: dict[str, list[Group]] = {}
        for (metric, when), its in rules.items():
            self.groups.setdefault(metric, []).append(Group(metric, when, its))
        self.pending: dict[Key, Change] = {}
        self.beyond: dict[str, dict[tuple[str, str], State]] = {}
        self.left: dict[Key, None] = {}
        self.no_room = 0
        self._besides = besides
        self._known = dict(known or {})
        self._reserved = {key for key, its in self._known.items() if its.level > OK}
        self._most = most
        self._leaving = Leaving(forget_after_s)
        self._size = 0
        self._clocks = Clocks()
        self._waiting: dict[Key, State] = {}

    def __len__(self) -> int:
        return self._size

    def expect(self, stream: int, at: int) -> None:
        """Note a stream whose newest row came at `at`, epoch seconds, before anybody listened."""
        self._clocks.expect(stream, at)

    def hear(self, stream: int | None, at: int, events: Sequence[Event]) -> None:
        """Note that a row of a stream brought these events. Every event comes here.

        Args:
            stream: its number; None for replayed ones, which no gateway's time goes by.
            at: when the gateway received the last of them, epoch seconds.
            events: of one row.
        """
        if stream is not None:
            self._clocks.advance(stream, at)
            self._leaving.hear(at, events)
        names = self.groups.keys()
        for event in events:
            if not names.isdisjoint(event.metrics.keys()):
                self._hear(stream, event)

    def learn(self, device_id: str, region: str | None, metric: str, value: float, mark: Mark) -> None:
        """Take a last value that the views hold, as if it came when it did.

        Args:
            device_id: whose.
            region: where it is.
            metric: one that a limit names.
            value: a finite number.
            mark: its place in the order: order time in microseconds; time of receipt and key.
        """
        try:
            received_at = microseconds(mark[1][:_TIME])
        except ValueError:
            return
        for group in self.groups[metric]:
            self._read(group, device_id, region, value=value, mark=mark, at=received_at, stream=None)

    def all_learned(self, now: int) -> None:
        """Note that all that was known before is: what was told of and is not among it is over.

        Args:
            now: epoch seconds.
        """
        self._reserved.clear()
        for key, known in self._known.items():
            if known.level > OK:
                at = max(now * SECOND, known.at + 1)
                self.pending[key] = Change(key, None, OK, None, None, at, None)

    def turn(self, now: int = _FOR_EVER) -> None:
        """Decide about those of which time alone may decide, and forget who is gone, some of them a turn.

        Args:
            now: epoch seconds; a stream that is ahead of it is at now for others.
        """
        self._clocks.look(now)
        for key in list(islice(self._waiting, CHECKS)):
            state = self._waiting.pop(key)
            if clocks := self._clocks.of(state.stream):
                state.excuse(clocks)
                self._settle(state, min(clock.now for clock in clocks) * SECOND)
            if state.is_waiting:
                self._waiting[key] = state
        for device_id in self._leaving.gone(self._clocks.site, CHECKS):
            for group in (group for groups in self.groups.values() for group in groups):
                if device_id in group.states:
                    self._leave(group, group.states[device_id], self._clocks.site.now * SECOND)

    def take_care(self, device_id: str, at: int, *, holds: bool) -> None:
        """Note that a device is muted or retired from a time on, microseconds since 1970, or no longer is."""
        for group in (group for groups in self.groups.values() for group in groups):
            if state := group.states.get(device_id):
                group.counts[state.level] += -1 if holds else 1
                self._place(state)
                if holds:
                    self._silence(state)
                else:
                    self._speak(state, at)

    def take_pending(self, most: int) -> list[Change]:
        """Take some of what is to be told."""
        changes = []
        for key in list(islice(self.pending, most)):
            change, state, known = self.pending.pop(key), self._state(key), self._known.pop(key, None)
            if state:
                changes.append(change._replace(told=state.told))
                state.told = change.level
            else:
                changes.append(change._replace(told=known.level if known else OK))
                self._known[key] = Known(change.level, change.at)
        return changes

    def counts(self) -> Iterator[tuple[str, str, list[int]]]:
        """Of each metric and side how many devices are within, beyond `warn` and `crit`."""
        for groups in self.groups.values():
            for group in groups:
                yield group.metric, group.when, group.counts.copy()

    def _hear(self, stream: int | None, event: Event) -> None:
        try:
            at = microseconds(event.received_at)
            mark = (microseconds(order_time(event.ts, event.received_at)), event.received_at + event.key)
        except ValueError:
            return
        for metric in self.groups.keys() & event.metrics.keys():
            value = _number(event.metrics[metric])
            if value is not None:
                for group in self.groups[metric]:
                    self._read(
                        group, event.device_id, event.region, value=value, mark=mark, at=at, stream=stream
                    )

    def _read(
        self,
        group: Group,
        device_id: str,
        region: str | None,
        *,
        value: float,
        mark: Mark,
        at: int,
        stream: int | None,
    ) -> None:
        state = group.states.get(device_id)
        if state is not None:
            if mark <= state.mark:
                return
            region = state.region if region is None else region
        if state is not None and region == state.region:
            rule: Rule | None = state.rule
        else:
            rule = group.choice.of(device_id, region)
        if rule is None:
            if state is not None:
                self._leave(group, state, at)
            return
        if state is None and (state := self._meet(group, device_id, rule, at)) is None:
            return
        level = rule.level(value)
        if level == OK and state.warned is None and state.critical is None:
            state.rule, state.region, state.value, state.mark = rule, region, value, mark
            state.stream = stream
            return
        if stream is not None:
            state.excuse(self._clocks.of(stream))
        self._settle(state, at)  # what time had decided before it came
        state.rule, state.region, state.value, state.mark = rule, region, value, mark
        state.stream = stream
        state.read(level, at)
        self._settle(state, at)
        if state.is_waiting:
            self._waiting[state.key] = state
        else:
            self._waiting.pop(state.key, None)

    def _meet(self, group: Group, device_id: str, rule: Rule, at: int) -> State | None:
        key = (device_id, group.metric, group.when)
        if self._size + len(self._reserved) >= self._most and key not in self._reserved:
            self.no_room += 1
            return None
        self._reserved.discard(key)
        self.pending.pop(key, None)  # that it was over because the device had gone
        state = group.states[device_id] = State(key, rule, self._known.pop(key, None))
        self._size += 1
        self._leaving.watch(device_id, at // SECOND)
        if device_id in self._besides:
            self._silence(state)
        else:
            group.counts[state.level] += 1
            self._place(state)
        return state

    def _settle(self, state: State, now: int) -> None:
        level = state.level_at(now)
        if level != state.level:
            self._become(state, level, state.since(level) if level > state.level else now)

    def _become(self, state: State, level: Level, at: int) -> None:
        is_told = state.key[0] not in self._besides
        if is_told:
            counts = self._group(state.key).counts
            counts[state.level] -= 1
            counts[level] += 1
        if at <= state.at and (state.stream is None or state.at < at + _A_DAY_US):
            at = state.at + 1  # who claims it has to be later; a clock that was ahead holds up nobody
        state.level, state.at = level, at
        self._place(state)
        if level == state.told:
            self.pending.pop(state.key, None)
        elif is_told:
            self._tell(state)

    def _tell(self, state: State) -> None:
        limit = state.rule.crossed(state.level)
        self.pending[state.key] = Change(
            *(state.key, state.region, state.level, state.value, limit, state.at, state.mark[0])
        )

    def _silence(self, state: State) -> None:
        self.pending.pop(state.key, None)
        if state.told > OK:
            self.left[state.key] = None
        state.told = OK

    def _speak(self, state: State, at: int) -> None:
        stands = self.left.pop(state.key, self) is None  # others have not forgotten yet what was told
        if state.level > OK or stands:
            state.at = max(state.at, at)
            self._tell(state)

    def _place(self, state: State) -> None:
        device_id, metric, when = state.key
        if state.level > OK and device_id not in self._besides:
            self.beyond.setdefault(device_id, {})[metric, when] = state
        elif its := self.beyond.get(device_id):
            its.pop((metric, when), None)
            if not its:
                del self.beyond[device_id]

    def _leave(self, group: Group, state: State, at: int) -> None:
        if state.told > OK:
            self._known[state.key] = Known(state.told, state.at)
        if state.level > OK:
            self._become(state, OK, at)
            if change := self.pending.get(state.key):
                self.pending[state.key] = change._replace(value=None)
        self._waiting.pop(state.key, None)
        if state.key[0] not in self._besides:
            group.counts[OK] -= 1
        del group.states[state.key[0]]
        self._size -= 1

    def _state(self, key: Key) -> State | None:
        device_id, metric, when = key
        groups = self.groups.get(metric, ())
        return next((group.states.get(device_id) for group in groups if group.when == when), None)

    def _group(self, key: Key) -> Group:
        return next(group for group in self.groups[key[1]] if group.when == key[2])


def _number(value: Scalar) -> float | None:
    try:
        return float(value) if not isinstance(value, str) and isfinite(value) else None
    except OverflowError:
        return None
