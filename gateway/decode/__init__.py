"""From the bytes of a delivery to readings: route, format, mapping, assembly.

`templates` and `routes` tell what a topic says; `formats` make values of bytes; the route's `reader` has
`mapping` make of values what a reading says, as its `plan` has it, and `assemble` knows what must hold of
every reading.
Pure: no I/O, and the time is an argument.
"""

from gateway.decode.decoder import Decoder
from gateway.decode.limits import Limits
from gateway.decode.reading import Reading, Received, Rejection

__all__ = ["Decoder", "Limits", "Reading", "Received", "Rejection"]
