"""The scalars of nested values, by their paths: `{"a": {"b": [5]}}` says `a.b.0` is 5.

Nothing falls out on the way: a scalar comes out under its path, null is "no value", and an object or array
without a scalar holds none. What cannot come out is refused, or left out by a name and a reason (`Unfit`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gateway.decode.limits import MAX_DEPTH
from runtime.errors import Reject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gateway.decode.known import Room

SCALARS: Final = frozenset({float, int, str, bool})

WAY_OUT: Final = '; on_bad_field = "drop" on its route stores the message without it'


class NoNumber:
    """What a format read where a number should stand: `nan`, `Infinity`, `1e400`.

    Attributes:
        reason: as of a `Reject`.
        text: as it was written.
    """

    __slots__ = ("reason", "text")

    def __init__(self, reason: str, text: str) -> None:
        self.reason = reason
        self.text = text

    def __repr__(self) -> str:
        return f"NoNumber({self.reason!r}, {self.text!r})"

    def __str__(self) -> str:
        return self.text


class Refused:
    """What a format could not read where a reading should stand, when it could read its neighbours.

    Attributes:
        reason, detail: as of a `Reject`.
    """

    __slots__ = ("detail", "reason")

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = detail

    def reject(self) -> Reject:
        """What to raise in its place."""
        return Reject(self.reason, self.detail)


class Unfit:
    """What becomes of fields that cannot be stored: the message is refused, or goes without them.

    Attributes:
        fields: those left out, name and reason.
        refuses: whether the message is refused.
    """

    __slots__ = ("fields", "refuses")

    def __init__(self, *, drop: bool) -> None:
        self.refuses = not drop
        self.fields: list[tuple[str, str]] = []

    def add(self, name: str, reason: str, detail: str) -> None:
        """Leave a field out.

        Raises:
            Reject: its route does not say so.
        """
        if self.refuses:
            raise Reject(reason, detail + WAY_OUT)
        self.fields.append((name, reason))


class Flattening:
    """How the messages of a route are flattened.

    Args:
        unfit: takes what cannot come out.
        bare: path of the object whose members go by their own names.
        max_name: characters of a path; what is deeper than that is not looked at.
        max_fields: bounds what one message costs.
        room: bounds what one message costs.
        ignores: whether the route ignores a metric of this name; such a field refuses no message.

    Attributes:
        within: what stands before the names of what is flattened, for `ignores`.
    """

    def __init__(
        self,
        unfit: Unfit,
        *,
        bare: str,
        max_name: int,
        max_fields: int,
        room: Room,
        ignores: Callable[[str], bool] | None = None,
    ) -> None:
        self.within = ""
        self._ignores = ignores
        self._unfit = unfit
        self._bare = bare
        self._max_name = max_name
        self._max_fields = max_fields
        self._room = room
        self._bare_into: dict[str, Any] = {}

    def flatten(self, item: dict[str, Any], apart: dict[str, Any] | None = None) -> dict[str, Any]:
        """The scalars of an object; those of the bare one among them, or apart."""
        found: dict[str, Any] = {}
        self._room.spend(3 * len(item) // 2)
        self._bare_into = found if apart is None else apart
        self._walk(item.items(), "", 1, found)
        return found

    def _walk(
        self, members: Iterable[tuple[Any, Any]], prefix: str, depth: int, into: dict[str, Any]
    ) -> None:
        bare = None
        for name, value in members:
            path = f"{prefix}{name}"
            kind = type(value)
            if kind is dict or kind is list:
                if depth == MAX_DEPTH:
                    fault = f"{path[:40]!r} is nested deeper than {MAX_DEPTH}"
                    self._leave(path, "too_deep", fault, holder=True)
                elif path == self._bare and kind is dict:
                    bare = value
                    self._room.spend(len(value))
                elif len(path) > self._max_name:
                    self._leave(path, "invalid_metric", self._too_long(path), holder=True)
                else:
                    self._room.spend(1 + len(value) // 2)
                    inner = value.items() if kind is dict else enumerate(value)
                    self._walk(inner, f"{path}.", depth + 1, into)
            elif value is not None:
                if kind in SCALARS and path not in into and len(into) < self._max_fields:
                    into[path] = value
                else:
                    self._refuse(path, value, into)
        if bare is not None:
            self._walk(bare.items(), "", depth + 1, self._bare_into)

    def _refuse(self, path: str, value: object, into: dict[str, Any]) -> None:
        if isinstance(value, NoNumber):
            reason, fault = (
                value.reason,
                f"field {path[:40]!r} is {value.text[:40]}, which is no finite number",
            )
        elif path in into:
            reason, fault = "duplicate_key", f"two fields of the message are called {path[:40]!r}"
        elif type(value) in SCALARS:
            reason, fault = (
                "invalid_metric",
                f"{self._max_fields} metrics and more, gateway.max_metrics allows fewer",
            )
        else:
            raise Reject("undecodable", f"field {path[:40]!r} is of a kind that no format may have")
        self._leave(path, reason, fault)

    def _leave(self, path: str, reason: str, fault: str, *, holder: bool = False) -> None:
        """`holder`: an object or array, which is ignored with all that could be in it, as by `a.*`, too."""
        name = f"{self.within}{path}"
        if self._ignores and (self._ignores(name) or (holder and self._ignores(f"{name}."))):
            self._unfit.fields.append((path[: self._max_name], "ignored"))
        else:
            self._unfit.add(path[: self._max_name], reason, fault)

    def _too_long(self, path: str) -> str:
        return (
            f"metric name {path[:40]!r}… has {len(path)} characters, "
            f"gateway.max_metric_name allows {self._max_name}"
        )
