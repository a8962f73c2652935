"""The accounting after the quiet: what devices know against what PostgreSQL and Redis hold.

| invariant | |
|---|---|
| I1 | what the broker acknowledged is stored exactly once, or is a dead letter |
| I2 | nothing is stored or kept that nobody sent |
| I3 | each stream's outbox is contiguous up to its head, and its events are the measurements |
| I4 | Redis is the fold of the measurements (`tests/faults/refold.py`) |
| I5 | the cursor is at the head within five seconds of the quiet |
| I6 | what is missing is no more than what the broker says that it dropped |
| I7 | history is the measurements by minute and hour (`projector verify --only history`) |

A publish without PUBACK has an unknown outcome and may be either. A definite loss fails.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast

import asyncpg

from contract.events import decode_events, format_time
from projector.history.audit import Auditor as HistoryAuditor
from runtime.redis import open_redis
from tests.faults import refold
from tests.faults.watch import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tests.faults.messages import Scalar, Sent

CURSOR_WITHIN_S = 5.0

Content = tuple[str, str | None, str | None, str | None, str, str]
"""Device, key, region, device time, metrics and tags, as a device said them; None for what it did not say."""


class Row(NamedTuple):
    """One stored measurement, in the contract's form."""

    device: str
    key: str
    region: str | None
    ts: str
    received_at: str
    metrics: str
    tags: str

    def said(self, *, keyed: bool, timed: bool) -> Content:
        """What a device said; the rest is ours: with a key of ours, or a time of arrival, those too."""
        key, ts = self.key if keyed else None, self.ts if timed else None
        return self.device, key, self.region, ts, self.metrics, self.tags


@dataclass(frozen=True)
class Books:
    """What an audit found, for a scenario that expects more than the invariants."""

    sent: int
    acked: int
    stored: int
    buried: int
    missing: list[Sent]


def _same(metrics: Mapping[str, Scalar]) -> str:
    """One text for equal metrics; negative zero is zero, as PostgreSQL's jsonb has it."""
    return json.dumps(
        {k: v or 0.0 if isinstance(v, float) else v for k, v in metrics.items()}, sort_keys=True
    )


def _content(sent: Sent) -> Content:
    return sent.device, sent.key, sent.region, sent.ts, _same(sent.metrics), _same(sent.tags or {})


def _contents(rows: Iterable[Row]) -> set[Content]:
    """All that devices may have said for these rows to be there."""
    ways = [(keyed, timed) for keyed in (True, False) for timed in (True, False)]
    return {row.said(keyed=keyed, timed=timed) for row in rows for keyed, timed in ways}


class Auditor:
    """Looks at one database and one Redis.

    Args:
        dsn: PostgreSQL, past any proxy.
        redis_url: Redis, past any proxy.
        prefix: of all keys there.
    """

    def __init__(self, dsn: str, redis_url: str, prefix: str = "") -> None:
        self._dsn = dsn
        self._redis_url = redis_url
        self._prefix = prefix

    async def lacks(
        self, log: Iterable[Sent], excused: Callable[[float], bool] = lambda _acked_at: False
    ) -> str:
        """Say what is acknowledged and neither stored nor a dead letter; empty when all is there."""
        acked = [sent for sent in log if sent.acked_at is not None and not excused(sent.acked_at)]
        missing = await self._missing(acked)
        return f"{len(missing)} of {len(acked)}, such as {missing[:5]}" if missing else ""

    async def audit(
        self,
        log: list[Sent],
        *,
        dropped: int = 0,
        excused: Callable[[float], bool] = lambda _acked_at: False,
        cursor_within_s: float = CURSOR_WITHIN_S,
    ) -> Books:
        """Check every invariant; again from the beginning when something was stored meanwhile.

        What is delivered again without a key is stored again, and nothing tells when the last of it has come.

        Args:
            log: everything that was sent.
            dropped: how many the broker says it dropped: the bound of I6.
            excused: whether the broker, killed, may have lost what it acknowledged at this time.
            cursor_within_s: for scenarios that end in a rebuild.
        """
        while True:
            before = await self._stored()
            try:
                books = await self._check(log, dropped, excused, cursor_within_s)
            except AssertionError:
                if await self._stored() == before:
                    raise
            else:
                if await self._stored() == before:
                    return books

    async def _stored(self) -> list[asyncpg.Record]:
        """What changes with everything that is stored."""
        return await self._fetch(
            "SELECT (SELECT sum(head) FROM streams) AS rows, (SELECT count(*) FROM dead_letters) AS letters"
        )

    async def _check(
        self, log: list[Sent], dropped: int, excused: Callable[[float], bool], cursor_within_s: float
    ) -> Books:
        acked = [sent for sent in log if sent.acked_at is not None]
        rows, letters = await self._measurements(), await self._dead_letters()
        missing = await self._missing(acked)
        lost = [sent for sent in missing if sent.acked_at is None or not excused(sent.acked_at)]
        assert len(lost) <= dropped, f"I1, I6: {len(lost)} lost, the broker says {dropped}: {lost[:3]}"
        self._check_origin(log, rows, letters)
        await self._check_outbox(rows)
        await until(self._cursor_trails, within_s=cursor_within_s)
        await self._check_views(rows)
        await self._check_history()
        return Books(len(log), len(acked), len(rows), len(letters), missing)

    async def _missing(self, acked: list[Sent]) -> list[Sent]:
        stored = _contents(await self._measurements())
        letters = await self._dead_letters()
        return [
            sent
            for sent in acked
            if sent.payload not in letters and not {_content(each) for each in (sent, *sent.also)} <= stored
        ]

    def _check_origin(self, log: list[Sent], rows: list[Row], letters: set[bytes]) -> None:
        sent = {_content(each) for whole in log if whole.sound for each in (whole, *whole.also)}
        invented = [row for row in rows if sent.isdisjoint(_contents([row]))]
        assert not invented, f"I2: {len(invented)} rows that nobody sent: {invented[:3]}"
        strange = letters - {each.payload for each in log}
        assert not strange, f"I2: dead letters that nobody sent: {list(strange)[:3]}"
        identities = Counter((row.device, row.key, *sorted(json.loads(row.metrics))) for row in rows)
        twice = [identity for identity, n in identities.items() if n > 1]
        assert not twice, f"I1: stored more than once: {twice[:5]}"

    async def _check_outbox(self, rows: list[Row]) -> None:
        async with asyncpg.create_pool(self._dsn, min_size=0, max_size=1) as pool:
            streams = await pool.fetch("SELECT stream, head FROM streams")
            outbox = await pool.fetch("SELECT stream, n, events, payload FROM outbox ORDER BY stream, n")
        events: Counter[Row] = Counter()
        numbers: dict[int, list[int]] = {row["stream"]: [] for row in streams}
        for record in outbox:
            numbers[record["stream"]].append(record["n"])
            decoded = decode_events(record["payload"])
            assert len(decoded) == record["events"], f"I3: {record['stream']}/{record['n']} miscounts"
            events.update(
                Row(e.device_id, e.key, e.region, e.ts, e.received_at, _same(e.metrics), _same(e.tags or {}))
                for e in decoded
            )
        for stream in streams:
            found = numbers[stream["stream"]]
            assert found == list(range(1, stream["head"] + 1)), f"I3: stream {stream} has the rows {found}"
        difference = (events - Counter(rows), Counter(rows) - events)
        assert events == Counter(rows), f"I3: only in the outbox, only in measurements: {difference}"

    async def _cursor_trails(self) -> str:
        """A cursor that happens to be at the head of another history is not there."""
        heads = await self._fetch("SELECT stream::text, head, epoch::text FROM streams WHERE head > 0")
        async with open_redis(self._redis_url, self._prefix, decode=True) as redis:
            cursors = await redis.hgetall(f"{self._prefix}projector:cursor")
            epochs = await redis.hgetall(f"{self._prefix}projector:epoch")
        trailing = {
            stream: (cursors.get(stream), head)
            for stream, head, epoch in heads
            if (int(cursors.get(stream, 0)), epochs.get(stream)) != (head, epoch)
        }
        return f"I5: cursors and heads of streams: {trailing}" if trailing else ""

    async def _check_views(self, rows: list[Row]) -> None:
        expected = refold.fold(
            refold.Event(
                row.device,
                row.key,
                row.region,
                row.ts,
                row.received_at,
                json.loads(row.metrics),
                json.loads(row.tags),
            )
            for row in rows
        )
        async with open_redis(self._redis_url, self._prefix, decode=True) as redis:
            found: dict[str, dict[str, str]] = {
                key.removeprefix(self._prefix): cast("dict[str, str]", await redis.hgetall(key))
                for pattern in ("device:stats:*", "region:stats:*")
                async for key in redis.scan_iter(self._prefix + pattern, count=1000)
            }
            scores = await redis.zrange(f"{self._prefix}devices:last_seen", 0, -1, withscores=True)
        differences = refold.differences(expected.views, found)
        assert not differences, f"I4: {len(differences)} differences: {differences[:5]}"
        assert dict(cast("list[tuple[str, float]]", scores)) == expected.last_seen, "I4: devices:last_seen"

    async def _check_history(self) -> None:
        async with asyncpg.create_pool(self._dsn, min_size=0, max_size=1) as pool:
            found = await HistoryAuditor(pool).verify(lambda _done, _of: None, limit=5)
        assert found.equal, f"I7: history differs from the measurements: {found.differences}"

    async def _measurements(self) -> list[Row]:
        return [
            Row(
                row["device_id"],
                row["message_key"],
                row["region"],
                format_time(row["ts"]),
                format_time(row["received_at"]),
                _same(json.loads(row["metrics"])),
                _same(json.loads(row["tags"] or "{}")),
            )
            for row in await self._fetch("SELECT * FROM measurements")
        ]

    async def _dead_letters(self) -> set[bytes]:
        return {row["payload"] for row in await self._fetch("SELECT payload FROM dead_letters")}

    async def _fetch(self, query: str) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self._dsn, timeout=10)
        try:
            return list(await connection.fetch(query))
        finally:
            await connection.close()
