"""What is known of a device, and when to look at which: a stream's clock and who waits for it. Pure."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from projector.watch.clock import Clock
from projector.watch.drift import RIGHT, Drift
from projector.watch.pace import usual_s

if TYPE_CHECKING:
    from collections.abc import Container

    from projector.watch.care import Care

State = Literal["ok", "silent", "unknown", "muted", "retired", "offline"]

OK, SILENT, RETURNING = range(3)
STATES: Final[tuple[State, ...]] = ("ok", "silent", "unknown", "muted", "retired", "offline")
RETIRED, OFFLINE = STATES.index("retired"), STATES.index("offline")

_SLOT_S: Final = 10


class Change(NamedTuple):
    """What is to be told of a device.

    Attributes:
        silent: or back.
        at: when that was so, epoch seconds.
        heard_at: when its last message came; 0 when that is not known.
        silence: when the last message before it was silent came; names the silence that begins or ends.
        is_news: False for a device that was silent before anybody watched.
        was_told: whether others know of the silence already, that is over, or is only written down again.
    """

    device_id: str
    region: str | None
    silent: bool
    at: int
    heard_at: int
    silence: int
    usual_s: int | None
    is_news: bool
    was_told: bool = False


class Device:
    """What is known of a device.

    Attributes:
        stream: that brought its last message; None once it is not watched any more.
        at: when that came, epoch seconds; 0 when it is not known.
        asked_at: when its pace was asked for.
        excused_at: when its period began anew, because nothing had come of the whole stream; 0 for never.
        excuses: how often, since its last message.
        booked: the streams in whose book it stands, a bit each.
        care: what people have said of it; None when nothing.
        drift: what is known of its clock.
        expected_s: how often people say it should send, in seconds; None when nobody did.
        offline_s: since when it is offline because it said so, epoch seconds; 0 when it is not.
        pauses: as `pace` counts them.
        silence: when the last message before it was silent came, as others are told of it.
        state: `OK`, `SILENT`, or `RETURNING`, which is silent still.
    """

    __slots__ = (
        "asked_at",
        "at",
        "booked",
        "care",
        "drift",
        "excused_at",
        "excuses",
        "expected_s",
        "id",
        "offline_s",
        "pauses",
        "region",
        "silence",
        "state",
        "stream",
    )

    def __init__(self, id_: str, region: str | None, stream: Stream) -> None:
        self.id = id_
        self.region = region
        self.stream: Stream | None = stream
        self.at = 0
        self.asked_at = 0
        self.excused_at = 0
        self.excuses = 0
        self.silence = 0
        self.booked = 0
        self.care: Care | None = None
        self.drift = Drift()
        self.expected_s: int | None = None
        self.offline_s = 0
        self.pauses: bytearray | None = None
        self.state = OK

    @property
    def pace_s(self) -> int | None:
        """How long it usually pauses, as people say or, where nobody does, as it has shown."""
        return self.expected_s or usual_s(self.pauses)

    @property
    def standing(self) -> int:
        """Which of `STATES` others are told: nobody knows of one yet that was not heard and not told of.

        What people have said of it goes first, and then what it said itself.
        """
        if self.care is not None:
            return STATES.index(self.care.state)
        if self.offline_s:
            return OFFLINE
        return 1 if self.state else 0 if self.at else 2

    @property
    def is_clock_wrong(self) -> bool:
        """Whether its clock is wrong, and somebody may want to know."""
        return self.drift.level != RIGHT and self.care is None


class Stream:
    """A stream's clock, and a book of when to look at which device, which has each once.

    Args:
        bit: that no other has.

    Attributes:
        newest: when its newest row came, whether it was seen or not, epoch seconds.
    """

    def __init__(self, bit: int) -> None:
        self.bit = bit
        self.newest = 0
        self.clock = Clock()
        self.book: dict[int, list[Device]] = {}

    def advance(self, at: int) -> None:
        """Note that a row came."""
        self.clock.advance(at)
        self.newest = self.clock.now

    def begin_anew(self) -> None:
        """Let time begin with the next row, and look at all who stand in the book then."""
        self.clock = Clock()
        self.book = {0: waiting} if (waiting := [*chain.from_iterable(self.book.values())]) else {}

    def enter(self, device: Device, at: int) -> None:
        """Look at a device after that time, unless it stands in the book already."""
        if not device.booked & self.bit:
            device.booked |= self.bit
            self.book.setdefault(at // _SLOT_S + 1, []).append(device)

    def hurry(self, devices: Container[Device]) -> None:
        """Look at these at once, as far as they stand in the book."""
        soon: list[Device] = []
        for slot, waiting in list(self.book.items()):
            if hurried := [device for device in waiting if device in devices]:
                soon += hurried
                self.book[slot] = [device for device in waiting if device not in devices]
        if soon:
            self.book[0] = [*self.book.get(0, []), *soon]

    def take(self, now: int, most: int) -> list[Device]:
        """Take those out whose time has come, `most` at the most."""
        taken: list[Device] = []
        for slot in sorted(slot for slot in self.book if slot <= now // _SLOT_S):
            devices = self.book[slot]
            room = most - len(taken)
            taken += devices[:room]
            del devices[:room]
            if devices:
                break
            del self.book[slot]
        for device in taken:
            device.booked &= ~self.bit
        return taken
