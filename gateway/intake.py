"""The session with the devices' broker, and the spool behind it; both may be there before PostgreSQL is.

A gateway that has run with this database before knows by its spool what it had subscribed. When PostgreSQL is
away at its start it begins all the same: everything goes into the spool until PostgreSQL is there. One that
never has waits, for nobody knows that the database is the right one.
"""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

import msgspec
import structlog

from gateway.batcher import longest_s
from gateway.spool.entrance import Entrance
from gateway.spool.meters import SpoolMeters
from gateway.spool.places import Known
from gateway.spool.shelf import Shelf, open_shelf
from runtime.errors import Stop
from runtime.mqtt import MqttSession, Subscription, options_from
from runtime.mqtt.port import Qos, SessionStatus
from runtime.postgres import address
from runtime.secret import current
from runtime.settings import duration_s

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import asyncpg
    from prometheus_client import CollectorRegistry

    from gateway.ledger import Ledger
    from runtime.http import Health
    from runtime.mqtt import Chunk, Message
    from runtime.settings import Settings

log = structlog.get_logger()

_SUBSCRIBED: Final = "subscriptions"
_LAST_WORDS_S: Final = 5.0
_LEFT: Final = (
    "start the gateway; or gateway spool drain, where another has its stream with gateway.stream of its own"
)


class Nobody:
    """A session by which nothing ever comes."""

    def __init__(self) -> None:
        self.status = SessionStatus(reason="nothing is taken from the broker: the spool is drained")

    async def __aenter__(self) -> Self:
        """Nothing begins."""
        return self

    async def __aexit__(self, *exc: object) -> None:
        """And nothing ends."""

    async def connected(self) -> None:
        """Never."""
        await asyncio.Event().wait()

    async def receive(self) -> Chunk:
        """Never."""
        await asyncio.Event().wait()
        raise AssertionError

    def gather(self, seconds: float) -> None:
        """There is nothing to gather."""

    def stop_receiving(self) -> Sequence[Chunk]:
        """There is nothing."""
        return ()

    async def publish(self, messages: Sequence[Message]) -> None:
        """Say nothing."""


class _Before(msgspec.Struct):
    """What the spool knows of the last run: whose session had what subscribed, and where it stored."""

    database: str
    client_id: str
    subscriptions: list[tuple[str, Qos]]


def _before(fact: str) -> _Before | None:
    """What was noted; None when nothing was, or not by this version."""
    try:
        return msgspec.json.decode(fact, type=_Before)
    except msgspec.MsgspecError:
        return None


class Intake:
    """Makes the session, and the spool's entrance if there is a spool.

    Args:
        tasks: in which the entrance works.
        subscriptions: that are wanted.
        make_will: for the session.
        drained: set when the spool is empty; then nothing is taken from the broker.
    """

    def __init__(
        self,
        settings: Settings,
        tasks: asyncio.TaskGroup,
        *,
        subscriptions: Sequence[Subscription],
        make_will: Callable[[], Message | None],
        health: Health,
        ledger: Ledger,
        registry: CollectorRegistry,
        drained: asyncio.Event | None = None,
    ) -> None:
        self._settings = settings
        self._tasks = tasks
        self._subscriptions = tuple(subscriptions)
        self._make_will = make_will
        self._health = health
        self._ledger = ledger
        self._registry = registry
        self._drained = drained
        self._shelf: Shelf | None = open_shelf(settings.spool)
        if drained is not None and self._shelf is None:
            raise Stop("there is no spool to be drained, or a gateway is at it")
        self._session: MqttSession | Nobody | None = None
        self._entrance: Entrance | None = None
        self._working: asyncio.Task[None] | None = None
        self._stack = AsyncExitStack()

    @property
    def session(self) -> MqttSession | Nobody:
        """The session, once it is made."""
        assert self._session is not None
        return self._session

    @property
    def entrance(self) -> Entrance | None:
        """The spool's entrance; None without a spool."""
        return self._entrance

    async def begin_early(self, database: asyncio.Future[Any]) -> None:
        """Begin without PostgreSQL, if it does not come soon and it was there before."""
        if self._shelf is None or self._drained is not None:
            return
        await asyncio.wait([database], timeout=duration_s(self._settings.spool.after))
        if database.done():
            return
        before = _before(await self._shelf.fact(_SUBSCRIBED))
        if before is None or before.database != self._database():
            log.warning(
                "spool_waits_for_postgres",
                reason="nothing was ever stored from here in this database: it has to answer first",
            )
            return
        mine = before.client_id == self._settings.broker.client_id
        known = [Subscription(each, qos) for each, qos in before.subscriptions] if mine else []
        self.make(known, at_once=True)
        self._health.watch("broker", self.session.status.why_not)
        self._health.set("gateway", None)
        await self.enter()
        log.warning("started_without_postgres", spool=str(self._shelf.path))
        self._tasks.create_task(self._remember_when_connected(), name="spool-subscriptions")

    def make(self, known: Sequence[Subscription], *, at_once: bool = False) -> None:
        """Make the session, unless it is made, by what the broker may have subscribed."""
        if self._session is not None:
            return
        settings = self._settings
        if self._drained is not None:
            self._session = Nobody()
        else:
            self._session = MqttSession(
                options_from(
                    settings.broker,
                    subscriptions=self._subscriptions,
                    known=list(known),
                    make_will=self._make_will,
                )
            )
        if self._shelf is not None:
            lingers_s = longest_s(settings.gateway.batch_linger_ms / 1000)  # no fault of PostgreSQL's
            self._entrance = entrance = Entrance(
                self._session,
                self._shelf,
                after_s=duration_s(settings.spool.after) + lingers_s,
                drops=settings.spool.when_full == "drop_oldest",
                health=self._health,
                at_once=at_once,
            )
            self._ledger.spooled = lambda: entrance.spooled
            self._ledger.dropped = lambda: entrance.missing
            entrance.counted = self._ledger.count_spooled
            self._registry.register(SpoolMeters(entrance))

    async def learn(self, pool: asyncpg.Pool[asyncpg.Record], stream: int, next_n: Callable[[], int]) -> None:
        """PostgreSQL is there: learn how far the spool is drained."""
        if self._entrance is None:
            return
        self._entrance.next_n = next_n
        known = Known(pool, stream, self._health)
        await known.begin()
        self._entrance.learn(known)

    async def enter(self) -> None:
        """Connect, unless that is done."""
        if self._session is not None and self._working is None:
            await self._stack.enter_async_context(self._session)
            self._working = self._tasks.create_task(self._work(), name="spool")

    async def remember(self, subscriptions: Sequence[Subscription] | None = None) -> None:
        """Note what is subscribed, for a start without PostgreSQL; another set if given."""
        if subscriptions is not None:
            self._subscriptions = tuple(subscriptions)
        if self._shelf is not None:
            filters = [(each.topic_filter, each.qos) for each in self._subscriptions]
            before = _Before(self._database(), self._settings.broker.client_id, filters)
            await self._shelf.note(_SUBSCRIBED, msgspec.json.encode(before).decode())

    async def flush(self) -> None:
        """Take no more, and make durable what was taken."""
        if self._entrance is not None and self._working is not None:
            self._entrance.stop_receiving()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORDS_S):
                    await self._entrance.flushed()

    async def close(self) -> None:
        """Disconnect and close the spool."""
        if self._working is not None:
            self._working.cancel()
            await asyncio.wait([self._working])
        await self._stack.aclose()
        if self._shelf is not None:
            if left := self._shelf.extent.messages:
                log.warning("spool_left", messages=left, path=str(self._shelf.path), mend=_LEFT)
            await self._shelf.close()

    async def _work(self) -> None:
        if self._entrance is None:
            return
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._entrance.run(), name="spool-entrance")
            if self._drained is not None:
                await self._entrance.emptied()
                self._drained.set()

    async def _remember_when_connected(self) -> None:
        await self.session.connected()
        await self.remember()

    def _database(self) -> str:
        """Names the database, without user and password."""
        dsn = current(self._settings.postgres.dsn, "postgres")
        return f"{address(dsn)}{urlsplit(dsn).path}"
