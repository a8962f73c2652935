"""Which metrics the fleet has, the most common first: out of a sample, as nobody keeps count of them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from projector.live.rows import metrics_in, text
from projector.views import answering

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from redis.asyncio import Redis

    from projector.views import Keys

SAMPLE: Final = 200
SHOWN: Final = 100
_GOOD_FOR_MS: Final = 30_000
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
_SHARES: Final = 10  # about as common is equally common, so that columns stand still


class Names:
    """Asks devices of one set of views.

    Attributes:
        common: names of metrics, those of most devices first; of equally common ones those last that are
            about the device and not about what it measures, and numbers before texts.
    """

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self.forget()

    def forget(self) -> None:
        """Nobody looks any more."""
        self.common: list[str] = []
        self._asked_ms = 0

    async def learn(self, ids: Sequence[str], now_ms: int) -> None:
        """Ask some of these devices, evenly spread, when it is time.

        Raises:
            Retry: Redis is away.
        """
        if self.common and now_ms - self._asked_ms < _GOOD_FOR_MS:
            return
        sample = ids[:: -(-len(ids) // SAMPLE) or 1]
        with answering():
            async with self._redis.pipeline(transaction=False) as pipeline:
                for id_ in sample:
                    pipeline.hkeys(self._keys.device(id_))
                replies = await pipeline.execute()
        self._asked_ms = now_ms
        self.common = most_common([text(field) for field in reply] for reply in replies)


def most_common(devices: Iterable[Sequence[str]]) -> list[str]:
    """Metrics by how many devices have them; then what is of the device last, and numbers before texts.

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
        name: (-round(_SHARES * many / asked), not _UPKEEP.isdisjoint(name.split("_")), name not in numbers)
        for name, many in having.items()
    }
    return sorted(having, key=rank.__getitem__)[:SHOWN]
