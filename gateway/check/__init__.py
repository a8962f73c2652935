"""`gateway check`: try all that the gateway and its surroundings need, and say what to do about what fails.

`report` holds findings and their layout; `broker`, `postgres` and `redis` each try one thing and yield
findings; `hearing` is what a broker says of itself, `terms` what it allows, `kinds` what is known of its
kind; `routes` says what each route makes of its messages, and plays their examples.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from contract.topics import stream_topic
from gateway.check.broker import check_broker, check_others
from gateway.check.certificates import check_certificates
from gateway.check.listeners import check_listeners
from gateway.check.postgres import check_postgres
from gateway.check.redis import check_redis
from gateway.check.report import Finding, Report, encode, render
from gateway.check.routes import check_routes
from gateway.check.spool import check_spool
from gateway.subscriptions import plan

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from runtime.settings import Settings

__all__ = ["Finding", "Report", "check", "encode", "render"]

_TIMEOUT_S = 30.0


async def check(settings: Settings, *, offline: bool = False) -> Report:
    """Try broker, PostgreSQL, the broker of the internal topic, and Redis, all at once.

    Leaves nothing behind but one empty message on `<internal topic>/<stream>/check`, which no part of the
    house reads.

    Args:
        settings: the whole configuration.
        offline: tries no server, and looks at what the configuration says alone.

    Raises:
        ConfigurationError: a value can be used by nobody (a malformed URL, an unreadable certificate), or
            `gateway run` would refuse it.
    """
    broker = settings.broker
    events = settings.events_broker(broker.client_id)
    topic = stream_topic(settings.events.topic, settings.gateway.stream)
    wanted = plan(settings)
    messages = {"messages": check_routes(wanted, datetime.now(UTC))}
    listeners = {"http": check_listeners(settings)}
    says = bool(settings.sparkplug.host_id)
    rows = settings.gateway.batch_bytes
    if offline:
        report = await _together({**messages, **listeners})
        report.findings.append(Finding("servers", "ok", "none was tried: --offline"))
        return report
    if events == broker:
        brokers = {
            "broker": check_broker(
                broker, "broker", wanted=wanted, publish_to=topic, row_bytes=rows, retains=says
            ),
            "broker hosts": check_others(broker, "broker"),
        }
    else:
        brokers = {
            "broker": check_broker(broker, "broker", wanted=wanted, retains=says),
            "broker hosts": check_others(broker, "broker"),
            "events": check_broker(events, "events", publish_to=topic, row_bytes=rows),
        }
    servers = {
        "postgres": check_postgres(settings),
        "certificates": check_certificates(settings),
        "spool": check_spool(settings),
        "redis": check_redis(settings.redis),
    }
    return await _together({**brokers, **messages, **servers, **listeners})


async def _together(probes: Mapping[str, AsyncIterator[Finding]]) -> Report:
    # Each to its end, whatever another meets: a driver cancelled while it connects complains in the log.
    found = await asyncio.gather(
        *(_collect(name, probe) for name, probe in probes.items()), return_exceptions=True
    )
    report = Report()
    for each in found:
        if isinstance(each, BaseException):
            raise each
        report.findings.extend(each)
    return report


async def _collect(component: str, probe: AsyncIterator[Finding]) -> list[Finding]:
    findings: list[Finding] = []
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            async for finding in probe:
                findings.append(finding)  # noqa: PERF401  # what was found before a timeout counts
    except TimeoutError:
        findings.append(
            Finding(component, "fail", f"no answer within {_TIMEOUT_S:g} s", "look into its log and its load")
        )
    return findings
