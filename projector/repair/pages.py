"""Reads one set of views in pages, each in one transaction together with the set's cursors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from redis.exceptions import ResponseError

from projector.repair.compare import View
from projector.repair.replica import scan
from projector.views import answering, as_marks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from projector.views import Keys, Marks


class Family(NamedTuple):
    """All views of one kind in a set.

    Attributes:
        prefix: of their keys; the id follows.
        marks: the hash with their marks.
        scores: the sorted set with their times; None for regions.
        ahead: the sorted set with the clocks that are ahead; None for regions.
        expired: the hash with those that have left the views; None for regions.
    """

    prefix: str
    marks: str
    scores: str | None
    ahead: str | None
    expired: str | None


class Page(NamedTuple):
    """Some views, and what held at the instant at which they were so.

    Attributes:
        cursors: of the set.
        guard: the value under the key that was to be read along; None without one.
        views: in the order of the ids asked for.
    """

    cursors: Marks
    guard: bytes | None
    views: list[View]


def families(keys: Keys) -> tuple[Family, Family]:
    """A set's devices and its regions."""
    return (
        Family(keys.devices, keys.device_marks, keys.last_seen, keys.clock_ahead, keys.expired),
        Family(keys.regions, keys.region_marks, None, None, None),
    )


async def read_page(redis: Redis, keys: Keys, family: Family, ids: list[str], guard: str) -> Page:
    """Read the views with these ids; one that is not there is empty.

    Args:
        redis: where.
        keys: of the set.
        family: devices or regions of the set.
        ids: at least one.
        guard: a key whose value is read along.

    Raises:
        Retry: Redis is away, or the cursors are none.
    """
    with answering():
        async with redis.pipeline(transaction=True) as pipeline:
            pipeline.hgetall(keys.cursor)
            pipeline.hgetall(keys.epoch)
            pipeline.get(guard)
            pipeline.hmget(family.marks, ids)
            if family.scores:
                pipeline.zmscore(family.scores, ids)
            if family.ahead:
                pipeline.zmscore(family.ahead, ids)
            if family.expired:
                pipeline.hmget(family.expired, ids)
            for id_ in ids:
                pipeline.hgetall(family.prefix + id_)
            cursors, epochs, value, marks, *rest = await pipeline.execute(raise_on_error=False)
        for reply in (cursors, epochs, value):
            if isinstance(reply, ResponseError):
                raise reply
    nothing = [None] * len(ids)
    scores = rest.pop(0) if family.scores else nothing
    ahead = rest.pop(0) if family.ahead else nothing
    expired = rest.pop(0) if family.expired else nothing
    columns = [
        nothing if isinstance(column, ResponseError) else column for column in (scores, ahead, marks, expired)
    ]
    views = [
        View(_fields(fields), score, mark, ahead, expired=gone is not None)
        for fields, score, ahead, mark, gone in zip(rest, *columns, strict=True)
    ]
    return Page(as_marks(cursors, epochs, views=any(view.fields for view in views)), value, views)


async def known_ids(redis: Redis, family: Family) -> AsyncIterator[list[bytes]]:
    """The ids that a set's keys, marks or scores name, in batches; most come several times.

    Raises:
        Retry: Redis is away.
    """
    skip = len(family.prefix.encode())
    with answering():
        async for batch in scan(redis, family.prefix):
            yield [key[skip:] for key in batch]
        if await redis.type(family.marks) == b"hash":
            async for field, _ in redis.hscan_iter(family.marks, count=1000):
                yield [field]
        for scores in (family.scores, family.ahead):
            if scores and await redis.type(scores) == b"zset":
                async for member, _ in redis.zscan_iter(scores, count=1000):
                    yield [member]


def _fields(reply: Any) -> dict[str, str] | str | None:  # noqa: ANN401  # a reply, or the error in its place
    if isinstance(reply, ResponseError):
        return str(reply)
    return {_text(name): _text(value) for name, value in reply.items()} or None


def _text(raw: bytes) -> str:
    return raw.decode(errors="backslashreplace")
