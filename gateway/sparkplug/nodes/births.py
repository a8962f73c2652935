"""What an edge node or a device calls its metrics, by its births, and for when that holds. Pure.

A birth (3.0.0 §6.4.6, `tck-id-payloads-alias-birth-requirement`) says for each metric its name, its datatype
and perhaps an alias, by which alone later messages name it. The next birth may use the aliases otherwise. So
a birth names what came from it on, for as long as nothing can have been missed: until a number of the
sequence is missing, our connection was lost, the edge node has died, or the next birth has come. What came
after that, and before the next birth, was sent by the one, by the other or by one that we have not seen. It
is named

- by both, where both say the same;
- by the later one, where the earlier one does not know the alias, or there is none, and nothing has come
  between them that ends a session: a rebirth is the same session (§6.4.22), whose aliases it says again.

All else has no name. (One that changed its aliases and changed them back while we heard neither birth, and a
message from in between, is what nobody could tell.) What is older than a birth by the edge node's own clock
came before it, however late it arrives. Times are those of arrival, in the contract's form, and milliseconds
of the edge node's clock.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from gateway.sparkplug.nodes.tables import WITHIN, Tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gateway.sparkplug.nodes.tables import Metric, Said

KEPT: Final = 4
"""Births that differ, of each edge node and device: older messages are named by none."""

KEPT_SHARED: Final = 8
"""Births, alike or not, where others hear some of them."""


class Birth:
    """What one birth said, or several one after the other that said the same.

    Attributes:
        born_at: when it came.
        since: from when on nothing had come that ends a session.
        until: from when on something may have been missed; None while nothing has.
        sent: by the clock of the edge node.
        table: what it said.
    """

    __slots__ = ("born_at", "sent", "since", "table", "until")

    def __init__(  # noqa: PLR0917  # as it is stored
        self,
        born_at: str,
        since: str,
        metrics: Iterable[tuple[str, int | None, int]],
        sent: int | None = None,
        until: str | None = None,
        tables: Tables | None = None,
    ) -> None:
        self.born_at, self.since, self.until, self.sent = born_at, since, until, sent
        self.table = (tables or Tables()).of(metrics)

    @property
    def metrics(self) -> Said:
        """Name, alias and datatype of each of its metrics."""
        return self.table.metrics

    def get(self, key: int | str) -> Metric | None:
        """The metric of an alias, or of a name."""
        return self.table.get(key)

    def says_the_same(self, other: Birth) -> bool:
        """Whether it names everything as another one does."""
        return self.table.says_the_same(other.table)


class Names:
    """What an edge node, or a device of it, has called its metrics, the oldest birth first."""

    __slots__ = ("births",)

    def __init__(self, births: Iterable[Birth] = ()) -> None:
        self.births = list(births)

    def born(self, birth: Birth) -> None:
        """A birth has come."""
        last = self.births[-1] if self.births else None
        if last is not None and last.says_the_same(birth):
            if birth.until is None or last.until is not None:
                last.until = birth.until  # whatever was sent between the two, they both name it so
            if birth.sent is not None and last.sent is not None:
                last.sent = min(birth.sent, last.sent)  # a clock that was set back
            return
        self.broke(birth.born_at)
        self.births.append(birth)
        del self.births[:-KEPT]

    def heard(self, birth: Birth) -> None:
        """A birth has come, and others may have heard another one between this and the last."""
        self.broke(birth.born_at)
        self.births.append(birth)
        del self.births[:-KEPT_SHARED]

    def broke(self, at: str) -> bool:
        """From now on something may have been missed; returns whether that is news."""
        if not self.births or self.births[-1].until is not None:
            return False
        self.births[-1].until = at
        return True

    def believe(self) -> None:
        """Nothing was missed since the last birth, after all."""
        if self.births:
            self.births[-1].until = None

    def join(self, other: Names, kept: int = KEPT_SHARED) -> None:
        """Take over births that somebody else has heard."""
        known = {(birth.born_at, birth.sent) for birth in self.births}
        self.births += [birth for birth in other.births if (birth.born_at, birth.sent) not in known]
        self.births.sort(key=lambda birth: birth.born_at)
        for birth, after in pairwise(self.births):
            birth.until = birth.until or after.born_at
        del self.births[:-kept]

    def replace(self, other: Names) -> None:
        """Take over what somebody else knows, who knows better of births that both have heard."""
        heard = {(birth.born_at, birth.sent) for birth in other.births}
        self.births = [birth for birth in self.births if (birth.born_at, birth.sent) not in heard]
        self.join(other)

    def doubt_the_past(self) -> None:
        """A session has ended before the last birth, and it is not known when."""
        if self.births:
            self.births[-1].since = self.births[-1].born_at

    def current(self, key: int | str, sent: int | None) -> Metric | None:
        """The metric that an alias, or a name, stands for in a message whose turn it is.

        None where that is not certain: `sent` is before the birth by the edge node's own clock.
        """
        last = self.births[-1] if self.births else None
        if last is None or last.until is not None:
            return None
        if sent is not None and last.sent is not None and sent < last.sent:
            return None
        return last.get(key)

    def by_clock(self, key: int | str, at: str, sent: int | None) -> Metric | None:
        """The metric that an alias, or a name, stood for when a message was sent, where several listen.

        By the clock of the edge node: births were heard by others too, each by a clock of its own, and in any
        order. None where it is not certain. Arguments as those of `find`.
        """
        before = [
            birth for birth in self.births if sent is None or (birth.sent is not None and birth.sent <= sent)
        ]
        if not before:
            return None
        born = before[-1] if sent is None else max(before, key=lambda birth: birth.sent or 0)
        found = born.get(key)
        others = before if sent is None else before[-1:]  # a clock that was set back
        if any(birth.get(key) != found for birth in others):
            return None
        place = self.births.index(born) + 1
        after = self.births[place] if place < len(self.births) else None
        missed = born.until is not None and at >= born.until and (after is None or born.until < after.born_at)
        return None if missed and (after is None or after.get(key) != found) else found

    def find(self, key: int | str, at: str, sent: int | None, *, alone: bool = True) -> Metric | None:
        """The metric that an alias, or a name, stood for in any other message; None where it is not certain.

        Args:
            key: alias or name.
            at: when the message came.
            sent: when it was sent, by the clock of the edge node.
            alone: whether a birth may name what came before it without another birth to say the same.
        """
        births = self.births
        for i in range(len(births) - 1, -1, -1):
            birth = births[i]
            if at < birth.born_at:
                continue
            if sent is not None and birth.sent is not None and sent < birth.sent:
                alone = False  # it came late, and may be of any session before
                continue
            found = birth.get(key)
            if found is not None and (birth.until is None or at < birth.until):
                return _undisputed(found, births[i + 1 :], key, sent)
            later = births[i + 1] if i + 1 < len(births) else None
            return _undisputed(_between(found, later, key, at, alone=alone), births[i + 2 :], key, sent)
        if not births:
            return None
        return _undisputed(_between(None, births[0], key, at, alone=alone), births[1:], key, sent)


def _between(
    earlier: Metric | None, later: Birth | None, key: int | str, at: str, *, alone: bool
) -> Metric | None:
    if later is None:
        return None
    found = later.get(key)
    if earlier is not None:
        return earlier if earlier == found else None
    return found if alone and at >= later.since else None


def _undisputed(found: Metric | None, later: list[Birth], key: int | str, sent: int | None) -> Metric | None:
    """The metric, unless a birth that came later, and was sent before the message, says another one."""
    if sent is not None and any(
        birth.sent is not None and birth.sent <= sent and birth.get(key) != found for birth in later
    ):
        return None
    return found


def metrics_of(value: dict[str, Any]) -> list[tuple[str, int | None, int]]:
    """Names, aliases and datatypes of what a birth says; of a template's members too, by the way to them."""
    found: list[tuple[str, int | None, int]] = []
    for each in value["metrics"]:
        if name := each.get("name"):
            found.append((name, each.get("alias"), each.get("datatype", 0)))
            if "members" in each:
                found += _members_of(name, each["members"])
    return found


def _members_of(name: str, members: dict[str, dict[str, Any]]) -> Iterator[tuple[str, int | None, int]]:
    for member, said in members.items():
        way = f"{name}{WITHIN}{member}"
        yield way, said.get("alias"), said.get("datatype", 0)
        yield from _members_of(way, said.get("members", {}))
