"""What a running projector says of its lag, when it answers and we may ask."""

from __future__ import annotations

import http.client
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import msgspec

from projector.lag import Lag
from runtime.asking import connection_to

if TYPE_CHECKING:
    from runtime.settings import Projector

_TIMEOUT_S: Final = 1.0


class _Problem(msgspec.Struct):
    detail: str


class Asking:
    """Asks the projector of a configuration.

    Args:
        settings: where it listens, and how.
        token: with the scope `read`; "" for none.
    """

    def __init__(self, settings: Projector, token: str = "") -> None:
        self._settings = settings
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def lag(self) -> tuple[Lag | None, str | None]:
        """Its lag, or None and why not."""
        address = self._settings.http
        connection: http.client.HTTPConnection | None = None
        try:
            connection = connection_to(self._settings, _TIMEOUT_S)
            connection.request("GET", "/lag", headers=self._headers)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != HTTPStatus.OK:
                return None, f"{address}: {msgspec.json.decode(body, type=_Problem).detail}"
            return msgspec.json.decode(body, type=Lag), None
        except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
            return None, f"{address}: {' '.join(str(error).split()) or type(error).__name__}"
        finally:
            if connection is not None:
                connection.close()
