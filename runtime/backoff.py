"""How long to wait before the same is tried again: exponential, bounded, with jitter.

The jitter keeps many gateways from coming back to a restarted server in one moment. The strategy is
tenacity's; this is the small part of it that a loop needs which already knows when to try and when to give
up.
"""

from __future__ import annotations

from tenacity import RetryCallState, wait_random_exponential


class Backoff:
    """Waiting times of one retried operation.

    Args:
        initial_s: the first wait lies between half of this and this, in seconds.
        maximum_s: no wait is longer, in seconds.
    """

    def __init__(self, initial_s: float, maximum_s: float) -> None:
        self._wait = wait_random_exponential(
            multiplier=initial_s, max=maximum_s, min=min(initial_s / 2, maximum_s)
        )
        self._state = RetryCallState(retry_object=None, fn=None, args=(), kwargs={})  # type: ignore[arg-type]  # no Retrying: only the counter is used
        self._state.attempt_number = 0

    def next_s(self) -> float:
        """Count one more failure and return how long to wait now, in seconds."""
        self._state.attempt_number += 1
        return self._wait(self._state)

    def reset(self) -> None:
        """Begin again with short waits, because it worked."""
        self._state.attempt_number = 0
