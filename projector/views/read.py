"""Reads views that are not remembered, at one instant and with the version that they then had."""

from __future__ import annotations

import contextlib
from importlib import resources
from math import inf
from sys import intern
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import msgspec
from redis.exceptions import RedisError

from projector.views.state import VIEW, View, Wanted, metric, unpack_marks
from runtime.errors import Retry
from runtime.redis import as_retry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator

    from redis.commands.core import AsyncScript

    from projector.views.apply import Run
    from projector.views.position import Keys

    _Value = bytes | None
    _Reply = tuple[list[_Value], list[_Value], list[_Value], list[list[_Value]]]

READ: Final = resources.files("projector.views").joinpath("read.lua").read_text(encoding="utf-8")

METRICS_A_CALL: Final = 3000  # a view being as much as `VIEW`

_FIXED: Final = 5  # values of a view that are read whatever its metrics
_STATISTICS: Final = 4  # values of a metric that are read

_encoder: Final = msgspec.msgpack.Encoder()


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


def in_calls(devices: list[Wanted], regions: list[Wanted]) -> Iterator[tuple[list[Wanted], list[Wanted]]]:
    """What is to be read, as much at once as Redis gives in some milliseconds."""
    call: tuple[list[Wanted], list[Wanted]] = ([], [])
    size = 0
    for kind, its in enumerate((devices, regions)):
        for wanted in its:
            for first in range(0, len(wanted.names) or 1, METRICS_A_CALL):
                names = wanted.names[first : first + METRICS_A_CALL]
                call[kind].append(Wanted(wanted.id, names))
                size += VIEW + len(names)
                if size >= METRICS_A_CALL:
                    yield call
                    call, size = ([], []), 0
    if size:
        yield call


class Found(NamedTuple):
    """What was read.

    Attributes:
        version: of the set of views.
        follows: whether the run that asks follows the cursor, and nothing is staged; else nothing was read.
        devices: as far as they are there; `regions` likewise.
        lost: the key of a view that is gone and has marks, or the other way round; empty when there is none.
    """

    version: str
    follows: bool
    devices: list[View]
    regions: list[View]
    lost: str


class _Expired(msgspec.Struct):
    last_seen: str | None = None  # it came back, and is to be there
    region: str | None = None


async def read_views(
    script: AsyncScript, keys: Keys, run: Run, devices: list[Wanted], regions: list[Wanted]
) -> Found:
    """Read devices and regions for a run, each with the metrics that are wanted of it.

    Raises:
        RedisError: Redis is away, or a key of ours is something else.
        Retry: a value under a key of ours is none of ours.
    """
    wanted = devices + regions
    names = [keys.device(each.id) for each in devices] + [keys.region(each.id) for each in regions]
    asked = (
        *(run.stream, run.first),
        *([each.id for each in devices], [each.id for each in regions], [each.names for each in wanted]),
    )
    fixed = [keys.cursor, keys.epoch, keys.device_marks, keys.region_marks, keys.expired]
    reply = await cast("Awaitable[list[Any]]", script([*fixed, *names], [_encoder.encode(asked)]))
    version = reply[0].decode(errors="replace")
    if len(reply) == 1:
        return Found(version, follows=False, devices=[], regions=[], lost="")
    device_marks, region_marks, expired, values = cast("_Reply", tuple(reply[1:]))
    marks = device_marks + region_marks
    expired += [None] * len(regions)
    views, lost = [], ""
    for key, each, mark, gone, its in zip(names, wanted, marks, expired, values, strict=True):
        try:
            views.append(view := _view(each, mark, gone, its))
        except ValueError as error:  # msgspec's errors are ValueErrors too
            detail = f"{key}, or what belongs to it, holds what is none of ours: {error}"
            raise Retry("redis", detail) from error
        if (mark is not None) != (view.exists or view.returned is not None):
            lost = key
    for view in views[len(devices) :]:
        view.region = None  # it is one, and is in none
    return Found(
        version, follows=True, devices=views[: len(devices)], regions=views[len(devices) :], lost=lost
    )


def _view(wanted: Wanted, marks: _Value, gone: _Value, values: list[_Value]) -> View:
    region, members, count, ahead, dropped = values[:_FIXED]
    view = View(intern(wanted.id), exists=count is not None, count=int(count or 0))
    if marks is not None:
        unpack_marks(marks, view)
    view.region = intern(region.decode()) if region is not None else None
    view.members = int(members) if members is not None else None
    view.ahead = ahead is not None
    view.dropped = int(dropped or 0)
    if gone is not None and not view.exists:
        expired = msgspec.json.decode(gone, type=_Expired)
        view.returned, view.region = expired.last_seen, expired.region
    found: dict[str, list[Any]] = {}
    for at, name in enumerate(wanted.names):
        first = _FIXED + at * _STATISTICS
        fresh = name not in view.names and name not in view.others
        found[intern(name)] = _metric(*values[first : first + _STATISTICS], fresh=fresh)
    view.know(found)
    return view


def _metric(low: _Value, high: _Value, total: _Value, count: _Value, *, fresh: bool) -> list[Any]:
    if total is None or count is None:
        return metric(fresh=fresh)
    least, greatest = inf if low is None else float(low), -inf if high is None else float(high)
    return metric(int(count), float(total), least, greatest, fresh=fresh)
