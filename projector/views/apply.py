"""The views in Redis and the one script that changes them.

`Keys` names everything that belongs to one set of views, so that a second set beside the first is another
`Keys`. `Views.apply` changes a set atomically: `apply.lua` says how, and what its guard refuses. Calling it
again with the same run, after an answer that was lost, is harmless: the guard answers `duplicate`.
"""

from __future__ import annotations

import contextlib
from datetime import datetime
from importlib import resources
from itertools import chain
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, cast

import msgspec
from msgspec.structs import astuple
from redis.exceptions import NoPermissionError, RedisError

from contract.events import format_time
from contract.views import (
    CURSORS,
    DAMAGED,
    EPOCHS,
    EXPIRED,
    FORMAT,
    OUTDATED,
    UNFINISHED,
    VIEWS_FORMAT,
    device_key,
)
from runtime.errors import Retry
from runtime.redis import as_retry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator, Mapping

    from redis.asyncio import Redis

    from projector.views.fold import Folded

Status = Literal["applied", "duplicate", "gap", "epoch", "lost"]

_SCRIPT: Final = resources.files("projector.views").joinpath("apply.lua").read_text(encoding="utf-8")
_GIVE_UP: Final = """
for i = 2, #ARGV, 2 do
  if tonumber(redis.call('HGET', KEYS[1], ARGV[i]) or 0) >= tonumber(ARGV[i + 1]) then
    return redis.call('HSET', KEYS[2], ARGV[1], '1')
  end
end
"""
_KEEPS: Final = "noeviction"
_encoder = msgspec.msgpack.Encoder()


class Keys:
    """Names of the keys of one set of views.

    Args:
        prefix: goes before every key; a hash tag such as `{edge}:` keeps them in one slot of a Redis Cluster.
    """

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.cursor = f"{prefix}{CURSORS}"
        self.epoch = f"{prefix}{EPOCHS}"
        self.device_marks = f"{prefix}projector:marks:devices"
        self.region_marks = f"{prefix}projector:marks:regions"
        self.last_seen = f"{prefix}devices:last_seen"
        self.clock_ahead = f"{prefix}devices:clock_ahead"
        self.expired = f"{prefix}{EXPIRED}"
        self.devices = device_key(prefix, "")
        self.regions = f"{prefix}region:stats:"

    @property
    def fixed(self) -> tuple[str, ...]:
        """The keys that a set has once, in the order in which the scripts take them."""
        return (
            *(self.cursor, self.epoch, self.device_marks, self.region_marks),
            *(self.last_seen, self.clock_ahead, self.expired),
        )

    def device(self, device_id: str) -> str:
        """The hash with a device's statistics."""
        return self.devices + device_id

    def region(self, region: str) -> str:
        """The hash with a region's statistics."""
        return self.regions + region


class Seen(NamedTuple):
    """A row that was read: its position, and when it was written, in the contract's form.

    No two histories of a stream have a row in common once they part, because they wrote it at different
    times. So whoever finds one of its rows unchanged knows that all before it are.
    """

    n: int
    created_at: str


class Cursor(NamedTuple):
    """How far the views have come on a stream; n is 0 and the epoch None when they know nothing of it.

    Attributes:
        written_at: when the row was written, in the contract's form; None when that is not known.
        confirmed: the last row that PostgreSQL was known to have when asked; None when that is not known.
    """

    n: int
    epoch: str | None
    written_at: str | None = None
    confirmed: Seen | None = None


class Run(NamedTuple):
    """Consecutive outbox rows of one stream and epoch, folded.

    Attributes:
        written_at: when the last of them was written, in the contract's form; empty when they are no rows.
    """

    stream: int
    epoch: str
    first: int
    last: int
    folded: Folded
    written_at: str = ""


class Outcome(NamedTuple):
    """What became of a run.

    Attributes:
        status: only with `applied` has anything changed. `duplicate`: the views had all of it. `gap`: its
            first row does not follow the cursor. `epoch`: the views hold another history of the stream, or
            are being replaced. `lost`: a view was gone, and the set is marked as one to be made anew.
        cursor: the last row in the views now.
        key: of the view that was gone.
    """

    status: Status
    cursor: int
    key: str = ""


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Turn errors of Redis inside the block into `Retry`.

    All of them: what is not ours under our keys, an operator can remove.

    Raises:
        Retry: Redis is away, out of memory, or holds something else under our keys.
    """
    try:
        yield
    except (RedisError, OSError) as error:
        raise as_retry(error) or Retry("redis", " ".join(str(error).split())) from error


class Marks(dict[int, Cursor]):
    """How far a set of views has come, by stream; what it has nothing of is at row 0.

    While the set is being replaced (`projector/repair/swap.py`), or was not to the end, or has been given
    up, every epoch is `UNFINISHED`; `OUTDATED`, when the set was written by another version, whose marks
    mean something else, and `DAMAGED`, when a stream has an epoch and no cursor, or there are views and
    neither.

    Args:
        views: whether there are views.
    """

    def __init__(self, cursors: Mapping[bytes, bytes], epochs: Mapping[bytes, bytes], *, views: bool) -> None:
        unusable: str | None = None
        if UNFINISHED.encode() in epochs:
            unusable = UNFINISHED
        elif cursors and epochs.get(FORMAT.encode()) != VIEWS_FORMAT.encode():
            unusable = OUTDATED
        elif any(stream.isdigit() and stream not in cursors for stream in epochs) or (
            views and not cursors and FORMAT.encode() not in epochs
        ):
            unusable = DAMAGED
        self._missing = Cursor(0, unusable)
        for stream, n in cursors.items():
            epoch = epochs[stream].decode() if stream in epochs else None
            written_at = _time(epochs.get(b"%s:written_at" % stream, b""))
            row, _, at = epochs.get(b"%s:confirmed" % stream, b"").partition(b" ")
            confirmed = Seen(int(row), _time(at) or "") if at else None
            self[int(stream)] = Cursor(int(n), self._missing.epoch or epoch, written_at, confirmed)

    def __missing__(self, stream: int) -> Cursor:
        """Nothing of the stream is in the views."""
        return self._missing


def _time(text: bytes) -> str | None:
    """A time in the contract's form; None when there is none.

    Raises:
        ValueError: it is something else.
    """
    if not text:
        return None
    time = text.decode()
    if time != format_time(datetime.fromisoformat(time)):
        raise ValueError(f"{time!r} is no time of ours")
    return time


def as_marks(cursors: Mapping[bytes, bytes], epochs: Mapping[bytes, bytes], *, views: bool) -> Marks:
    """Read the hashes `projector:cursor` and `projector:epoch`, beside which there are views, or not.

    Raises:
        Retry: they hold something else.
    """
    try:
        return Marks(cursors, epochs, views=views)
    except ValueError as error:
        raise Retry(
            "redis", f"projector:cursor or projector:epoch holds what is none of ours: {error}"
        ) from error


class Views:
    """One set of views in Redis."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._keys = keys
        self._redis = redis
        self._script = redis.register_script(_SCRIPT)
        self._give_up = redis.register_script(_GIVE_UP)

    async def apply(self, run: Run, now: datetime) -> Outcome:
        """Apply a run, all of it or nothing.

        Args:
            run: what to apply.
            now: goes into `updated_at` of every view that changes.

        Raises:
            Retry: Redis is away, out of memory, or a key of ours holds something that is not ours. Nothing
                is applied, except when the answer was lost.
        """
        former: list[str] = []
        while True:
            status, cursor, *names = await self._call(run, now, former)
            if status != b"moved":
                return Outcome(cast("Status", status.decode()), cursor, b"".join(names).decode())
            former = [region.decode() for region in names]

    async def marks(self) -> Marks:
        """Read how far every stream has come.

        Raises:
            Retry: Redis is away or holds something else under our keys.
        """
        with answering():
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.hgetall(self._keys.cursor)
                pipeline.hgetall(self._keys.epoch)
                pipeline.exists(self._keys.last_seen)
                cursors, epochs, views = await pipeline.execute()
        return as_marks(cursors, epochs, views=bool(views))

    async def clocks_ahead(self) -> int:
        """How many devices' clocks were ahead in their newest messages.

        Raises:
            Retry: Redis is away or holds something else under our key.
        """
        with answering():
            return int(await self._redis.zcard(self._keys.clock_ahead))

    async def eviction(self) -> str | None:
        """The server's policy by which it may drop views when its memory is full.

        None when it drops nothing, or does not tell us.

        Raises:
            Retry: Redis is away.
        """
        with answering():
            try:
                policy = str((await self._redis.info("memory")).get("maxmemory_policy", _KEEPS))
            except NoPermissionError:
                return None
        return None if policy == _KEEPS else policy

    async def confirm(self, rows: Mapping[int, Seen]) -> None:
        """Note the last row of each stream that PostgreSQL was known to have when asked.

        Raises:
            Retry: Redis is away.
        """
        if rows:
            noted: list[str | int] = []
            for stream, row in rows.items():
                noted += (f"{stream}:confirmed", f"{row.n} {row.created_at}")
            with answering():
                await self._redis.hset(self._keys.epoch, items=noted)

    async def give_up(self, known: Mapping[int, int]) -> None:
        """Mark the set as one that no stream leads on from: nothing is applied to it until it is made anew.

        Args:
            known: stream → where its cursor was when that was found. If all have gone back since, the set
                has been made anew, and nothing is done.

        Raises:
            Retry: Redis is away.
        """
        with answering():
            await cast(
                "Awaitable[None]",
                self._give_up([self._keys.cursor, self._keys.epoch], [UNFINISHED, *chain(*known.items())]),
            )

    async def _call(
        self, run: Run, now: datetime, former: list[str]
    ) -> tuple[bytes, int, *tuple[bytes, ...]]:
        keys = self._keys
        devices, regions = run.folded.devices, run.folded.regions
        names = list(keys.fixed)
        names += [keys.device(delta.id) for delta in devices]
        names += [keys.region(delta.id) for delta in regions]
        names += [keys.region(region) for region in former]
        blob = _pack(run, now, former)
        with answering():
            reply = await cast("Awaitable[list[bytes | int]]", self._script(names, [blob]))
        return cast("tuple[bytes, int, *tuple[bytes, ...]]", tuple(reply))


def _pack(run: Run, now: datetime, former: list[str]) -> bytes:
    devices, regions = run.folded.devices, run.folded.regions
    values: list[object] = [
        *(run.stream, run.epoch, run.first, run.last, run.written_at),
        *(format_time(now), str(int(now.timestamp() * 1000)), VIEWS_FORMAT),
        *([delta.id for delta in devices], [delta.id for delta in regions], former),
    ]
    for delta in chain(devices, regions):
        values += (
            *(delta.count, delta.last_seen, delta.ahead_ms, delta.us, delta.tie, delta.shape),
            *(delta.region, delta.region_us, delta.region_tie),
            *(delta.tags, delta.tags_us, delta.tags_tie, len(delta.metrics)),
        )
        for name, last, us, tie, count, total, low, high in map(astuple, delta.metrics):
            values += (name, last, us, tie, count, total, low, high)
    packed = _encoder.encode(values)
    return packed[_header_bytes(len(values)) :]


def _header_bytes(size: int) -> int:
    """Length of the head of a MessagePack array of so many values."""
    return 1 if size < 16 else 3 if size < 65536 else 5  # noqa: PLR2004  # fixarray, array 16, array 32
