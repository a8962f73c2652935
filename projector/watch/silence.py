"""Which devices are silent: the state of all of them, changed by what is heard and by their streams' time.

A device is silent when its stream has gone on for three of its usual pauses without it, and for three minutes
at least; as long as its pace is not known, for a day. Before that is said of it for the first time since the
start, PostgreSQL is asked when its messages came. It is back at its next message; one that usually sends all
the time has to send in another minute too, so that a last gasp is none. A pause that ends like that counts
towards its pace, so a device that sends less often from now on is called silent twice and then no more.

A device belongs to the stream that brought its last message. One that has brought none since the start goes
by whichever stream is furthest behind. What is decided waits in `pending` until it has been told; who is back
meanwhile is not told of.

Each device is looked at when its time may be up, and each quarter of an hour: what a turn costs depends on
how many these are, not on how many devices there are. Pure.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from projector.watch.book import OK, RETURNING, SILENT, Device, Stream
from projector.watch.clock import Clock
from projector.watch.pace import add_pause, pauses_between, silent_after_s, usual_s

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from contract.events import Event

MOST: Final = 200_000
FIRST_S: Final = 300  # until then most devices have shown their pace
EXCUSES: Final = 3  # a site with few devices pauses by itself
AGAIN_S: Final = 3600  # from one question about a pace to the next
REGIONS: Final = 100
OTHERS: Final = "(other)"
NOWHERE: Final = "(none)"
CHECKS: Final = 2000  # a turn and stream: some milliseconds

_SELDOM_S: Final = 600  # who pauses for longer is back at its first message
_LOOK_S: Final = 900
_MINUTE_S: Final = 60
_LEAVING: Final = 500


class Change(NamedTuple):
    """What is to be told of a device.

    Attributes:
        silent: or back.
        at: when that was so, epoch seconds.
        heard_at: when its last message came; 0 when that is not known.
        is_news: False for a device that was silent before anybody watched.
    """

    device_id: str
    region: str | None
    silent: bool
    at: int
    heard_at: int
    usual_s: int | None
    is_news: bool


class Silence:
    """The devices of a site.

    Args:
        told: device → when its last message came, of those that are known to be silent.
        begins: whether nobody has watched before.
        most: how many devices to watch; then who has been silent for longest makes room.
        forget_after_s: for how long a device is silent before it is not watched any more; None for ever.

    Attributes:
        counts: region, as far as there is room for its name → devices that are ok, and silent.
        pending: what is to be told, by device.
        unsure: devices whose pace is to be asked for.
        left: devices that are not watched any more, of which nobody needs to know that they are silent.
        crowded_out: how many devices were not watched, or not any more, for want of room.
    """

    def __init__(
        self,
        told: Mapping[str, int],
        *,
        begins: bool = False,
        most: int = MOST,
        forget_after_s: float | None = None,
    ) -> None:
        self.counts: dict[str, list[int]] = {}
        self.pending: dict[str, Change] = {}
        self.unsure: dict[str, None] = {}
        self.left: list[str] = []
        self.crowded_out = 0
        self._told = dict(told)
        self._begins = begins
        self._most = most
        self._forget_after_s = forget_after_s
        self._devices: dict[str, Device] = {}
        self._silent: dict[str, None] = {}  # the first to fall silent first
        self._unheard = Stream(1)
        self._streams: dict[int, Stream] = {}

    def __len__(self) -> int:
        return len(self._devices)

    def know(self, device_id: str, region: str | None) -> None:
        """Note a device that was heard before; its time begins with the first row that comes."""
        if device_id not in self._devices and (device := self._meet(device_id, region)):
            self._unheard.enter(device, 0)

    def hear(self, number: int, at: int, events: Iterable[Event]) -> None:
        """Note that a row of a stream brought these events. Every event comes here.

        Args:
            number: of the stream.
            at: when the gateway received the last of them, epoch seconds.
            events: of one row.
        """
        stream = self._streams.get(number)
        if stream is None:
            stream = self._streams[number] = Stream(2 << len(self._streams))
        stream.clock.advance(at)
        minute = at // _MINUTE_S
        devices = self._devices
        for event in events:
            device = devices.get(event.device_id) or self._meet(event.device_id, event.region)
            if device is None:
                continue
            if event.region != device.region and event.region is not None:
                self._count(device, -1)
                device.region = event.region
                self._count(device, +1)
            if device.at // _MINUTE_S != minute or device.state or device.stream is not stream:
                self._note(device, stream, at)
            elif at > device.at:
                device.at = at

    def begin_anew(self, number: int) -> None:
        """Note that rows of a stream were passed over: each device has its whole period from the next on."""
        if stream := self._streams.get(number):
            stream.clock = Clock()
        for device in self._devices.values():
            device.excuses = 0

    def turn(self) -> None:
        """Decide about the devices whose time may be up."""
        heard = [stream for stream in self._streams.values() if stream.clock.begun is not None]
        for stream in heard:
            for device in stream.take(stream.clock.now, CHECKS):
                self._look(device, stream, stream.clock)
        if heard:
            clock = min((stream.clock for stream in heard), key=lambda each: each.now)
            for device in self._unheard.take(clock.now, CHECKS):
                self._look(device, self._unheard, clock)
            self._forget(clock.now)

    def learn(self, found: Mapping[str, Sequence[int]]) -> None:
        """Take what was asked: device → when its newest messages came, epoch seconds ascending."""
        for id_, arrivals in found.items():
            self.unsure.pop(id_, None)
            device = self._devices.get(id_)
            if device is None or device.stream is None:
                continue
            pauses = pauses_between(arrivals)
            if usual_s(pauses) is not None:
                device.pauses = pauses  # and what was heard since the start is among it
            if arrivals:
                device.at = max(device.at, arrivals[-1])
            device.stream.enter(device, 0)

    def take_pending(self, most: int) -> list[Change]:
        """Take some of what is to be told; `give_back` what could not be."""
        return [self.pending.pop(id_) for id_ in list(islice(self.pending, most))]

    def give_back(self, changes: Iterable[Change]) -> None:
        """Take back what could not be told, unless something newer is to be told of the device."""
        for change in changes:
            self.pending.setdefault(change.device_id, change)

    def _meet(self, id_: str, region: str | None) -> Device | None:
        if len(self._devices) >= self._most and not self._make_room():
            self.crowded_out += 1
            return None
        device = self._devices[id_] = Device(id_, region, self._unheard)
        if id_ in self._told:
            device.at = self._told.pop(id_)
            device.state = SILENT
            self._silent[id_] = None
        self._count(device, +1)
        return device

    def _note(self, device: Device, stream: Stream, at: int) -> None:
        if at <= device.at:
            return  # streams are read one after the other
        if device.stream is not stream:
            device.stream = stream
            stream.enter(device, at + FIRST_S)
        is_apart = at // _MINUTE_S != device.at // _MINUTE_S
        if is_apart and device.at:
            device.pauses = add_pause(device.pauses, at - device.at)
        device.at = at
        device.excuses = 0
        if device.state == OK or (device.state == RETURNING and not is_apart):
            return
        usual = usual_s(device.pauses)
        if device.state == SILENT and usual is not None and usual <= _SELDOM_S:
            device.state = RETURNING
        else:
            self._become(device, OK, at)
        stream.enter(device, at)

    def _look(self, device: Device, stream: Stream, clock: Clock) -> None:
        if device.stream is not stream or device.state == SILENT:
            return
        assert clock.begun is not None
        now, usual = clock.now, usual_s(device.pauses)
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
        self._count(device, -1)
        device.state = state
        self._count(device, +1)
        is_silent = state == SILENT
        if is_silent:
            self._silent[device.id] = None
        else:
            self._silent.pop(device.id, None)
        is_news = not (self._begins and device.stream is self._unheard)
        self.pending[device.id] = Change(
            device.id, device.region, is_silent, at, device.at, usual_s(device.pauses), is_news
        )

    def _count(self, device: Device, by: int) -> None:
        region = device.region or NOWHERE
        if region not in self.counts:
            region = region if len(self.counts) < REGIONS else OTHERS
            self.counts.setdefault(region, [0, 0])
        self.counts[region][device.state != OK] += by

    def _forget(self, now: int) -> None:
        if self._forget_after_s is None:
            return
        for id_ in list(islice(self._silent, _LEAVING)):
            if now - self._devices[id_].at > self._forget_after_s:
                self._leave(id_)

    def _make_room(self) -> bool:
        longest = next(iter(self._silent), None)
        if longest is None:
            return False
        self.crowded_out += 1
        self._leave(longest)
        return True

    def _leave(self, id_: str) -> None:
        device = self._devices.pop(id_)
        device.stream = None
        self._count(device, -1)
        self._silent.pop(id_, None)
        self.pending.pop(id_, None)
        self.left.append(id_)
