"""What of the stream is wanted. Pure.

Patterns are shell globs (`*`, `?`, `[abc]`), case and all; one without these signs is exact. Of several
patterns for one thing any will do; different things must all fit. Only measurements have a region and
metrics, only dead letters have a reason, so asking for one of these asks for that kind alone.
"""

from __future__ import annotations

import re
from fnmatch import translate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from contract.events import Scalar


class Filters:
    """What is wanted; no patterns: everything.

    Attributes:
        measurements: whether any measurement can be wanted.
        dead_letters: whether any dead letter can be.

    Raises:
        ValueError: nothing can be wanted.
    """

    def __init__(
        self,
        *,
        devices: Iterable[str] = (),
        regions: Iterable[str] = (),
        metrics: Iterable[str] = (),
        reasons: Iterable[str] = (),
    ) -> None:
        self._device = _any_of(devices)
        self._region = _any_of(regions)
        self._metric = _any_of(metrics)
        self._reason = _any_of(reasons)
        self.measurements = self._reason is None
        self.dead_letters = self._region is None and self._metric is None
        if not (self.measurements or self.dead_letters):
            raise ValueError(
                "--reason asks for dead letters, which have neither --region nor --metric: leave one out"
            )

    def metrics_of(
        self, device_id: str, region: str | None, metrics: Mapping[str, Scalar]
    ) -> Mapping[str, Scalar] | None:
        """The metrics of a measurement that are wanted; None when it is not wanted itself."""
        if not (_fits(self._device, device_id) and _fits(self._region, region)):
            return None
        if self._metric is None:
            return metrics
        return {name: value for name, value in metrics.items() if self._metric.match(name)} or None

    def letter(self, device_id: str | None, reason: str) -> bool:
        """Whether a dead letter is wanted."""
        return _fits(self._device, device_id) and _fits(self._reason, reason)


def _any_of(patterns: Iterable[str]) -> re.Pattern[str] | None:
    joined = "|".join(translate(pattern) for pattern in patterns)
    return re.compile(joined) if joined else None


def _fits(pattern: re.Pattern[str] | None, text: str | None) -> bool:
    return pattern is None or (text is not None and pattern.match(text) is not None)
