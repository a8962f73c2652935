"""Which devices are silent: the state of all of them, changed by what is heard and by their streams' time.

A device is silent when its stream has gone on for three of its usual pauses without it, and for three minutes
at least; as long as its pace is not known, for a day. Where people say how often it should send, that is its
usual pause. Before it is called silent for the first time since the start, PostgreSQL is asked when its
messages came. It is back at its next message; one that usually sends all the time has to send in another
minute too, so that a last gasp is none. A pause that ends like that counts towards its pace, so a device that
sends less often from now on is called silent twice and then no more.

A device belongs to the stream that brought its last message. One that has brought none since the start may
belong to any: it goes by whichever is furthest behind, and by none while one that brought rows within a day
before has brought none yet. A row that is far older than its stream's newest is of a clock that was set back:
that stream's time begins anew. What is decided waits in `pending`; who is back meanwhile is not told of.
Of a device that is muted or retired nothing is told; what it is once that is over is told then. One that said
it is offline is not silent, and its saying so is no sign of life, for a broker publishes a will; when it is
online again, its whole period begins.

Each device is looked at when its time may be up, and each quarter of an hour: what a turn costs depends on
how many these are, not on how many devices there are. Pure.
"""

from __future__ import annotations

from itertools import chain, islice
from sys import intern
from typing import TYPE_CHECKING, Final

from contract.order import microseconds
from projector.watch.book import OK, RETURNING, SILENT, Change, Device, Stream
from projector.watch.care import Cares
from projector.watch.clock import BACK_S
from projector.watch.drifts import Drifts
from projector.watch.pace import add_pause, pauses_shown, silent_after_s, usual_s
from projector.watch.presences import Presences
from projector.watch.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from contract.events import Event
    from projector.levels import ToldLevel
    from projector.watch.care import Care
    from projector.watch.clock import Clock

MOST: Final = 200_000
FIRST_S: Final = 300  # until then most devices have shown their pace
EXCUSES: Final = 3  # a site with few devices pauses by itself
AGAIN_S: Final = 3600  # from one question about a pace to the next
GOING_ON_S: Final = 86_400  # who has brought nothing for so long is not waited for
CHECKS: Final = 2000  # a turn and stream: some milliseconds
TOLERANCE_S: Final = 300.0

_SELDOM_S: Final = 600  # who pauses for longer is back at its first message
_LOOK_S: Final = 900
_MINUTE_S: Final = 60
_LEAVING: Final = 500
_FOR_EVER: Final = 1 << 62


class Silence:
    """The devices of a site.

    Args:
        told: device → when its last message came, of those that are known to be silent.
        begun: since when there has been a watch, epoch seconds.
        now: the time, epoch seconds. Who was heard later was heard by a clock that was wrong.
        most: how many devices to watch; then who has been silent for longest makes room.
        forget_after_s: for how long a device is silent before it is not watched any more; None for ever.
        tolerance_s: how wrong a clock may be.
        believes_claims: whether times that devices claimed and gateways did not believe are impossible ones.
        told_clocks: device → what was told of its clock.
        told_offline: device → what was told of its being offline.
        cares: what people have said of devices; it is changed here.
        expected_s: how often people say that a device should send, in seconds.

    Attributes:
        devices: by id.
        drifts: their clocks.
        presences: who said that it is offline.
        returned: retired devices that were heard again → when, epoch seconds.
        silent: those that are silent, the first to fall silent first.
        counts: devices by region and by what is known of them.
        pending: what is to be told, by device.
        unsure: devices whose pace is to be asked for.
        left: devices that are not watched any more, of which nobody needs to know that they are silent.
        unwatched: how many messages came of devices that are not watched for want of room.
    """

    def __init__(
        self,
        told: Mapping[str, int],
        *,
        begun: int = 0,
        now: int = _FOR_EVER,
        most: int = MOST,
        forget_after_s: float | None = None,
        tolerance_s: float = TOLERANCE_S,
        believes_claims: bool = False,
        told_clocks: Mapping[str, ToldLevel] | None = None,
        told_offline: Mapping[str, ToldLevel] | None = None,
        cares: Cares | None = None,
        expected_s: Callable[[str], int | None] = lambda _: None,
    ) -> None:
        self.devices: dict[str, Device] = {}
        self.silent: dict[str, None] = {}
        self.counts = Tally()
        self.drifts = Drifts(
            self.devices,
            self.counts,
            tolerance_s=tolerance_s,
            believes_claims=believes_claims,
            told=told_clocks or {},
        )
        self.presences = Presences(self.devices, self.counts, told=told_offline or {}, begun=begun)
        self.returned: dict[str, int] = {}
        self.pending: dict[str, Change] = {}
        self.unsure: dict[str, None] = {}
        self.left: dict[str, None] = {}
        self.unwatched = 0
        self._told = dict(told)
        self.cares = Cares() if cares is None else cares
        self._expected_s = expected_s
        self._begun = begun
        self._now = now
        self._most = most
        self._forget_after_s = forget_after_s
        self._unheard = Stream(1)
        self._streams: dict[int, Stream] = {}

    @property
    def is_full(self) -> bool:
        """Whether somebody has to make room for the next."""
        return len(self.devices) >= self._most

    def know(self, device_id: str, region: str | None) -> None:
        """Note a device that was heard before; its time begins with the first row that comes."""
        if device_id not in self.devices and (device := self._meet(device_id, region)):
            self._unheard.enter(device, 0)

    def all_known(self) -> None:
        """Note that all who were heard before are known: who was told of and is not among them is gone."""
        gone = *self.drifts.all_known(), *self.presences.forget_unknown()
        self.left |= dict.fromkeys([*self._told, *gone])
        self._told = {}
        self.silent = dict.fromkeys(sorted(self.silent, key=lambda id_: self.devices[id_].silence))

    def expect(self, number: int, at: int) -> None:
        """Note a stream whose newest row came at `at`, before anybody listened."""
        self._stream(number).newest = at

    def hear(self, number: int, at: int, events: Iterable[Event]) -> bool:
        """Note that a row of a stream brought these events. Every event comes here.

        Args:
            number: of the stream.
            at: when the gateway received the last of them, epoch seconds.
            events: of one row.

        Returns:
            False when the stream's clock was set back, and its time begins anew.
        """
        stream = self._streams.get(number) or self._stream(number)
        goes_on = at >= stream.clock.now - BACK_S
        if not goes_on:
            self._set_back(stream, at)
        stream.advance(at)
        minute = at // _MINUTE_S
        devices, hear_time = self.devices, self.drifts.hear
        for event in events:
            device = devices.get(event.device_id) or self._meet(event.device_id, event.region)
            if device is None:
                self.unwatched += 1
                continue
            if event.region != device.region and event.region is not None:
                self.counts.remove(device)
                device.region = intern(event.region)
                self.counts.add(device)
            if event.online is not None:
                self._hear_presence(device, event)
                if not event.online:
                    continue
            before = device.at
            is_other = before // _MINUTE_S != minute
            hear_time(device, at, event, is_other and before < at)
            if device.care is not None and device.care.has_come_back(at):
                self.returned[device.id] = at
            if is_other or device.state or device.stream is not stream:
                self._note(device, stream, at)
            elif at > before:
                device.at = at
        return goes_on

    def know_presence(self, device_id: str, since: int, came: int, *, online: bool) -> None:
        """Note what a device said before anybody listened, as `Presences.take` does."""
        if device := self.devices.get(device_id):
            self._take_presence(device, since, came, online=online, was_heard=False)

    def begin_anew(self, number: int) -> None:
        """Note that rows of a stream were passed over: each device has its whole period from the next on."""
        if stream := self._streams.get(number):
            stream.begin_anew()
        for device in self.devices.values():
            device.excuses = 0

    def turn(self, now: int = _FOR_EVER) -> None:
        """Decide about the devices whose time may be up; a stream ahead of now is at now for others."""
        heard = [stream for stream in self._streams.values() if stream.clock.begun is not None]
        for stream in heard:
            for device in stream.take(stream.clock.now, CHECKS):
                self._look(device, stream, stream.clock)
        if heard:
            newest = min(now, max(stream.newest for stream in heard))
            going_on = [each for each in self._streams.values() if each.newest > newest - GOING_ON_S]
            if all(stream.clock.begun is not None for stream in going_on):
                clock = min((stream.clock for stream in going_on), key=lambda each: each.now)
                for device in self._unheard.take(clock.now, CHECKS):
                    self._look(device, self._unheard, clock)
            self._forget(min(now, *(stream.clock.now for stream in heard)))

    def learn(self, found: Mapping[str, Sequence[int]], now: int = _FOR_EVER) -> None:
        """Take what was asked: device → when its newest messages came, epoch seconds ascending.

        What came after now came by a clock that was wrong.
        """
        for id_, every in found.items():
            self.unsure.pop(id_, None)
            device = self.devices.get(id_)
            if device is None or device.stream is None:
                continue
            arrivals = [at for at in every if at <= now]
            pauses = pauses_shown(arrivals)
            if usual_s(pauses) is not None:
                device.pauses = pauses  # and what was heard since the start is among it
            if arrivals:
                self.counts.heard(device, max(device.at, arrivals[-1]))
            device.stream.enter(device, 0)

    def take_care(self, care: Care) -> None:
        """Take what somebody has said of a device: from now on nothing is told of it, or again."""
        self.cares.take(care)
        device = self.devices.get(care.device_id)
        if device is None:
            return
        self.counts.remove(device)
        before, device.care = device.care, self.cares.get(device.id)
        self.counts.add(device)
        if device.care is not None:
            self._silence(device)
            if care.has_come_back(device.at):
                self.returned[device.id] = device.at  # its message was faster than the word
        elif before is not None:
            self._speak(device, care)

    def expect_anew(self, ids: Iterable[str]) -> None:
        """Go by what people now say of these devices; one whose time is not up after all is not silent."""
        now = max((stream.clock.now for stream in self._streams.values()), default=0)
        changed = set()
        for device in filter(None, map(self.devices.get, ids)):
            expected_s = self._expected_s(device.id)
            if expected_s == device.expected_s:
                continue
            device.expected_s = expected_s
            changed.add(device)
            is_over = not now or now > device.at + silent_after_s(device.pace_s)
            if device.state != OK and device.at and not is_over:
                self._become(device, OK, max(now, device.at))
                if device.stream is not None:
                    device.stream.enter(device, 0)
        if changed:
            for stream in (self._unheard, *self._streams.values()):
                stream.hurry(changed)

    def take_pending(self, most: int) -> list[Change]:
        """Take some of what is to be told."""
        return [self.pending.pop(id_) for id_ in list(islice(self.pending, most))]

    def _hear_presence(self, device: Device, event: Event) -> None:
        if event.online_since is None:
            return
        try:
            since, came = microseconds(event.online_since), microseconds(event.received_at)
        except ValueError:
            return
        self._take_presence(device, since, came, online=event.online is True, was_heard=True)

    def _take_presence(self, device: Device, since: int, came: int, *, online: bool, was_heard: bool) -> None:
        if not self.presences.take(device, since, came, online=online, was_heard=was_heard):
            return
        if online and device.stream is not None:
            device.stream.enter(device, 0)
        elif device.state != OK:
            self._become(device, OK, max(device.at, device.offline_s))
            if change := self.pending.get(device.id):
                self.pending[device.id] = change._replace(is_news=False)  # that it is offline is told

    def _stream(self, number: int) -> Stream:
        return self._streams.setdefault(number, Stream(2 << len(self._streams)))

    def _set_back(self, stream: Stream, at: int) -> None:
        stream.begin_anew()
        self._unheard.begin_anew()
        for device in self.devices.values():
            if device.stream is stream or device.stream is self._unheard:
                device.at = min(device.at, at - 1)
                device.asked_at = min(device.asked_at, at)
                device.excused_at = min(device.excused_at, at)
                device.excuses = 0
                if (told := self.pending.get(device.id)) and not told.silent:
                    back_at = min(told.heard_at, device.at)
                    self.pending[device.id] = told._replace(at=back_at, heard_at=back_at)

    def _meet(self, id_: str, region: str | None) -> Device | None:
        if self.is_full and not self._make_room():
            return None
        id_ = intern(id_)  # one text for all who keep it
        device = self.devices[id_] = Device(id_, region and intern(region), self._unheard)
        device.expected_s = self._expected_s(id_)
        if id_ in self._told:
            device.silence = self._told.pop(id_)
            device.at = min(device.silence, self._now)
            device.state = SILENT
            self.silent[id_] = None
        self.drifts.meet(device)
        device.care = self.cares.get(id_)
        self.counts.add(device)
        if device.care is not None:
            self._silence(device)
        return device

    def _silence(self, device: Device) -> None:
        """Tell nothing of a device; what was told of it is over, and others may forget it."""
        self.pending.pop(device.id, None)
        self.drifts.silence(device)
        self.presences.silence(device)
        self.left[device.id] = None

    def _speak(self, device: Device, care: Care) -> None:
        """Tell of a device again, and now what is wrong with it; others may not have forgotten it yet."""
        stands = self.left.pop(device.id, self) is None
        at = int(care.at.timestamp())
        is_back = care.what == "returned"  # the word tells so
        if is_back and device.stream is not None:
            self.counts.heard(device, max(device.at, at))
            self.counts.remove(device)
            device.state = OK
            self.counts.add(device)
            self.silent.pop(device.id, None)
            device.stream.enter(device, 0)
        if device.state != OK or (stands and device.at):
            self._change(device, max(at, device.at))
            if device.state == OK:
                change = self.pending[device.id]
                self.pending[device.id] = change._replace(is_news=not is_back, was_told=False)
        self.drifts.speak(device, at, stands=stands)
        if device.offline_s:
            self.presences.speak(device)

    def _note(self, device: Device, stream: Stream, at: int) -> None:
        if at <= device.at:
            return  # streams are read one after the other
        if device.stream is not stream:
            device.stream = stream
            stream.enter(device, at + FIRST_S)
        is_apart = at // _MINUTE_S != device.at // _MINUTE_S
        if is_apart and device.at:
            device.pauses = add_pause(device.pauses, at - device.at)
        self.counts.heard(device, at)
        device.excuses = 0
        if device.state == OK or (device.state == RETURNING and not is_apart):
            return
        usual = device.pace_s
        if device.state == SILENT and usual is not None and usual <= _SELDOM_S:
            device.state = RETURNING
        else:
            self._become(device, OK, at)
        stream.enter(device, at)

    def _look(self, device: Device, stream: Stream, clock: Clock) -> None:
        if device.stream is not stream or device.state == SILENT or device.offline_s:
            return
        assert clock.begun is not None
        now, usual = clock.now, device.pace_s
        limit = silent_after_s(usual)
        resumed = clock.resumed(limit // 2)
        if resumed > max(device.at, device.excused_at) and device.excuses < EXCUSES:
            device.excused_at = resumed
            device.excuses += 1
        until = max(device.at, device.excused_at) + limit
        if usual is None and now < clock.begun + FIRST_S:
            stream.enter(device, clock.begun + FIRST_S)
        elif self._is_to_be_asked(device, now, usual, is_over=now > until):
            device.asked_at = now
            self.unsure[device.id] = None
        elif now <= until:
            stream.enter(device, min(until, now + _LOOK_S))
        elif device.state == RETURNING:
            device.state = SILENT
        else:
            self._become(device, SILENT, now)

    @staticmethod
    def _is_to_be_asked(device: Device, now: int, usual: int | None, *, is_over: bool) -> bool:
        return now >= device.asked_at + AGAIN_S if usual is None else is_over and not device.asked_at

    def _become(self, device: Device, state: int, at: int) -> None:
        self.counts.remove(device)
        device.state = state
        self.counts.add(device)
        if state == SILENT:
            self.silent[device.id] = None
            device.silence = device.at
        else:
            self.silent.pop(device.id, None)
        if device.care is None:
            self._change(device, at)

    def _change(self, device: Device, at: int) -> None:
        state, before = device.state, self.pending.get(device.id)
        self.pending[device.id] = Change(
            *(device.id, device.region, state != OK, at),
            heard_at=device.at,
            silence=device.silence,
            usual_s=device.pace_s,
            is_news=device.stream is not self._unheard or device.at >= self._begun,
            was_told=state == OK and (before is None or not before.silent or before.was_told),
        )

    def _forget(self, now: int) -> None:
        if self._forget_after_s is None:
            return
        for id_ in [*islice(self.silent, _LEAVING), *islice(self.presences.offline, _LEAVING)]:
            device = self.devices[id_]
            if now - max(device.at, device.silence, device.offline_s) > self._forget_after_s:
                self._leave(id_)

    def _make_room(self) -> bool:
        first = next(chain(self.silent, self.presences.offline), None)
        if first is None:
            return False
        self._leave(first)
        return True

    def _leave(self, id_: str) -> None:
        device = self.devices.pop(id_)
        device.stream = None
        self.counts.remove(device)
        self.silent.pop(id_, None)
        self.pending.pop(id_, None)
        self.drifts.leave(device)
        self.presences.leave(device)
        self.left[id_] = None
