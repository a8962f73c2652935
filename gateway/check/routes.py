"""What each route makes of its messages: what it subscribes, keys, times and names; and its examples."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from gateway.check.report import Finding
from gateway.decode.examples import play
from runtime.terminal import safe

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    from gateway.decode.routes import CompiledRoute
    from gateway.subscriptions import Plan


_FAULTS: Final = 10  # of an example
_APART: Final = "leave one of the two out, or name a topic or a prefix of its own beside it"
_ADVICE: Final = "mend the route or the example; `gateway decode` shows what a message becomes, and why"


async def check_routes(wanted: Plan, now: datetime) -> AsyncIterator[Finding]:
    """Say what each route does, and play its examples; `plan` has refused those that cannot work.

    Args:
        wanted: the routes.
        now: when the messages of examples arrive that do not say it.

    Raises:
        ConfigurationError: an example cannot be played.
    """
    taken: dict[str, str] = {}
    for number, route in enumerate(wanted.routes):
        title, called = f"messages {route.route.topic}", _called(route, number)
        before = taken.setdefault(_topics(route), called)
        if before is called or route.route.ignore is True:
            yield Finding(title, "ok", _said(route, wanted))
        else:
            yield Finding(title, "warn", f"{called} is never reached: {before} has the same topics", _APART)
    outcomes = play(wanted.routes, wanted.decoder, now)
    good = sum(not outcome.faults for outcome in outcomes)
    if good:
        yield Finding("examples", "ok", f"{good} of {len(outcomes)} become what they are expected to")
    for outcome in outcomes:
        if outcome.faults:
            shown = [safe(fault) for fault in outcome.faults[:_FAULTS]]
            if len(outcome.faults) > _FAULTS:
                shown.append(f"and {len(outcome.faults) - _FAULTS} more differences")
            told = "\n".join([f"of {safe(outcome.topic)}:", *shown])
            yield Finding(f"example {outcome.where}", "fail", told, _ADVICE)


def _topics(route: CompiledRoute) -> str:
    """What says which topics a route takes, whatever it calls their levels."""
    return re.sub(r"\?P<\w+>", "", route.pattern.pattern)


def _called(route: CompiledRoute, number: int) -> str:
    place, dialect = route.route.where(number), route.route.dialect
    return f"{place} ({dialect})" if dialect else place


def _said(route: CompiledRoute, wanted: Plan) -> str:
    said = route.route
    dialect = f"{said.dialect}, " if said.dialect else ""
    if said.ignore is True:
        return f"{dialect}ignored: counted, and stored nowhere"
    plan, names = route.plan, list(route.pattern.groupindex)
    instead = wanted.covered.get(route.topic_filter)
    tags = [name for name in names if name not in {"device_id", "region", "metric"}] + list(said.tags)
    zone = "" if said.timezone == "UTC" else f" in {said.timezone}"
    form = "" if said.time_format == "auto" else f" as {said.time_format}"
    clock = {
        "device": "",
        "prefer": ", arrival where it cannot be",
        "received": ", kept aside: arrival counts",
    }
    parts = [
        f"{dialect}{f'covered by {instead}' if instead else f'subscribes {route.topic_filter}'}",
        "" if said.format == "json" else f"format: {said.format}",
        f"a reading each of {said.each}" if said.each else "",
        f"device: {'the topic' if 'device_id' in names else _either(plan.devices, 'nowhere')}",
        f"key: {_either(plan.keys, 'made of time and content')}",
        f"time: {_either(plan.times, 'arrival')}{form}{zone}{clock[plan.clock] if plan.times else ''}",
        f"region: {'the topic' if 'region' in names else _either(plan.regions, 'none')}",
        f"metrics: {_metrics(route)}",
        f"online or offline: {said.presence}" if said.presence else "",
        f"without {', '.join(said.ignore)}" if isinstance(said.ignore, tuple) else "",
        f"tags: {', '.join(tags)}" if tags else "",
        f"a repeat has the same {', '.join(route.identity)}",
        "bad fields are left out" if plan.drop else "",
    ]
    return "; ".join(part for part in parts if part)


def _metrics(route: CompiledRoute) -> str:
    said = route.route
    if said.name:
        return f"each named by {said.name}, with the value of {said.value}"
    if "metric" in route.pattern.groupindex:
        return "named by the topic"
    return said.metrics or said.metric or "all other fields"


def _either(names: tuple[str, ...], none: str) -> str:
    return " or ".join(names) or none
