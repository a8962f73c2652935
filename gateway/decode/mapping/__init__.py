"""From the values of a message to what its readings say, by its route's words; the same for every format.

`plain` is for messages that are one flat object, as most are; `shaped` for all others: readings inside
(`each`), paths that are expressions, metrics that are named, left out or read anew (`words`).
"""

from gateway.decode.mapping.parts import Part
from gateway.decode.mapping.plain import Mapped, Mapper
from gateway.decode.mapping.shaped import Shaper, needs_shaping

__all__ = ["Mapped", "Mapper", "Part", "Shaper", "needs_shaping"]
