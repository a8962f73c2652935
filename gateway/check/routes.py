"""What each route makes of its messages, in a line: what it subscribes, keys, times and names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.check.report import Finding

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gateway.decode.routes import CompiledRoute
    from gateway.subscriptions import Plan


async def check_routes(wanted: Plan) -> AsyncIterator[Finding]:
    """Say what each route does; `plan` has refused those that cannot work."""
    for route in wanted.routes:
        yield Finding(f"messages {route.route.topic}", "ok", _said(route, wanted))


def _said(route: CompiledRoute, wanted: Plan) -> str:
    if route.route.ignore is True:
        return "ignored: counted, and stored nowhere"
    plan, names = route.plan, list(route.pattern.groupindex)
    instead = wanted.covered.get(route.topic_filter)
    tags = [name for name in names if name not in {"device_id", "region", "metric"}]
    identity = [*(["topic"] if route.scoped else []), "device", "key", *(["time"] if plan.timed else [])]
    zone = "" if route.route.timezone == "UTC" else f" in {route.route.timezone}"
    form = "" if route.route.time_format == "auto" else f" as {route.route.time_format}"
    clock = {
        "device": "",
        "prefer": ", arrival where it cannot be",
        "received": ", kept aside: arrival counts",
    }
    parts = [
        f"covered by {instead}" if instead else f"subscribes {route.topic_filter}",
        f"device: {'the topic' if 'device_id' in names else _either(plan.devices, 'nowhere')}",
        f"key: {_either(plan.keys, 'made of time and content')}",
        f"time: {_either(plan.times, 'arrival')}{form}{zone}{clock[plan.clock] if plan.times else ''}",
        f"region: {'the topic' if 'region' in names else _either(plan.regions, 'none')}",
        f"metrics: {plan.metrics or ('named by the topic' if 'metric' in names else 'all other fields')}",
        f"tags: {', '.join(tags)}" if tags else "",
        f"a repeat has the same {', '.join(identity)}",
        "bad fields are left out" if plan.drop else "",
    ]
    return "; ".join(part for part in parts if part)


def _either(names: tuple[str, ...], none: str) -> str:
    return " or ".join(names) or none
