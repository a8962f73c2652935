"""From the bytes of a delivery to readings: routes, JSON, names, times, identity.

Pure: no I/O, and the time is an argument.
"""

from gateway.decode.decoder import Decoder
from gateway.decode.reading import Reading, Received, Rejection

__all__ = ["Decoder", "Reading", "Received", "Rejection"]
