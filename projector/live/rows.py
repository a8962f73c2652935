"""From a device's hash to its row in the list. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from projector.live.state import Row
from projector.query.stats import last_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from projector.live.state import Letter
    from projector.watch.said import Said

VALUES: Final = 3
TAG: Final = "tag_"
_LAST: Final = "last_"
_COUNT: Final = "count_"
_LARGEST: Final = 2**63 - 1  # msgspec writes no larger integers
_OWN: Final = frozenset({"last_seen", "last_seen_ms"})


def make_row(
    id_: str,
    reply: Mapping[bytes, bytes],
    said: Said,
    letters: Sequence[Letter],
    *,
    wanted: Sequence[str] = (),
) -> Row:
    """The row of a device.

    Args:
        id_: the device.
        reply: its hash.
        said: what the watch says of it.
        letters: its dead letters of the last moment, newest first.
        wanted: metrics to show; of a device that has none of them its first ones.
    """
    fields = {text(name): text(value) for name, value in reply.items()}
    metrics, care, known = metrics_in(fields), said.care, said.known
    return Row(
        id=id_,
        standing="rejected" if letters and said.state in {"ok", "unknown"} else said.state,
        region=fields.get("region"),
        tags={name.removeprefix(TAG): value for name, value in fields.items() if name.startswith(TAG)},
        last_seen_ms=number(fields.get("last_seen_ms")),
        usual_ms=said.usual_s and said.usual_s * 1000,
        clock_wrong=said.clock_since is not None,
        clock_error_s=said.clock_error_s,
        rejected=len(letters),
        reason=letters[0].reason if letters else None,
        values={
            metric: last_value(fields[f"{_LAST}{metric}"], counted=f"{_COUNT}{metric}" in fields)
            for metric in [name for name in wanted if f"{_LAST}{name}" in fields] or metrics[:VALUES]
        },
        heard_ms=said.heard_at and said.heard_at * 1000,
        until_ms=int(care.until.timestamp() * 1000) if care and care.until else None,
        care=f"{care.by}: {care.reason}".removesuffix(": ") if care else None,
        offline_since_ms=said.offline_since and said.offline_since * 1000,
        name=known.name,
        labels=known.label,
        expected_ms=known.expected_s and known.expected_s * 1000,
        blocked=known.blocked,
    )


def never_heard_row(id_: str, said: Said) -> Row:
    """The row of a device of which people say what it is, and nothing else is known."""
    known = said.known
    return Row(
        id=id_,
        standing="never heard",
        region=None,
        tags={},
        last_seen_ms=0,
        usual_ms=None,
        clock_wrong=False,
        clock_error_s=None,
        rejected=0,
        reason=None,
        values={},
        name=known.name,
        labels=known.label,
        expected_ms=known.expected_s and known.expected_s * 1000,
    )


def metrics_in(fields: Iterable[str]) -> list[str]:
    """The metrics whose last values are among the fields of a hash."""
    return [name.removeprefix(_LAST) for name in fields if name.startswith(_LAST) and name not in _OWN]


def text(raw: bytes) -> str:
    """Bytes as text, whatever they are."""
    return raw.decode(errors="backslashreplace")


def number(digits: bytes | str | None) -> int:
    """A number that somebody else may have overwritten; 0 for what is none."""
    try:
        found = int(digits or 0)
    except ValueError:
        return 0
    return found if abs(found) <= _LARGEST else 0
