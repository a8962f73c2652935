"""Dead letters for a person or a program.

Their topics, errors and bytes come from strangers: nothing of them reaches a terminal unescaped.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final

import click
import msgspec

from runtime.terminal import safe

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from gateway.dead_letters.letters import Letter
    from gateway.dead_letters.tally import Tally

_PER_LINE: Final = 16
_SHOWN_BYTES: Final = 4096
_SPACE: Final = "\n\r\t"
_COLUMNS: Final = ("id", "received", "reason", "size", "device", "topic", "error")
_SHORT: Final = _COLUMNS[:4]
_LEAST: Final = 20  # characters of what strangers wrote, on the narrowest terminal


def encode_letter(letter: Letter) -> str:
    """A letter as one line of JSON."""
    return msgspec.json.encode(letter).decode()


def encode_with_payload(letter: Letter, payload: bytes) -> str:
    """A letter as one line of JSON, its bytes in base64 and, where they are printable UTF-8, as text."""
    bytes_and_text = {"payload_base64": base64.b64encode(payload).decode(), "payload": _printable(payload)}
    return msgspec.json.encode(msgspec.structs.asdict(letter) | bytes_and_text).decode()


def encode_tally(tally: Tally) -> str:
    """A replay's books as one line of JSON."""
    return msgspec.json.encode(tally.told()).decode()


def listing(letters: Sequence[Letter], width: int) -> Iterator[str]:
    """Letters for a terminal: what one goes by in a line each, and what strangers wrote below it."""
    cells = [dict(zip(_COLUMNS, _cells(letter), strict=True)) for letter in letters]
    wide = {name: max(len(name), *(len(each[name]) for each in cells)) for name in _SHORT}
    indent = " " * (wide["id"] + 2)

    def line(each: Mapping[str, str]) -> str:
        first, *rest = _SHORT
        return "  ".join([each[first].rjust(wide[first]), *(each[name].ljust(wide[name]) for name in rest)])

    yield click.style(line({name: name for name in _SHORT}).rstrip(), bold=True)
    for letter, each in zip(letters, cells, strict=True):
        dim = letter.replayed_at is not None
        yield click.style(line(each).rstrip(), dim=dim)
        for text in (f"{each['device']}  {each['topic']}", each["error"]):
            yield click.style(indent + _elided(text, max(width - len(indent), _LEAST)), dim=True)


def lines(letters: Sequence[Letter]) -> Iterator[str]:
    """Letters for a pipe: a line each, nothing cut, and tabs between, which no cell has in it."""
    yield "\t".join(_COLUMNS)
    for letter in letters:
        yield "\t".join(_cells(letter))


def _cells(letter: Letter) -> tuple[str, ...]:
    return (
        str(letter.id),
        _time(letter.received_at),
        letter.reason,
        f"{letter.size:,}",
        safe(letter.device_id or ""),
        safe(letter.topic),
        safe(letter.error),
    )


def _elided(text: str, width: int) -> str:
    """As much of a text as fits, its beginning and its end."""
    text = text.strip()
    return text if len(text) <= width else f"{text[: width // 2]}…{text[len(text) - (width - 1) // 2 :]}"


def describe(letter: Letter, payload: bytes) -> str:
    """A letter with everything, its bytes as text when they are printable UTF-8, in hexadecimal otherwise."""
    replayed = _time(letter.replayed_at) if letter.replayed_at else "no"
    fields = {
        "id": str(letter.id),
        "received": _time(letter.received_at),
        "replayed": replayed,
        "reason": letter.reason,
        "error": safe(letter.error),
        "device": safe(letter.device_id or ", ".join(letter.stands_for or ["unknown"])),
        "topic": safe(letter.topic),
        "gateway": safe(letter.gateway or "unknown"),
        "size": f"{letter.size:,} bytes",
    }
    lines = [f"{name:<9} {value}" for name, value in fields.items()]
    shown = payload[:_SHOWN_BYTES]
    text = _printable(payload)
    lines += ["", text[:_SHOWN_BYTES] if text is not None else hexdump(shown)]
    if len(payload) > _SHOWN_BYTES:
        lines.append(f"… {len(payload):,} bytes in all; --raw writes them")
    return "\n".join(lines)


def summary(tally: Tally) -> str:
    """A replay's books for a person."""
    letters = f"{tally.replayed:,} of {tally.selected:,} dead letters replayed"
    lines = [f"{letters}: {tally.stored:,} readings stored, {tally.duplicates:,} were there already"]
    lines += [f"{count:,} still fail: {reason}" for reason, count in tally.failing.most_common()]
    if tally.orphans:
        lines.append(f"{tally.orphans:,} elements of arrays still fail and are dead letters of their own now")
    if tally.others:
        lines.append(f"{tally.others:,} of other gateways are left alone: --gateway ID takes theirs")
    if tally.stopped:
        lines.append(f"stopped: {tally.selected - tally.done:,} not looked at")
    return "\n".join(lines)


def hexdump(data: bytes) -> str:
    """Offset, bytes in hexadecimal and the printable ones as characters, sixteen a line."""
    lines = []
    for offset in range(0, len(data), _PER_LINE):
        part = data[offset : offset + _PER_LINE]
        shown = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in part)  # noqa: PLR2004  # printable ASCII
        lines.append(f"{offset:08x}  {part.hex(' '):<{3 * _PER_LINE}} |{shown}|")
    return "\n".join(lines)


def _printable(payload: bytes) -> str | None:
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return None
    return text if text and all(c.isprintable() or c in _SPACE for c in text) else None


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}Z"
