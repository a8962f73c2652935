"""What a host application says, on the connection that its messages come by, and what it asks PostgreSQL.

With `sparkplug.host_id` this is a primary host application: edge nodes that wait for it send nothing before
it is online, and what they keep meanwhile depends on that being true. So its will is that of the very
connection that subscribes, and it says that it is online after the broker has confirmed what is subscribed,
with the will's timestamp (3.0.0 §5.3). When it ends by itself it says so first. Should somebody else say that
it is offline, such as the will of a connection that the broker took for lost, it says that it is not.

After each connection every edge node that was online is asked for a rebirth: what it sent meanwhile was not
heard. No more are asked in a second than a broker and its nodes can stand.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from gateway.sparkplug import keeper
from gateway.sparkplug.commands import rebirth, says_online, state
from runtime.errors import Reject
from runtime.mqtt import Disconnected
from runtime.postgres import keep_asking

if TYPE_CHECKING:
    import asyncpg

    from gateway.sparkplug.host import Host
    from runtime.http import Health
    from runtime.mqtt import Message, Session

log = structlog.get_logger()

_LOOK_S: Final = 0.1
_ASKED: Final = 5  # edge nodes in that time
_REREAD_S: Final = 0.5
_LAST_WORD_S: Final = 2.0


class Voice:
    """Speaks for a host application.

    Args:
        host_id: of a primary host application; empty for any other.
    """

    def __init__(self, host_id: str = "") -> None:
        self._host_id = host_id
        self._timestamp = 0
        self._repeat = asyncio.Event()

    def make_will(self) -> Message | None:
        """The will of the next connection."""
        if not self._host_id:
            return None
        self._timestamp = _now_ms()
        return state(self._host_id, self._timestamp, online=False)

    def hear(self, payload: bytes) -> None:
        """Somebody has said something of this host application."""
        if not says_online(payload):  # what was cleared as well: who comes later would wait in vain
            self._repeat.set()

    async def run(
        self, session: Session, host: Host, pool: asyncpg.Pool[asyncpg.Record], health: Health
    ) -> None:
        """Say what is to be said, until cancelled."""
        connections, reread_at = 0, 0.0
        while True:
            await session.connected()
            try:
                if session.status.connections != connections:
                    await self._greet(session)
                    connections = session.status.connections
                    host.rouse()
                elif self._repeat.is_set():
                    await self._greet(session)
                    log.info("sparkplug_state_repeated", host_id=self._host_id)
                if asks := host.take_asks(_ASKED):
                    await session.publish([rebirth(each.topic("NCMD"), _now_ms()) for each in asks])
            except Disconnected:
                pass
            except Reject as refused:
                log.warning("sparkplug_publish_refused", detail=refused.detail)
            if time.monotonic() >= reread_at and (nodes := host.take_curious()):
                host.learn(await keep_asking(partial(keeper.known_of, pool, nodes), health))
                reread_at = time.monotonic() + _REREAD_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._repeat.wait()

    async def leave(self, session: Session) -> None:
        """Say that this host application goes (`tck-id-host-topic-phid-death-payload-disconnect-clean`)."""
        if self._host_id:
            with contextlib.suppress(TimeoutError, Disconnected, Reject):
                async with asyncio.timeout(_LAST_WORD_S):
                    await session.publish([state(self._host_id, _now_ms(), online=False)])

    async def _greet(self, session: Session) -> None:
        self._repeat.clear()
        if self._host_id:
            await session.publish([state(self._host_id, self._timestamp, online=True)])
            log.info("sparkplug_state_online", host_id=self._host_id)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
