"""What format a payload is in, by its bytes and by trying. Pure."""

from __future__ import annotations

import csv
import json
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from gateway.decode.formats import format_of
from gateway.decode.mapping.words import read_number
from gateway.discover.texts import GROUPED
from runtime.errors import ConfigurationError, Reject
from runtime.settings import Route

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.decode.formats import Format

_MOST: Final = 262_144
_PACKED: Final = {b"\x1f\x8b\x08": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\x78": "zlib"}
_LINE: Final = re.compile(r"(?:[^\s,\\]|\\.)+(?:,(?:[^\s\\=]|\\.)+=(?:[^\s\\]|\\.)+)* (?:[^\s\\=]|\\.)+=\S.*")
_SCALAR: Final = re.compile(r"\S{1,64}( \S{1,32}){0,3}")
_MARKUP: Final = re.compile(r"<[?!A-Za-z].*>", re.DOTALL)
_MAGIC: Final = {
    b"\xff\xd8\xff": "a JPEG picture", b"\x89PNG": "a PNG picture", b"GIF8": "a GIF picture",
    b"%PDF": "a PDF document", b"PK\x03\x04": "a ZIP archive", b"RIFF": "a RIFF file, of sound or pictures",
    b"OggS": "an Ogg file", b"ID3": "an MP3 file", b"\x00\x00\x00\x18ftyp": "a film", b"\x7fELF": "a program",
    b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"SQLite": "an SQLite database",
}  # fmt: skip
_CONNECTIONS: Final = frozenset(
    {"status", "lwt", "online", "availability", "available", "connected", "connection", "presence", "alive"}
)
_CONNECTED: Final = frozenset({b"online", b"offline", b"connected", b"disconnected"})
"""What is said of a connection by such topics, in words that say nothing else."""

_HIGH: Final = 100
_HEX: Final = re.compile(r"([0-9a-fA-F]{2}){4,}")
_PAIR: Final = re.compile(r"[A-Za-z_][\w.-]*\s*[=:]\s*[^=:;,&]*([;,&\n]|$)")
_SENML: Final = frozenset(
    {"bn", "bt", "bu", "bv", "bs", "bver", "n", "u", "v", "vs", "vb", "vd", "s", "t", "ut"}
)
_SENML_VALUES: Final = frozenset({"v", "vs", "vb", "vd", "s"})
_DECIMAL: Final = re.compile(r"[^,;|\t]*[0-9],[0-9][^,;|\t]*")  # what may be a number, not two of them
_DELIMITERS: Final = ";\t|,"  # a comma last, as it may be the decimal one


class Sniffed(NamedTuple):
    """What a payload seems to be.

    Attributes:
        words: of a route, that say so.
        values: what the format makes of it; None when no format reads it.
        packed: gzip, zlib or zstd; empty when it is not compressed.
        why: what is known of one that no format reads.
    """

    words: dict[str, Any]
    values: Any = None
    packed: str = ""
    why: str = ""

    @property
    def format(self) -> str:
        """The name of the format; empty when there is none."""
        return str(self.words.get("format", ""))

    @property
    def kind(self) -> str:
        """What messages of one kind have in common."""
        return repr(self.words)


class Sniffer:
    """Finds formats, and remembers those that were made ready."""

    def __init__(self) -> None:
        self._made: dict[str, Format | None] = {}

    def sniff(self, payload: bytes, topic: str = "") -> Sniffed:
        """Say what a payload is."""
        packed, payload = self._unpacked(payload)
        if topic.rpartition("/")[2].lower() in _CONNECTIONS and payload.strip().lower() in _CONNECTED:
            return Sniffed({"format": "value", "presence": "@"}, payload.decode().strip(), packed)
        words, values, why = self._text(payload) if _is_text(payload) else self._binary(payload, topic)
        if packed == "zlib" and not words:
            packed = ""
        return Sniffed(words, values, packed, why)

    def read(self, words: dict[str, Any], payload: bytes) -> Any:  # noqa: ANN401  # a format's value is any value
        """What a format makes of a payload; None when it does not read it, or there is none such."""
        form = self._form(words)
        if form is None or not payload:
            return None
        try:
            return form.parse(self._unpacked(payload)[1])
        except Reject:
            return None

    def _form(self, words: dict[str, Any]) -> Format | None:
        key = json.dumps(words, sort_keys=True)
        if key not in self._made:
            try:
                self._made[key] = format_of(_route(words), "route")
            except (ConfigurationError, ValueError):
                self._made[key] = None
        return self._made[key]

    def _unpacked(self, payload: bytes) -> tuple[str, bytes]:
        name = next((name for start, name in _PACKED.items() if payload.startswith(start)), "")
        form = self._form({"format": "json"}) if name else None
        if form is not None:
            try:
                unpacked = form.unpacking.unpack(payload, _MOST)
            except Reject:
                return "", payload
            if unpacked is not payload:
                return name, unpacked
        return "", payload

    def _text(self, payload: bytes) -> tuple[dict[str, Any], Any, str]:  # noqa: C901, PLR0911, PLR0912  # the forms, one after the other
        text = payload.decode().strip("\ufeff\x00 \t\r\n")
        if not text:
            return {}, None, "nothing but white space"
        if text[0] in "{[":
            return self._json(payload, text)
        if _MARKUP.fullmatch(text):
            return {}, None, "XML or HTML, which no format reads"
        lines = [line for line in text.splitlines() if line.strip()]
        if all(_LINE.fullmatch(line) for line in lines) and self._form({"format": "influx"}) is not None:
            values = self.read({"format": "influx"}, payload)
            if values is not None:
                return {"format": "influx"}, values, ""
        if len(lines) == 1 and (_is_decimal(text) or GROUPED.fullmatch(text)):
            values = self.read({"format": "value"}, payload)
            if values is not None:
                return {"format": "value"}, values, ""
        if csv := self._csv(payload, lines):
            return csv
        if _HEX.fullmatch(text) and re.search("[a-fA-F]", text):
            words = {"format": "bytes", "bytes": {"preset": "cayenne-lpp", "encoding": "hex"}}
            values = self.read(words, payload)
            if values is not None:
                return words, values, ""
            return {}, None, "bytes written as hex, of a layout that a [[route.bytes.field]] list has to say"
        if len(_PAIR.findall(text)) > 1 or (_PAIR.fullmatch(text) and len(lines) == 1):
            return {}, None, "names and values with = or : between them, which no format reads"
        if len(lines) == 1 and (_SCALAR.fullmatch(text) or text[0] == '"'):
            values = self.read({"format": "value"}, payload)
            if values is not None:
                return {"format": "value"}, values, ""
        return {}, None, "text of no form that is known"

    def _json(self, payload: bytes, text: str) -> tuple[dict[str, Any], Any, str]:
        values = self.read({"format": "json"}, payload)
        if values is not None:
            if _is_senml(values) and (senml := self.read({"format": "senml"}, payload)) is not None:
                return {"format": "senml"}, senml, ""
            return {"format": "json"}, values, ""
        values = self.read({"format": "ndjson"}, payload)
        if values is not None and text.count("\n"):
            return {"format": "ndjson"}, values, ""
        return {}, None, "it begins as JSON and is none: cut off, or with names twice"

    def _csv(self, payload: bytes, lines: Sequence[str]) -> tuple[dict[str, Any], Any, str] | None:
        for sign in _DELIMITERS:
            cells = list(csv.reader(lines, delimiter=sign))
            width = len(cells[0])
            if width == 1 or any(len(each) != width for each in cells):
                continue
            if not any(_is_number(cell) for cell in cells[-1]):
                continue
            titled = len(lines) > 1 and not any(_is_number(cell) for cell in cells[0])
            said: dict[str, Any] = {"delimiter": sign}
            if not titled:
                said["columns"] = [f"column{i + 1}" for i in range(width)]
                said["header"] = False
            words = {"format": "csv", "csv": said}
            values = self.read(words, payload)
            if values is not None:
                return words, values, ""
        return None

    def _binary(self, payload: bytes, topic: str) -> tuple[dict[str, Any], Any, str]:
        if what := next((what for start, what in _MAGIC.items() if payload.startswith(start)), ""):
            return {}, None, what
        if topic.startswith("spBv1.0/"):
            values = self.read({"format": "sparkplug"}, payload)
            if values is not None:
                return {"format": "sparkplug"}, values, ""
        for name in ("cbor", "msgpack"):
            values = self.read({"format": name}, payload)
            if isinstance(values, dict | list) and values:
                if (
                    name == "cbor"
                    and _is_senml_cbor(values)
                    and (senml := self.read({"format": "senml"}, payload))
                ):
                    return {"format": "senml"}, senml, ""
                return {"format": name}, values, ""
        words = {"format": "bytes", "bytes": {"preset": "cayenne-lpp"}}
        values = self.read(words, payload)
        if values and all(_is_low(name) for name in values):
            return words, values, ""
        return (
            {},
            None,
            ("bytes of no format that shows: protobuf needs its descriptor set, a layout its fields"),
        )


def _route(words: dict[str, Any]) -> Route:

    return msgspec.convert(
        {"topic": "{device_id}", "metric": "value" if words.get("format") == "value" else "", **words}, Route
    )


def _is_text(payload: bytes) -> bool:
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return False
    return all(sign.isprintable() or sign in "\ufeff\x00\t\r\n" for sign in text)


def _is_senml(values: Any) -> bool:  # noqa: ANN401  # a format's value is any value
    return (
        isinstance(values, list)
        and bool(values)
        and all(isinstance(each, dict) and each.keys() <= _SENML for each in values)
        and any("n" in each or "bn" in each for each in values)
        and any(each.keys() & _SENML_VALUES for each in values)
    )


def _is_senml_cbor(values: Any) -> bool:  # noqa: ANN401  # a format's value is any value
    """RFC 8428 §6: labels are numbers, from -6 to 8."""
    labels = {str(number) for number in range(-6, 9)}
    return isinstance(values, list) and all(
        isinstance(each, dict) and each.keys() <= labels for each in values
    )


def _is_low(name: str) -> bool:
    """Whether a channel of Cayenne LPP has a low number, as those have that people give."""
    channel = name.partition(".")[0].rpartition("_")[2]
    return channel.isdigit() and int(channel) < _HIGH


def _is_decimal(text: str) -> bool:
    """Whether a text is one number with a decimal comma, with a unit or without."""
    return bool(_DECIMAL.fullmatch(text)) and not isinstance(read_number(text, with_unit=True), str)


def _is_number(cell: str) -> bool:
    return bool(re.fullmatch(r"\s*[+-]?[0-9]+([.,][0-9]+)?\s*", cell))
