"""What a route says of its metrics by name and by value: `rename`, `ignore`, `numbers`, `states`. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from gateway.decode.mapping.units import is_unit
from gateway.decode.names import MAX_NAME
from runtime.errors import ConfigurationError

if TYPE_CHECKING:
    from gateway.decode.fields import Unfit
    from runtime.settings import Route

_KNOWN: Final = 4096  # names whose fate is remembered
_LONG: Final = 256  # characters of a name that is not remembered: no metric is called so
_LEFT_OUT: Final = None
_UNIT_OF: Final = "unit"

# Only ASCII digits; the sign may be a minus of typographers. A comma is the decimal one, as the only mark.
# Identifiers have zeros in front, or digits around an e: an exponent follows a fraction or a single digit.
_DIGITS: Final = r"(?:0|[1-9][0-9]{0,299})"
_EXPONENT: Final = r"[eE][+-]?[0-9]{1,3}"
_NUMBER: Final = re.compile(
    rf"[+\-\u2212]?(?:{_DIGITS}?[.,][0-9]{{1,300}}(?:{_EXPONENT})?|[0-9]{_EXPONENT}|{_DIGITS}[.,]?)"
)
_TAIL: Final = re.compile(r"\*\.[^*.]+")
_WHOLE: Final = re.compile(r"[+\-\u2212]?[0-9]{1,300}")
# Digits in no unit but m2 and m3, so that 10h30 is no number; and no x after a zero, which 0xAB has.
_UNIT: Final = r"(?:(?![xX])[^\W\d_]|[%\u00b0\u2030$\u20ac\u00a3])(?:[^\s\d]|(?<=m)[23]){0,15}"
_WITH_UNIT: Final = re.compile(rf"({_NUMBER.pattern})(?:\s{{0,3}}({_UNIT}))?")
_HEX: Final = re.compile(r"[+\-\u2212]?[0-9]+[A-F]+")
_LONGEST: Final = 640  # characters of a text that may be a number
_LARGEST: Final = 1e300  # beyond it a metric is refused
_INT64: Final = 2**63


class Words:
    """Changes the metrics of a route's readings.

    Args:
        route: whose words they are.
        where: its place in the file, for errors.
        max_name: characters of a metric's name.

    Attributes:
        by_value: whether texts are read anew.
        adds: whether a metric may come of that beside another.
        cost: of each metric, microseconds.

    Raises:
        ConfigurationError: one means nothing.
    """

    def __init__(self, route: Route, where: str, max_name: int = MAX_NAME) -> None:
        self._max_name = max_name
        self._exact: dict[str, str] = {}
        self._patterns: list[tuple[re.Pattern[str], str]] = []
        for name, new in route.rename.items():
            if not new or new.count("*") > name.count("*"):
                raise ConfigurationError(
                    f"{where}.rename: {name!r} → {new!r}: a * stands for what a * stood for before"
                )
            if "*" in name:
                self._patterns.append((_pattern(name), new))
            else:
                self._exact[name] = new
        ignored = route.ignore if isinstance(route.ignore, tuple) else ()
        tails = {name for name in ignored if _TAIL.fullmatch(name)}  # as of a field of every metric
        self._ignored_tails = {name[1:] for name in tails}
        self._ignored = [_pattern(name) for name in ignored if name not in tails]
        self._numbers = route.numbers
        self._states = route.states
        self._by_name = bool(self._exact or self._patterns or ignored)
        self.by_value = bool(self._states) or self._numbers != "as_sent"
        self.adds = self._numbers == "from_text_with_unit"
        self.cost = self._by_name + 2 * self.by_value + (len(self._patterns) + len(self._ignored)) // 2
        self._known: dict[str, str | None] = {}

    def apply(self, metrics: dict[str, Any], unfit: Unfit) -> dict[str, Any]:
        """The metrics as the route wants them; two that come to one name are refused, or one is dropped."""
        if self._by_name:
            metrics = self._named(metrics, unfit)
        if self.by_value:
            self.read(metrics, unfit)
        return metrics

    def ignores(self, name: str) -> bool:
        """Whether the route leaves out a metric that the message calls so."""
        if self._ignored_tails and name[name.rfind(".") :] in self._ignored_tails:
            return True
        return any(pattern.fullmatch(name) for pattern in self._ignored)

    def fate(self, name: str) -> str | None:
        """What a metric is called in the end; None of one that is left out."""
        return self._known[name] if name in self._known else self._fate(name)

    def read(self, metrics: dict[str, Any], unfit: Unfit) -> None:
        """Read the texts among metrics that have their names."""
        for name, value in list(metrics.items()):
            if type(value) is str:
                self._read(name, value, metrics, unfit)

    def _named(self, metrics: dict[str, Any], unfit: Unfit) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        for name, value in metrics.items():
            new = self.fate(name)
            if new is _LEFT_OUT:
                unfit.fields.append((name, "ignored"))
            elif new in kept:
                unfit.add(new, "duplicate_key", f"two fields of the message come to be called {new[:40]!r}")
            else:
                kept[new] = value
        return kept

    def _fate(self, name: str) -> str | None:
        new: str | None = self._exact.get(name, name)
        if new == name:
            for pattern, form in self._patterns:
                if found := pattern.fullmatch(name):
                    new = _filled(form, found.groups())
                    break
        if self.ignores(name):
            new = _LEFT_OUT
        if len(self._known) >= _KNOWN:
            self._known.clear()
        if len(name) <= _LONG:
            self._known[name] = new
        return new

    def _read(self, name: str, text: str, metrics: dict[str, Any], unfit: Unfit) -> None:
        """A text may be a state, or a number; its unit is cut off and counted, or a metric beside it."""
        state = self._states.get(text)
        if state is not None:
            metrics[name] = state
        if state is not None or self._numbers == "as_sent":
            return
        number, unit = _read_number(text, with_unit=True)
        beside = f"{name}.{_UNIT_OF}"
        if unit and self._numbers == "from_text":
            if not is_unit(unit):
                return
            unfit.fields.append((beside, _UNIT_OF))
        elif unit and self.ignores(beside):
            unfit.fields.append((beside, "ignored"))
        elif unit:
            if len(beside) > self._max_name or metrics.get(beside, unit) != unit:
                return
            metrics[beside] = unit
        metrics[name] = number


def read_number(text: str, *, with_unit: bool) -> str | float:
    """The number that a text is: `21.5`, `21,5`, with a unit `21,5 °C`; the text itself when it is none.

    Digits alone are an integer, with all of them; beyond 64 bits they stay a text, and so do `007` and
    `12e45`, which are identifiers, and `3C`, which is hexadecimal.
    """
    return _read_number(text, with_unit=with_unit)[0]


def _read_number(text: str, *, with_unit: bool) -> tuple[str | float, str]:
    """The number and its unit; the text itself and none."""
    if len(text) > _LONGEST:
        return text, ""
    stripped = text.strip()
    found = (_WITH_UNIT if with_unit else _NUMBER).fullmatch(stripped)
    if found is None or _HEX.fullmatch(stripped):
        return text, ""
    digits, unit = (found[1], found[2] or "") if with_unit else (stripped, "")
    digits = digits.replace(",", ".").replace("\u2212", "-")
    if _WHOLE.fullmatch(digits):
        whole = int(digits)
        return (whole, unit) if -_INT64 <= whole < _INT64 else (text, "")
    number = float(digits)
    return (number, unit) if abs(number) <= _LARGEST else (text, "")


def _pattern(name: str) -> re.Pattern[str]:
    """Each `*` takes as little as it can, the last what is left: never going back, as names may be long."""
    first, *middle = map(re.escape, name.split("*"))
    if not middle:
        return re.compile(first, re.DOTALL)
    last = middle.pop()
    return re.compile(first + "".join(f"(?>(.*?){each})" for each in middle) + f"(.*){last}", re.DOTALL)


def _filled(form: str, found: tuple[str, ...]) -> str:
    first, *rest = form.split("*")
    return first + "".join(each + after for each, after in zip(found, rest, strict=False))
