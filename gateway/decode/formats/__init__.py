"""Formats: from the bytes of a payload to plain values, a file each, registered here.

A format knows nothing of devices, keys and times, and checks nothing of what a reading must be: that is
`mapping` and `assemble`, the same for every format. What it refuses is what cannot be read in one way only.
Values are those of JSON: dicts with texts for keys, lists, texts, booleans, integers, finite doubles and
None, and `NoNumber` where a number should stand that is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.decode.formats import (
    cbor,
    delimited,
    influx,
    layout,
    messagepack,
    ndjson,
    protobuf,
    scalar,
    senml,
    sparkplug,
    strict_json,
)
from gateway.decode.formats.compression import NOT_PACKED, unpacking_of
from gateway.decode.formats.form import Format

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.settings import Route

__all__ = ["FORMATS", "Format", "format_of"]

FORMATS: Final[dict[str, Callable[[Route, str], Format]]] = {
    "json": strict_json.make,
    "ndjson": ndjson.make,
    "value": scalar.make,
    "csv": delimited.make,
    "influx": influx.make,
    "senml": senml.make,
    "cbor": cbor.make,
    "msgpack": messagepack.make,
    "protobuf": protobuf.make,
    "sparkplug": sparkplug.make,
    "bytes": layout.make,
}


def format_of(route: Route, where: str) -> Format:
    """Make the format of a route ready.

    Args:
        route: the route.
        where: its place in the file, for errors.

    Raises:
        ConfigurationError: its settings mean nothing.
    """
    form = FORMATS[route.format](route, where)
    if route.compression == "auto" and form.unpacking is not NOT_PACKED:
        return form
    return form._replace(unpacking=unpacking_of(route))
