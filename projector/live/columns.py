"""The columns of the list: which metrics most devices have, and the devices in the order of a column.

Nobody keeps count of metrics, so some devices are asked for theirs, evenly spread. To sort by a metric, or by
when they were last seen, all devices are asked for it; what was found is good for ten seconds.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Final

from projector.live.fields import Fields
from projector.live.orders import number_in
from projector.live.rows import metrics_in, text
from projector.views import answering

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence

    from redis.asyncio import Redis

    from projector.live.orders import Order
    from projector.live.places import Places
    from projector.views import Keys

SHOWN: Final = 6
SAMPLE: Final = 200
NAMES: Final = 100
_SAMPLE_GOOD_FOR_MS: Final = 30_000
_VALUES_GOOD_FOR_MS: Final = 10_000
_SORTED: Final = 20_000  # at once: about ten milliseconds
_ORDERS: Final = 16  # kept at a time
_SHARES: Final = 10  # about as common is equally common, so that columns stand still
_UPKEEP: Final = frozenset(
    {
        "battery",
        "rssi",
        "snr",
        "lqi",
        "linkquality",
        "uptime",
        "heap",
        "seq",
        "channel",
        "version",
        "firmware",
    }
)


class Columns:
    """Asks devices of one set of views.

    Attributes:
        common: names of metrics, those of most devices first; of equally common ones those last that are
            about the device and not about what it measures, and numbers before texts.
    """

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._fields = Fields(redis, keys, keys.devices)
        self.common: list[str] = []
        self._sampled_ms = 0
        self._turn = asyncio.Lock()
        self._orders: dict[tuple[Order, Hashable], list[str]] = {}
        self._orders_ms = 0
        self._field = ""
        self._read_ms = 0
        self._values: dict[str, str | None] = {}

    @property
    def first(self) -> list[str]:
        """Those that rows have when nobody asks for others."""
        return self.common[:SHOWN]

    async def learn(self, ids: Collection[str], now_ms: int) -> None:
        """Find out which metrics these devices have, when it is time.

        Raises:
            Retry: Redis is away.
        """
        if self.common and now_ms - self._sampled_ms < _SAMPLE_GOOD_FOR_MS:
            return
        sample = list(ids)[:: -(-len(ids) // SAMPLE) or 1]
        with answering():
            async with self._redis.pipeline(transaction=False) as pipeline:
                for id_ in sample:
                    pipeline.hkeys(self._keys.device(id_))
                replies = await pipeline.execute()
        self._sampled_ms = now_ms
        self.common = most_common([text(field) for field in reply] for reply in replies)

    async def arranged(
        self, ids: Sequence[str], order: Order, places: Places, now_ms: int, *, asked: Hashable = None
    ) -> list[str]:
        """Devices in the order of a column; those without a value are last, whichever way.

        Args:
            ids: the devices; equal ones stay as they stand.
            order: the column.
            places: know regions.
            now_ms: the time.
            asked: what the ids were chosen by: for the same the same order is given for a while.

        Raises:
            Retry: Redis is away.
        """
        async with self._turn:
            if now_ms - self._orders_ms > _VALUES_GOOD_FOR_MS:
                self._orders.clear()
            if (order, asked) not in self._orders:
                if len(self._orders) >= _ORDERS:
                    del self._orders[next(iter(self._orders))]
                if not self._orders:
                    self._orders_ms = now_ms
                self._orders[order, asked] = await self._arrange(ids, order, places, now_ms)
            return self._orders[order, asked]

    async def _arrange(self, ids: Sequence[str], order: Order, places: Places, now_ms: int) -> list[str]:
        values: Mapping[str, str | None]
        if order.by == "region":
            await places.learn(ids)
            values = places.regions
        elif order.by == "device":
            values = dict(zip(ids, ids, strict=True))
        else:
            field = "last_seen_ms" if order.by == "seen" else f"last_{order.metric}"
            values = await self._read(ids, field, now_ms)
        return await arranged(
            ids, values, numbers=order.by in {"metric", "seen"}, descending=order.descending
        )

    async def _read(self, ids: Iterable[str], field: str, now_ms: int) -> Mapping[str, str | None]:
        if field != self._field or now_ms - self._read_ms > _VALUES_GOOD_FOR_MS:
            self._field, self._read_ms, self._values = field, now_ms, {}
        values = self._values
        new = [id_ for id_ in ids if id_ not in values]
        async for id_, (value,) in self._fields.read(new, (field,)):
            values[id_] = None if value is None else text(value)
        return values


def most_common(devices: Iterable[Sequence[str]]) -> list[str]:
    """Metrics by how many devices have them; then what is of the device last, numbers before texts, by name.

    Args:
        devices: of each the names of its hash's fields.
    """
    having: Counter[str] = Counter()
    numbers: set[str] = set()
    asked = 0
    for asked, fields in enumerate(devices, 1):  # noqa: B007  # how many there were
        having.update(metrics_in(fields))
        numbers.update(field.removeprefix("count_") for field in fields if field.startswith("count_"))
    rank = {
        name: (
            -round(_SHARES * many / asked),
            not _UPKEEP.isdisjoint(name.split("_")),
            name not in numbers,
            name,
        )
        for name, many in having.items()
    }
    return sorted(having, key=rank.__getitem__)[:NAMES]


async def arranged(
    ids: Sequence[str], values: Mapping[str, str | float | None], *, numbers: bool, descending: bool
) -> list[str]:
    """Devices by a value; others have their turn in between.

    Args:
        ids: the devices; equal ones stay as they stand.
        values: device → its value; who has none is last.
        numbers: whether a text of digits is a number; numbers come before texts.
        descending: the greatest first.
    """
    sizes: dict[str, float] = {}
    texts: dict[str, str] = {}
    measured: list[str] = []
    named: list[str] = []
    unknown: list[str] = []
    for start in range(0, len(ids), _SORTED):
        for id_ in ids[start : start + _SORTED]:
            value = values.get(id_)
            if value is None:
                unknown.append(id_)
            elif numbers and (size := number_in(value)) is not None:
                sizes[id_] = size
                measured.append(id_)
            else:
                texts[id_] = str(value)
                named.append(id_)
        measured.sort(key=sizes.__getitem__, reverse=descending)  # two runs: merged, not sorted anew
        named.sort(key=texts.__getitem__, reverse=descending)
        await asyncio.sleep(0)
    return [*named, *measured, *unknown] if descending else [*measured, *named, *unknown]
