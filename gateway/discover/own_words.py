"""Formats that say themselves what is what: the words are those of their dialect. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gateway.discover.levels import meaning_of
from gateway.discover.tried import Guess

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.discover.shapes import Levels
    from gateway.discover.sniff import Sniffed


def by_dialect(shape: Levels, topics: Sequence[str], sniffed: Sequence[Sniffed]) -> Guess:
    """Formats that say themselves what is what: the words are those of their dialect."""
    name = sniffed[0].format
    own = BY_DIALECT[name]
    records = [
        each for one in sniffed for each in (one.values if isinstance(one.values, list) else [one.values])
    ]
    devices = {device for each in records if (device := own.device(each))}
    everywhere = len(devices) >= len(topics) and all(own.device(each) for each in records)
    meaning = meaning_of(shape, topics, named=False, devices=devices, elsewhere=everywhere)
    part = own.by_topic if meaning.device else own.by_message
    return Guess({"dialect": f"{name}/{part}", "topic": meaning.topic}, list(meaning.unsure))


def _device_of_line(record: Any) -> str:  # noqa: ANN401   # a format's value is any value
    tags = record.get("tags") if isinstance(record, dict) else None
    found = [tags.get(name) for name in ("device_id", "device", "host")] if isinstance(tags, dict) else []
    return next((str(each) for each in found if each), "")


def _device_of_record(record: Any) -> str:  # noqa: ANN401   # a format's value is any value
    return str(record.get("bn") or "") if isinstance(record, dict) else ""


class _Own(NamedTuple):
    """Of a format with a dialect: its parts, and what names the device in its values."""

    by_topic: str
    by_message: str
    device: Callable[[Any], str]


BY_DIALECT: Final = {
    "influx": _Own("device", "lines", _device_of_line),
    "senml": _Own("device", "pack", _device_of_record),
}
"""By format."""
