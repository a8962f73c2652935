"""A primary with a standby that takes its place: what a failover does to whoever writes.

With a synchronous standby a commit is answered only once the standby has it, so that a failover loses nothing
that was answered. `unplug` is the moment before a failover that matters: what is committed from then on the
standby will never have. Clients reach whichever is primary through the site's proxy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg

from tests.faults.watch import until

if TYPE_CHECKING:
    from deploy.local.servers import Postgres
    from tests.faults.site import Site

OTHERS_WRITE = "CREATE TABLE IF NOT EXISTS others (t text); INSERT INTO others SELECT 'somebody else''s'"
OTHERS_TRANSACTIONS = 300
WAITING = """SELECT count(*) FROM pg_stat_activity
    WHERE wait_event = 'SyncRep' AND application_name = $1 AND query LIKE ANY ($2::text[])"""
FOLLOWING = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = $1"
FOLLOWING_ANY = "SELECT count(*) FROM pg_stat_replication"


_COMMITS = ("%store_batch%", "COMMIT%")


class Cluster:
    """The site's PostgreSQL, which has a standby from `protect` on.

    Args:
        site: one whose way to PostgreSQL goes through a proxy.
        synchronous: whether commits wait for the standby.
    """

    def __init__(self, site: Site, *, synchronous: bool = True) -> None:
        self._site = site
        self._proxy = site.proxies["postgres"]
        self._synchronous = synchronous
        self._standby: Postgres | None = None

    async def protect(self) -> None:
        """Give the primary a standby that follows it."""
        self._standby = await self._site.services.start_standby(self._site.postgres)
        names = "*" if self._synchronous else ""
        await self._configure(self._site.postgres, f"synchronous_standby_names = '{names}'")

        async def follows() -> str:
            state = "sync" if self._synchronous else "async"
            return "" if await self._site.sql(FOLLOWING, state) == 1 else f"no standby streams and is {state}"

        await until(follows, within_s=20)

    async def unplug(self) -> None:
        """Take the standby off the primary; synchronous commits wait from now on, others go on."""
        assert self._standby is not None
        await self._configure(self._standby, "primary_conninfo = ''")

        async def alone() -> str:
            return "the standby still follows" if await self._site.sql(FOLLOWING_ANY) else ""

        await until(alone, within_s=20)

    async def commit_waits(self, client: str, *statements: str) -> None:
        """Wait until what commits, a batch by either way unless told otherwise, waits for the standby."""
        await until(lambda: self.lacks_waiting(client, *(statements or _COMMITS)), within_s=20)

    async def lacks_waiting(self, client: str, *statements: str) -> str:
        """Say that no such statement of a client waits for the standby; empty when one does."""
        waits = await self._site.sql(WAITING, client, list(statements))
        return "" if waits else f"no {' or '.join(statements)} of {client} waits"

    async def fail_over(self, *, others_write: bool = False) -> None:
        """Kill the primary, promote the standby, and let clients find it.

        Args:
            others_write: whether another client is the first to write there, so that transactions which the
                standby never had give their ids to others.
        """
        assert self._standby is not None
        self._proxy.refuse()
        await self._site.postgres.kill()
        await self._standby.promote()
        self._site.postgres, self._standby = self._standby, None
        if others_write:
            connection = await asyncpg.connect(self._site.postgres.dsn())
            for _ in range(OTHERS_TRANSACTIONS):
                await connection.execute(OTHERS_WRITE)
            await connection.close()
        self._proxy.target = self._site.postgres.port
        self._proxy.heal()

    @staticmethod
    async def _configure(server: Postgres, setting: str) -> None:
        connection = await asyncpg.connect(server.dsn())
        try:
            await connection.execute(f"ALTER SYSTEM SET {setting}")
            await connection.execute("SELECT pg_reload_conf()")
        finally:
            await connection.close()
