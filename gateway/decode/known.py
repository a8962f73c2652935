"""What has been seen and checked before, bounded in bytes: a hostile sender chooses how long a name is.

Of a `Memo` the half that was not asked for lately is forgotten when it is full; names, and what is `Worked`
out of what a message says, are forgotten all at once, which costs one more look at each.
"""

from __future__ import annotations

from sys import getsizeof
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Value = TypeVar("Value")

_ENTRY_BYTES: Final = 250  # of a dictionary's entry and what hangs on it besides texts


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


class Worked(Generic[Value]):
    """What was worked out of parts of messages, by these parts.

    Args:
        max_bytes: about so much is kept at most.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._values: dict[tuple[object, ...], Value] = {}
        self.get = self._values.get

    def keep(self, parts: tuple[object, ...], value: Value, more_bytes: int) -> Value:
        """Remember a value, with what it takes beside the entry; returns it."""
        self._bytes += _ENTRY_BYTES + more_bytes
        if self._bytes > self._max_bytes:
            self._values.clear()
            self._bytes = _ENTRY_BYTES + more_bytes
        self._values[parts] = value
        return value

    def __contains__(self, parts: object) -> bool:
        """Whether there is a value, which may be None."""
        return parts in self._values


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
