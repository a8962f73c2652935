"""What the values of a reading say: device, key, time, region and metrics; the same for every format.

The route names the fields that mean something (`plan`). Every other number, boolean and string is a metric:
one of a nested object or array by its path, `values.temperature`, `data.0`; one of the object `metrics` by
its own name. null means "no value". Where the topic names the metric, all that the payload says stands
under that name, and a field `value` is the metric itself.

Nothing is checked here that must hold of a reading wherever it comes from: that is `assemble`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gateway.decode.fields import SCALARS, Flattening, NoNumber, Refused, Unfit
from gateway.decode.names import kind_of
from gateway.decode.plan import METRICS
from runtime.errors import Reject

if TYPE_CHECKING:
    from gateway.decode.known import Room
    from gateway.decode.limits import Limits
    from gateway.decode.plan import Plan

_OF_VALUE: Final = "value."
_SPARE = 8  # fields that are no metrics: key, time, device, region


Mapped = tuple[Any, Any, Any, Any, dict[str, Any], bool]
"""Device, key, time and region, each as it was found and None where there is none; the metrics, and whether
an integer may be among them."""


class Mapper:
    """Reads the messages of one route.

    Args:
        plan: the route's.
        limits: bound what is looked at.
        room: bounds what one message costs.

    Attributes:
        plan: the same.
        unfit: takes fields that cannot be metrics.
    """

    def __init__(self, plan: Plan, limits: Limits, room: Room) -> None:
        self.plan = plan
        self.unfit = Unfit(drop=plan.drop)
        self._key, self._time, self._region = plan.key_name, plan.time_name, plan.region_name
        self._others = plan.others
        bare = plan.metrics or METRICS
        self._inside = f"{bare}."
        self._flattening = Flattening(
            self.unfit,
            bare=bare,
            max_name=limits.max_metric_name,
            max_fields=limits.max_metrics + _SPARE,
            room=room,
        )

    def read(self, item: Any, metric: str | None) -> Mapped:  # noqa: ANN401  # a format's value is any value
        """Take a reading's fields out of an object, and leave its metrics.

        Args:
            item: of an object, this takes what it finds.
            metric: what the topic calls it.

        Raises:
            Reject: it is no object, or something about it cannot be stored.
        """
        if type(item) is not dict:
            if type(item) is Refused:
                raise item.reject()
            metrics = self._scalar(item, metric) if metric else _no_object(item)
            return None, None, None, None, metrics, True
        integers = True
        if self.plan.nested:
            device_id, key, time, region, item = self._read_nested(item)
        else:
            key, time = item.pop(self._key, None), item.pop(self._time, None)
            region, device_id = item.pop(self._region, None), None
            if not self._others.isdisjoint(item):
                plan = self.plan
                key = _first(key, item, plan.keys)
                time = _first(time, item, plan.times)
                region = _first(region, item, plan.regions)
                device_id = _first(None, item, plan.devices)
            kinds = set(map(type, item.values()))
            if kinds <= SCALARS:
                integers = int in kinds
            else:
                item = self._flattening.flatten(item)
        return device_id, key, time, region, named(item, metric) if metric else item, integers

    def _scalar(self, item: object, metric: str) -> dict[str, Any]:
        if type(item) in SCALARS:
            return {metric: item}
        if isinstance(item, NoNumber):
            self.unfit.add(metric, item.reason, f"{metric!r} is {item.text[:40]}, which is no finite number")
            return {}
        raise Reject("wrong_root", f"{kind_of(item)}, expected an object, a number, a boolean or a string")

    def _read_nested(self, item: dict[str, Any]) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        plan, within = self.plan, self._inside
        inside: dict[str, Any] = {}
        found = self._flattening.flatten(item, inside)

        def take(names: tuple[str, ...]) -> Any:  # noqa: ANN401  # a format's value is any value
            for name in names:
                value = found.pop(name, None)
                if value is None and name.startswith(within):
                    value = inside.pop(name.removeprefix(within), None)
                if value is not None:
                    return value
            return None

        device_id, key, time, region = map(take, (plan.devices, plan.keys, plan.times, plan.regions))
        if not plan.metrics:
            for name, value in inside.items():
                self._add(found, name, value)
            return device_id, key, time, region, found
        for name in list(found):  # an array, or a scalar, at the path of the metrics
            if name == plan.metrics or name.startswith(within):
                self._add(inside, name.removeprefix(within), found.pop(name))
        if not inside:
            raise Reject("no_metrics", f"there is no {plan.metrics!r}, which holds the metrics of its route")
        self.unfit.fields += [(name, "left_out") for name in found]
        return device_id, key, time, region, inside

    def _add(self, metrics: dict[str, Any], name: str, value: object) -> None:
        if name in metrics:
            self.unfit.add(name, "duplicate_key", f"two fields of the message are called {name[:40]!r}")
        else:
            metrics[name] = value


def named(metrics: dict[str, Any], metric: str) -> dict[str, Any]:
    """The metrics of a message whose topic names them: its `value`, and what is in that, go by that name."""
    itself = "value" if "value" in metrics else metric
    found = {
        metric if name == itself else f"{metric}.{name.removeprefix(_OF_VALUE)}": value
        for name, value in metrics.items()
    }
    if len(found) == len(metrics):
        return found
    return {metric if name == itself else f"{metric}.{name}": value for name, value in metrics.items()}


def _no_object(item: object) -> dict[str, Any]:
    advice = ""
    if type(item) in SCALARS:
        advice = "; where the topic names what the value is, put {metric} into the route's topic"
    if type(item) is list:
        raise Reject("wrong_root", "an array in an array, expected an object")
    raise Reject("wrong_root", f"{kind_of(item)}, expected an object or an array of objects{advice}")


def _first(found: Any, item: dict[str, Any], names: tuple[str, ...]) -> Any:  # noqa: ANN401  # a format's value is any value
    """The first that is not null counts, and leaves the object; others stay fields like any."""
    if found is None:
        for name in names:
            found = item.pop(name, None)
            if found is not None:
                break
    return found
