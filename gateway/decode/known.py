"""What has been seen and checked before, bounded in bytes: a hostile sender chooses how long a name is.

Of a `Memo` the half that was not asked for lately is forgotten when it is full; names, and what is `Worked`
out of what messages say, are forgotten all at once, which costs one more look at each.
"""

from __future__ import annotations

from sys import getsizeof
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from gateway.decode.limits import MAX_WORK, too_much_work

if TYPE_CHECKING:
    from collections.abc import Callable

Value = TypeVar("Value")

_ENTRY_BYTES: Final = 250  # of a dictionary's entry and what hangs on it besides texts
_MET: Final = 2**18  # of which it is remembered that they came; of two in one place the last
_PATIENCE: Final = 4  # entries that find no room, for each that has some, before all is forgotten


class Memo(Generic[Value]):
    """A cache from texts to values that hold parts of them.

    Args:
        max_bytes: about so much is kept at most.
        more_bytes: what a value takes beside parts of its text, about.
    """

    def __init__(self, max_bytes: int, more_bytes: Callable[[Value], int] = lambda _: 0) -> None:
        self._half_bytes = max_bytes // 2
        self._more_bytes = more_bytes
        self._young: dict[str, Value] = {}
        self._old: dict[str, Value] = {}
        self._young_bytes = 0
        self.get = self._young.get

    def recall(self, name: str) -> Value | None:
        """What `get` does not find any more."""
        value = self._old.pop(name, None)
        if value is not None:
            self.keep(name, value)
        return value

    def keep(self, name: str, value: Value) -> None:
        """Remember a value."""
        size = 3 * getsizeof(name) + _ENTRY_BYTES + self._more_bytes(value)
        self._young_bytes += size
        if self._young_bytes > self._half_bytes:
            self._old, self._young = self._young, {}
            self._young_bytes = size
            self.get = self._young.get
        self._young[name] = value

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._young) + len(self._old)


class Room:
    """Bytes that several caches share, however many routes they are of; and the work of one message.

    When it is full nothing is added for a while, so that a fleet with more to remember than there is room for
    has part of it remembered; and then all of them forget, so that what comes no more makes way.

    Args:
        max_bytes: about so much is kept at most.
        patience: times as much as a message may cost otherwise.

    Attributes:
        left: microseconds of work that the message under way may cost still; see `limits.MAX_WORK`.
        patience: the same.
    """

    def __init__(self, max_bytes: int, patience: int = 1) -> None:
        self.left = MAX_WORK
        self.patience = patience
        self._max_bytes = max_bytes
        self._bytes = self._entries = self._refused = 0
        self._forget: list[Callable[[], None]] = []
        self._met = bytearray(_MET)

    def share(self, forget: Callable[[], None]) -> None:
        """Have one more cache, which forgets by that."""
        self._forget.append(forget)

    def take(self, size: int) -> bool:
        """Whether there is room for an entry of so many bytes, which are taken then."""
        if self._bytes + size > self._max_bytes:
            self._refused += 1
            if self._refused <= _PATIENCE * self._entries:
                return False
            for forget in self._forget:
                forget()
            self._bytes = self._entries = self._refused = 0
        self._bytes += size
        self._entries += 1
        return True

    def spend(self, work: int) -> None:
        """Reckon with so many microseconds.

        Raises:
            Reject: reason `too_many_readings`: that is too much.
        """
        self.left -= work
        if self.left < 0:
            raise too_much_work()

    def check(self, work: int) -> None:
        """Refuse a message that would cost so much more.

        Raises:
            Reject: likewise.
        """
        if work > self.left:
            raise too_much_work()

    def again(self, mark: int) -> bool:
        """Whether what has this hash came before, as far as that is remembered.

        What comes once only, as what a stranger makes up, is not worth being worked out.
        """
        at, seen = mark % _MET, mark // _MET & 0x7F | 0x80
        if self._met[at] == seen:
            return True
        self._met[at] = seen
        return False


class Worked(Generic[Value]):
    """What was worked out of parts of messages, by these parts.

    Args:
        room: what it takes its bytes of.
    """

    def __init__(self, room: Room) -> None:
        self._room = room
        self._values: dict[tuple[object, ...], Value] = {}
        self.get = self._values.get
        room.share(self._values.clear)

    def keep(self, parts: tuple[object, ...], value: Value, more_bytes: int) -> Value:
        """Remember a value if there is room, with what it takes beside the entry; returns it."""
        if self._room.take(_ENTRY_BYTES + more_bytes):
            self._values[parts] = value
        return value

    def work(self, parts: tuple[object, ...], more_bytes: int, work: Callable[[], Value]) -> Value | None:
        """Work a value out and remember it; None when there is no room, as it would be worked out often."""
        if not self._room.take(_ENTRY_BYTES + more_bytes):
            return None
        value = self._values[parts] = work()
        return value


class Names:
    """A set of names that were found good.

    Args:
        max_bytes: about so much is kept at most.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self.seen: set[object] = set()

    def add(self, name: str) -> None:
        """Remember one."""
        self._bytes += getsizeof(name) + 100
        if self._bytes > self._max_bytes:
            self.seen.clear()
            self._bytes = getsizeof(name) + 100
        self.seen.add(name)
