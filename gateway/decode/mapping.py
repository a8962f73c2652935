"""What the values of a reading say: device, key, time, region and metrics; the same for every format.

`id` (also `message_id`, `idempotency_key`) is the message key and `ts` (also `timestamp`, `time`) the device
time; of several, the first in this order counts. `region` and `device_id` are optional. Every other number,
boolean or string is a metric, and so is everything in an object `metrics`; null means "no value", and other
objects and arrays are not metrics.

Nothing is checked here that must hold of a reading wherever it comes from: that is `assemble`.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from gateway.decode.names import kind_of
from runtime.errors import Reject

_OTHER_KEY_NAMES: Final = ("message_id", "idempotency_key")
_OTHER_TIME_NAMES: Final = ("timestamp", "time")
_RARE_NAMES: Final = frozenset({*_OTHER_KEY_NAMES, *_OTHER_TIME_NAMES, "device_id", "metrics"})
_SCALARS: Final = frozenset({float, int, str, bool})


class Mapped(NamedTuple):
    """What a reading says, each as it was found; None where it says nothing."""

    device_id: Any
    key: Any
    time: Any
    region: Any
    metrics: dict[str, Any]


def read(item: Any) -> Mapped:  # noqa: ANN401  # a format's value is any value
    """Take a reading's fields out of an object, and leave its metrics.

    Raises:
        Reject: it is no object, or its metrics are none.
    """
    if type(item) is not dict:
        raise Reject("wrong_root", f"{kind_of(item)}, expected an object or an array of objects")
    key, time, device_id, nested = item.pop("id", None), item.pop("ts", None), None, None
    if not _RARE_NAMES.isdisjoint(item):
        key = _first(key, item, _OTHER_KEY_NAMES)
        time = _first(time, item, _OTHER_TIME_NAMES)
        device_id, nested = item.pop("device_id", None), item.pop("metrics", None)
    region = item.pop("region", None)
    if not set(map(type, item.values())) <= _SCALARS:
        item = {name: value for name, value in item.items() if type(value) in _SCALARS}
    if nested is not None:
        _add_nested(item, nested)
    return Mapped(device_id, key, time, region, item)


def _add_nested(metrics: dict[str, Any], nested: Any) -> None:  # noqa: ANN401  # a format's value is any value
    if type(nested) is not dict:
        raise Reject("invalid_metric", f"metrics is {kind_of(nested)}, expected an object")
    for name, value in nested.items():
        if name in metrics:
            raise Reject("duplicate_key", f"metric {name[:40]!r} stands both in metrics and beside it")
        if type(value) in _SCALARS:
            metrics[name] = value
        elif value is not None:
            raise Reject(
                "invalid_metric",
                f"metric {name[:40]!r} is {kind_of(value)}, expected a number, boolean or string",
            )


def _first(found: Any, item: dict[str, Any], names: tuple[str, ...]) -> Any:  # noqa: ANN401  # a format's value is any value
    """Take the names out of the object; of the values that are not null the first counts."""
    for name in names:
        value = item.pop(name, None)
        if found is None:
            found = value
    return found
