"""What births say of metrics, kept once for all edge nodes and devices that say the same. Pure.

Edge nodes of one make have the same names, aliases and datatypes, thousands of them, and each says them again
at each birth. A table goes when the last birth that says it does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import ref

if TYPE_CHECKING:
    from collections.abc import Iterable

WITHIN: Final = "\x1f"
"""Between the name of a template and that of a member: no metric is called so."""


class Metric(NamedTuple):
    """What a birth says of a metric.

    Attributes:
        datatype: 0 when it says none.
    """

    name: str
    datatype: int


Said = tuple[tuple[str, "int | None", int], ...]
"""Name, alias and datatype of each metric of a birth."""


class Table:
    """Of one birth, or of many."""

    __slots__ = ("__weakref__", "_by_alias", "_by_name", "metrics")

    def __init__(self, metrics: Said) -> None:
        self.metrics = metrics
        self._by_alias: dict[Any, Metric] | None = None  # most are looked at in one of two ways, or in none
        self._by_name: dict[Any, Metric] | None = None

    def get(self, key: int | str) -> Metric | None:
        """The metric of an alias, or of a name."""
        return (self.by_alias if type(key) is int else self.by_name).get(key)

    @property
    def by_alias(self) -> dict[Any, Metric]:
        """Metrics by alias."""
        if self._by_alias is None:
            self._by_alias = _told(self.metrics, 1)
        return self._by_alias

    @property
    def by_name(self) -> dict[Any, Metric]:
        """Metrics by name."""
        if self._by_name is None:
            self._by_name = _told(self.metrics, 0)
        return self._by_name

    def says_the_same(self, other: Table) -> bool:
        """Whether it names everything as another one does."""
        return self is other or (self.by_alias == other.by_alias and self.by_name == other.by_name)


class Tables:
    """All that are in use.

    Attributes:
        names: how many names they have together.
    """

    def __init__(self) -> None:
        self.names = 0
        self._known: dict[Said, ref[Table]] = {}

    def of(self, metrics: Iterable[tuple[str, int | None, int]]) -> Table:
        """The table that says this."""
        said: Said = tuple(map(tuple, metrics))  # type: ignore[arg-type]  # of three
        known = self._known.get(said)
        table = known() if known is not None else None
        if table is None:
            table = Table(said)
            self.names += len(said)
            self._known[said] = ref(table, lambda _: self._gone(said))
        return table

    def _gone(self, said: Said) -> None:
        self.names -= len(said)
        del self._known[said]


def _told(metrics: Said, by: int) -> dict[Any, Metric]:
    """Metrics by alias or name, without what is said of two that differ."""
    found: dict[Any, Metric] = {}
    twice: set[Any] = set()
    for metric in metrics:
        key, told = metric[by], Metric(metric[0], metric[2])
        if found.setdefault(key, told) != told:
            twice.add(key)
    return {key: told for key, told in found.items() if key is not None and key not in twice}
