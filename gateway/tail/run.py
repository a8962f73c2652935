"""Wires the sources to the output, and says of each server when it is away and when it is back."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, NoReturn

from gateway.tail import keys, measurements, quiet, rejections
from gateway.tail.output import Output
from runtime.lifecycle import unless
from runtime.postgres import address

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.tail.filters import Filters
    from gateway.tail.items import Item
    from runtime.mqtt import MqttSession
    from runtime.settings import Settings

_LOOK_S: Final = 0.2


async def tail(
    settings: Settings,
    filters: Filters,
    render: Callable[[Item], str],
    *,
    limit: int | None,
    seconds: float | None,
    stop: asyncio.Event,
) -> bool:
    """Put out what arrives until `stop` is set, the limit or the time is reached, or nobody reads any more.

    Returns:
        Whether as many came as were asked for.

    Raises:
        ConfigurationError: a certificate or an address in the configuration cannot be used.
        Stop: a server answers and will never let this work; it says why.
    """
    loop = asyncio.get_running_loop()

    def end() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended before the thread
            loop.call_soon_threadsafe(stop.set)

    output = Output(render, limit=limit, on_end=end)
    try:
        async with asyncio.timeout(seconds):
            await unless(stop, _follow(settings, filters, output))
    except TimeoutError:
        pass
    finally:
        output.close()
    return output.complete


async def _follow(settings: Settings, filters: Filters, output: Output) -> None:
    async with asyncio.TaskGroup() as tasks:
        if filters.measurements:
            broker = settings.events_broker("")
            told = _Told(output, f"broker {broker.host}:{broker.port}", "listening")
            session = measurements.open_session(settings)
            known: dict[int, bytes | None] = {}
            heard = quiet.Heard()
            rows = measurements.Rows(filters, output, known, heard)
            tasks.create_task(keys.follow(settings.postgres.dsn, known, output, heard), name="keys")
            tasks.create_task(_listen(session, rows, told), name="measurements")
            tasks.create_task(quiet.tell(heard, output), name="quiet")
        if filters.dead_letters:
            dsn = settings.postgres.dsn
            tell = _Told(output, f"postgres {address(dsn)}", "watching dead letters")
            tasks.create_task(rejections.follow(dsn, filters, output, tell), name="dead-letters")


async def _listen(session: MqttSession, rows: measurements.Rows, tell: _Told) -> None:
    async with session, asyncio.TaskGroup() as tasks:
        tasks.create_task(_watch(session, tell), name="session-status")
        tasks.create_task(measurements.follow(session, rows), name="receive")


async def _watch(session: MqttSession, tell: _Told) -> NoReturn:
    while True:
        status = session.status
        if status.connected or status.reason != "connecting":
            tell(None if status.connected else status.reason)
        await asyncio.sleep(_LOOK_S)


class _Told:
    """Says what changed about a server, once."""

    def __init__(self, output: Output, server: str, working: str) -> None:
        self._output = output
        self._server = server
        self._working = working
        self._said: str | None = None

    def __call__(self, reason: str | None) -> None:
        text = self._working if reason is None else f"away, trying again: {reason}"
        if text != self._said:
            self._said = text
            self._output.note(f"{self._server}: {text}")
