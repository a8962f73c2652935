"""What of a running projector changes in place when its configuration is read again (SIGHUP).

Limits, units, the link to Grafana and the log level do; a configuration that is wrong changes nothing.
Tokens, certificates and secrets in files need no word: they are read anew when they have changed, or at each
connection. Any other key that has changed is named: it counts from the next start on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from projector.live.state import Site
from runtime import logs
from runtime.errors import ConfigurationError
from runtime.reload import differences
from runtime.settings import refuse_open

if TYPE_CHECKING:
    from collections.abc import Sequence

    from projector.limits.limiters import Limiters
    from runtime.settings import Limit, Settings

_IN_PLACE: Final = frozenset({"limit", "units", "projector.grafana_url", "projector.log_level"})


class Running:
    """What goes by the configuration as it is now.

    Attributes:
        limiters: of the limits that are set; None until there are some who watch them.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.limiters: Limiters | None = None

    @property
    def limits(self) -> Sequence[Limit]:
        """That are set now."""
        return self._settings.limit

    def site(self) -> Site:
        """What the page is told of the place it is at."""
        return Site(self._settings.units, self._settings.projector.grafana_url)

    async def change(self, new: Settings) -> tuple[list[str], list[str]]:
        """Go by another configuration; returns the keys that changed, and those that will at the next start.

        Raises:
            ConfigurationError: a projector would not start with it; nothing has changed.
        """
        if reason := refuse_open("projector", new.projector):
            raise ConfigurationError(reason)
        keys = differences(self._settings, new)
        logs.set_level(new.projector.log_level)
        if "limit" in keys and self.limiters is not None:
            self.limiters.change(new.limit)
        projector = msgspec.structs.replace(
            self._settings.projector,
            grafana_url=new.projector.grafana_url,
            log_level=new.projector.log_level,
        )
        self._settings = msgspec.structs.replace(
            self._settings, limit=new.limit, units=new.units, projector=projector
        )
        return [key for key in keys if key in _IN_PLACE], [key for key in keys if key not in _IN_PLACE]
