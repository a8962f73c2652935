"""Messages that were heard, as examples in a configuration: `gateway check` plays them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gateway.decode import Reading
from gateway.decode.examples import as_object

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.decode import Rejection
    from gateway.discover.heard import Sample

_LONGEST: Final = 4096  # bytes of a payload that somebody wants to look at


def example_of(sample: Sample, found: Sequence[Reading | Rejection]) -> dict[str, Any]:
    """A message and what it became; none of one that is too long to be read."""
    if len(sample.payload) > _LONGEST:
        return {}
    return {
        "topic": sample.topic,
        **_payload(sample.payload),
        "at": sample.at.isoformat().replace("+00:00", "Z"),
        "expect": [_expected(each) for each in found if isinstance(each, Reading)],
    }


def _payload(payload: bytes) -> dict[str, str]:
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return {"hex": payload.hex()}
    return {"payload": text} if text.isprintable() else {"hex": payload.hex()}


def _expected(reading: Reading) -> dict[str, Any]:
    said = as_object(reading)
    if not reading.keyed:
        del said["key"]  # made of what else there is
    if reading.event.ts == reading.event.received_at:
        del said["ts"]
    if said["region"] is None:
        del said["region"]
    if not said["tags"]:
        del said["tags"]
    return said
