"""Dead letters that can be used: looked at, and replayed once what was wrong has been mended.

`selection` says which, `letters` reads them, `render` shows them, `replay` stores them, `command` is the
command line.
"""

from __future__ import annotations

from typing import Final

from contract.events import GATEWAY_STREAMS

REPLAY_STREAM: Final = GATEWAY_STREAMS
"""The stream that replays append to: the first that no gateway can have (`gateway.stream`)."""
