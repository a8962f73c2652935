"""Finds a message in PostgreSQL and Redis, by the cheapest way there is.

With the device, one index leads to the measurement. Without it, the dedup window's key tables name the
devices that used the key. Only a key that they do not know, or that a route stored whose identity has the
topic or the time in it, is looked for in everybody's measurements, day by day back to `since`. The outbox row
is the one that the same transaction wrote.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
from redis.exceptions import RedisError

from contract.events import decode_events, format_time
from contract.views import CURSORS, EPOCHS, EXPIRED, PROJECTION, UNFINISHED, device_key
from gateway.dead_letters.letters import database
from gateway.trace.facts import Cursor, Facts, Letter, Row, Searched, Stored, key_names, names_key, spellings
from runtime.postgres import load_queries
from runtime.redis import as_retry, open_redis
from runtime.settings import duration_s

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import asyncpg
    from redis.asyncio import Redis

    from gateway.trace.facts import KeyNames
    from runtime.settings import Settings

queries = load_queries("gateway")

_LIMIT: Final = 20
_LETTERS: Final = 200
_SLOW_S: Final = 600.0
_AUTO: Final = "auto:"
_BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
_END: Final = datetime(9999, 1, 1, tzinfo=UTC)


class Search:
    """One search.

    Args:
        key: the message key.
        device: whose message; None: anybody's.
        since: earliest device time of measurements, and of receipt of dead letters.
        window: how long a key is known for at least.
        retention: how long an outbox row is kept for at least.
        prefix: of the keys in Redis.
        names: of the fields that are keys; None when they cannot be said.
        tell: told in a sentence that it has to look widely.
    """

    def __init__(
        self,
        pool: asyncpg.Pool[asyncpg.Record],
        redis: Redis,
        *,
        key: str,
        device: str | None,
        since: datetime,
        window: timedelta,
        retention: timedelta,
        prefix: str,
        names: KeyNames,
        tell: Callable[[str], None],
    ) -> None:
        self._pool = pool
        self._redis = redis
        self._key = key
        self._device = device
        self._since, self._until = _span(key, since)
        self._window = window
        self._retention = retention
        self._prefix = prefix
        self._names = names
        self._tell = tell
        self._redis_away: str | None = None

    async def run(self) -> Facts:
        """Ask for everything.

        Raises:
            Retry: PostgreSQL is away.
        """
        dedup = await self._one(queries.trace_window)
        self._generation, self._turned_at = dedup["generation"], dedup["turned_at"]
        devices = [self._device] if self._device else await self._devices()
        rows = await self._measurements(devices)
        known = {device: await self._known_until(device, []) for device in devices or []}
        return Facts(
            key=self._key,
            stored=[await self._stored(row) for row in rows],
            letters=await self._letters(),
            key_known=any(known.values()),
            searched=Searched(devices, self._since, self._turned_at - self._window),
            redis_away=self._redis_away,
        )

    async def _devices(self) -> list[str] | None:
        rows = await self._all(queries.trace_devices, self._key, _LIMIT)
        if len(rows) == _LIMIT:
            self._tell(
                f"{_LIMIT} devices and maybe more have used this key, here are some: --device picks one"
            )
        return [row["device_id"] for row in rows] or None

    async def _measurements(self, devices: list[str] | None) -> list[asyncpg.Record]:
        if devices is None:
            self._tell(
                f"no device is known to have used this key lately: looking through everybody's measurements "
                f"since {format_time(self._since)[:19]}Z; --device makes it quick"
            )
            span = self._since, self._until
            return await self._all(queries.trace_all_measurements, self._key, *span, _LIMIT)
        found: list[asyncpg.Record] = []
        for device in devices:
            here = await self._of_device(device, self._since, self._until)
            if not here and await self._known_until(device, []):
                self._tell(f"the key is known: looking through all measurements of {device}")
                here = await self._of_device(device, _BEGINNING, _END)
            found += here
        return found

    async def _of_device(self, device: str, since: datetime, until: datetime) -> list[asyncpg.Record]:
        return await self._all(queries.trace_device_measurements, device, self._key, since, until, _LIMIT)

    async def _stored(self, measurement: asyncpg.Record) -> Stored:
        device, ts = measurement["device_id"], measurement["ts"]
        row = await self._row(measurement)
        cursors, updated_at, expired = await self._projections(row.stream if row else None, device)
        return Stored(
            device,
            ts,
            measurement["received_at"],
            measurement["region"],
            msgspec.Raw(measurement["metrics"].encode()),
            row,
            row is None and await self._may_be_trimmed(measurement["received_at"]),
            cursors,
            await self._known_until(device, ["", format_time(ts)]),
            updated_at,
            expired,
        )

    async def _row(self, measurement: asyncpg.Record) -> Row | None:
        times = measurement["received_at"]
        rows = await self._all(queries.trace_outbox, measurement["transaction"], times, _LIMIT)
        for row in rows:
            events = decode_events(row["payload"])
            if any(
                event.key == self._key and event.device_id == measurement["device_id"] for event in events
            ):
                return Row(row["stream"], row["n"], row["epoch"], row["created_at"], row["published"])
        return None

    async def _may_be_trimmed(self, received_at: datetime) -> bool:
        kept_since = (await self._one(queries.trace_kept_since, self._retention))[0]
        return kept_since is not None and received_at < kept_since

    async def _projections(self, stream: int | None, device: str) -> tuple[list[Cursor], str | None, bool]:
        """How far each projection of a stream is; the views say so themselves, if Redis answers.

        With it when the device's view last changed, and whether the device has expired. Of a row that is gone
        nobody knows the stream: then only whether there are views.
        """
        reported = [
            Cursor(row["projection"], row["n"], row["epoch"], row["updated_at"])
            for row in await self._all(queries.trace_projections, stream)
        ]
        cursor, epochs, view = (
            self._prefix + CURSORS,
            self._prefix + EPOCHS,
            device_key(self._prefix, device),
        )
        try:
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.hget(cursor, str(stream))
                pipeline.hmget(epochs, str(stream), UNFINISHED)
                pipeline.hget(view, "updated_at")
                pipeline.hexists(self._prefix + EXPIRED, device)
                n, (epoch, unfinished), updated, expired = await pipeline.execute()
        except (RedisError, OSError) as error:
            retry = as_retry(error)
            self._redis_away = retry.reason if retry else " ".join(str(error).split())
            return reported, None, False
        if stream is not None and n is None and not any(each.projection == PROJECTION for each in reported):
            return reported, None, False
        if unfinished:
            epoch = UNFINISHED.encode()
        live = Cursor(PROJECTION, int(n or 0), epoch.decode() if epoch else None, None)
        others = [cursor for cursor in reported if cursor.projection != PROJECTION]
        return [live, *others], updated.decode() if updated else None, bool(expired)

    async def _known_until(self, device: str, times: Sequence[str]) -> datetime | None:
        """Until when about the dedup window knows the key of a device.

        Args:
            device: whose.
            times: device times as identity = "key+time" takes them along; "" is one that was not stated.
        """
        identity = f"{device}\x1f{self._key}"
        identities = [identity, *(f"{identity}\x1f{time}" for time in times)]
        held = [row["generation"] for row in await self._all(queries.trace_generations, identities)]
        if not held:
            return None
        turns = 2 if self._generation in held else 1
        return cast("datetime", self._turned_at) + turns * self._window

    async def _letters(self) -> list[Letter]:
        said = f"key {self._key!r} "
        rows = await self._all(
            queries.trace_dead_letters, self._since, self._device, spellings(self._key), said, _LETTERS
        )
        letters = []
        for row in rows:
            certain = said in row["error"] or names_key(row["payload"], self._key, self._names)
            if certain is not False:
                fields = {name: row[name] for name in Letter.__struct_fields__ if name != "certain"}
                letters.append(Letter(**fields, certain=bool(certain)))
        return sorted(letters, key=lambda letter: not letter.certain)[:_LIMIT]

    async def _all(self, query: str, *arguments: Any) -> list[asyncpg.Record]:  # noqa: ANN401  # values of a query
        return await self._pool.fetch(query, *arguments, timeout=_SLOW_S)

    async def _one(self, query: str, *arguments: object) -> asyncpg.Record:
        (row,) = await self._all(query, *arguments)
        return row


async def search(
    settings: Settings,
    *,
    key: str,
    device: str | None,
    since: datetime,
    window: timedelta,
    tell: Callable[[str], None],
) -> Facts:
    """Search with connections of its own.

    Raises:
        Retry: PostgreSQL is away.
        Stop: its schema is not this program's.
    """
    async with (
        database(settings.postgres.dsn, name="gateway-trace") as pool,
        open_redis(settings.redis.url, settings.redis.prefix) as redis,
    ):
        return await Search(
            pool,
            redis,
            key=key,
            device=device,
            since=since,
            window=window,
            retention=timedelta(seconds=duration_s(settings.gateway.outbox_retention)),
            prefix=settings.redis.prefix,
            names=key_names(settings.route),
            tell=tell,
        ).run()


def _span(key: str, since: datetime) -> tuple[datetime, datetime]:
    """Device times among which to look: a key that was made from the device time says which."""
    if key.startswith(_AUTO):
        try:
            moment = datetime.fromisoformat(key.removeprefix(_AUTO).rpartition(":")[0])
        except ValueError:
            pass
        else:
            return moment, moment
    return since, _END
