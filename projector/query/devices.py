"""Which devices a list is to hold, and the place in it from which a page goes on. Pure."""

from __future__ import annotations

import base64
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(tuple[int, str])


class Place(NamedTuple):
    """A place in the order of the list: last seen, then id. It stays where it is when the device moves on."""

    last_seen_ms: int
    device_id: str

    @classmethod
    def parse(cls, token: str) -> Place:
        """Read what `token` wrote.

        Raises:
            ValueError: it did not write this.
        """
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
            return cls(*_decoder.decode(raw))
        except ValueError as error:  # base64's, msgspec's and UTF-8's are of its kind
            raise ValueError("no place in the list") from error

    @property
    def token(self) -> str:
        """The place as text that goes into a URL as it is."""
        return base64.urlsafe_b64encode(_encoder.encode(self)).rstrip(b"=").decode()


class Selection(NamedTuple):
    """Which devices to list; None is any.

    Attributes:
        tags: all of these, by name.
        clock_ahead: whether the clock is ahead.
        online: whether messages said that it is; who never said is neither.
        last_seen_until_ms: not seen after that, by the device's clock.
        metric: have a last value of it.
        above: and that is a number greater than this; needs `metric`, as `below` does.
    """

    region: str | None = None
    last_seen_until_ms: int | None = None
    metric: str | None = None
    above: float | None = None
    below: float | None = None
    tags: Mapping[str, str] = MappingProxyType({})
    clock_ahead: bool | None = None
    online: bool | None = None
