"""Fixed layouts: what stands where is read as it was meant, and what means nothing is refused at start."""

from __future__ import annotations

import base64
import json
import struct
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decode import Decoder, Limits, Reading, Received, Rejection
from gateway.decode.fields import NoNumber
from gateway.decode.formats import Format, format_of
from gateway.decode.routes import compile_routes
from runtime.errors import ConfigurationError, Reject
from runtime.settings import Route
from runtime.settings.route import Bytes, Field
from tests.support.write_side import NOW, Delivered


def layout(*fields: Field, **settings_: Any) -> Format:  # noqa: ANN401  # as of `Bytes`
    return format_of(Route(format="bytes", bytes=Bytes(field=fields, **settings_)), "route[3]")


def read(payload: bytes, **field: Any) -> Any:  # noqa: ANN401  # as of `Field`
    """The value of a payload's only field."""
    return layout(Field(name="v", **field)).parse(payload)["v"]


@pytest.mark.parametrize(
    ("payload", "field", "value"),
    [
        ("00 ff", {"type": "uint8", "at": 1}, 255),
        ("00 ff", {"type": "int8", "at": 1}, -1),
        ("01 02", {"type": "uint16"}, 258),
        ("01 02", {"type": "uint16", "order": "little"}, 513),
        ("ff fe", {"type": "int16"}, -2),
        ("01 02 03", {"type": "uint24"}, 66051),
        ("01 02 03", {"type": "uint24", "order": "little"}, 197121),
        ("ff ff fe", {"type": "int24"}, -2),
        ("00 00 ff ff ff", {"type": "int24", "at": -3}, -1),
        ("ff ff ff ff", {"type": "uint32"}, 4294967295),
        ("ff ff ff ff", {"type": "int32"}, -1),
        ("ff ff ff ff ff ff ff ff", {"type": "uint64"}, 18446744073709551615),
        ("fe ff ff ff ff ff ff ff", {"type": "int64", "order": "little"}, -2),
        ("3c 00", {"type": "float16"}, 1.0),
        ("2e 66", {"type": "float16"}, 0.1),
        ("7b ff", {"type": "float16"}, 65504.0),
        ("41 aa 66 66", {"type": "float32"}, 21.3),
        ("66 66 aa 41", {"type": "float32", "order": "little"}, 21.3),
        ("4c eb 79 a3", {"type": "float32"}, 123456792.0),
        ("40 35 4c cc cc cc cc cd", {"type": "float64"}, 21.3),
        ("00", {"type": "bool"}, False),
        ("02", {"type": "bool"}, True),
        ("a5", {"type": "uint8", "bits": (4, 4)}, 10),
        ("a5", {"type": "uint8", "bits": (0, 1)}, 1),
        ("a5", {"type": "bool", "bits": (1, 1)}, False),
        ("a5", {"type": "bool", "bits": (7, 1)}, True),
        ("12 34", {"type": "uint16", "bits": (4, 8)}, 0x23),
        ("00 0f 00", {"type": "uint24", "bits": (8, 4), "scale": 0.1}, 1.5),
        ("41 42 00 00", {"type": "text", "size": 4}, "AB"),
        ("c2 b0 43", {"type": "text", "size": 3}, "°C"),
        ("00 a4 c1 38", {"type": "hex", "at": 1, "size": 3}, "a4c138"),
        ("01 02 03 04", {"type": "uint16", "at": -2}, 772),
        ("01 02 03 04", {"type": "uint16", "at": -4}, 258),
        ("00 d7", {"type": "int16", "scale": 0.1}, 21.5),
        ("ff 29", {"type": "int16", "scale": 0.1}, -21.5),
        ("00 03", {"type": "uint16", "scale": 0.1}, 0.3),
        ("00 05", {"type": "uint16", "scale": 10.0}, 50),
        ("ff", {"type": "uint8", "scale": 0.5, "add": -40.0}, 87.5),
        ("64", {"type": "uint8", "add": -40.0}, 60),
        ("64", {"type": "uint8", "add": 0.1}, 100.1),
        ("ff ff ff ff ff ff ff ff", {"type": "uint64", "scale": 10.0}, 184467440737095516150),
        ("00 06 0a 24 18 1e 40 00", {"type": "uint64", "scale": 0.001}, 1700000000000.0),
        ("00 06 0a 24 18 1e 41 c8", {"type": "uint64", "scale": 0.001}, 1700000000000.456),
        ("41 aa 66 66", {"type": "float32", "scale": 10.0}, 213.0),
        ("41 aa 66 66", {"type": "float32", "add": -0.3}, 21.0),
    ],
)
def test_each_type_is_read(payload: str, field: dict[str, Any], value: object) -> None:
    """A value is the one that a datasheet means: place, order, bits, scale, no dust of binary fractions."""
    found = read(bytes.fromhex(payload), **field)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("payload", "kind", "text"),
    [
        ("7f c0 00 00", "float32", "nan"),
        ("ff 80 00 00", "float32", "-inf"),
        ("7c 00", "float16", "inf"),
        ("7f f0 00 00 00 00 00 00", "float64", "inf"),
    ],
)
@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_a_float_that_is_no_number_says_so(payload: str, kind: str, text: str, scale: float) -> None:
    """NaN and infinity are for the route to drop or to refuse."""
    found = read(bytes.fromhex(payload), type=kind, scale=scale)
    assert isinstance(found, NoNumber)
    assert (found.reason, found.text) == ("number_out_of_range", text)


def test_a_scale_can_be_too_much() -> None:
    """What no double can hold is no number either."""
    assert isinstance(read(struct.pack(">d", 1e300), type="float64", scale=1e300), NoNumber)


def test_fields_may_overlap_and_leave_bytes_out() -> None:
    """A layout takes what a site has a use for."""
    form = layout(
        Field(name="status", type="uint8", at=0),
        Field(name="alarm", type="bool", at=0, bits=(7, 1)),
        Field(name="meter.total", type="uint32", at=2, order="little", scale=0.001),
        order="big",
    )
    assert form.parse(bytes.fromhex("81 ff 39 30 00 00 ff ff")) == {
        "status": 129,
        "alarm": True,
        "meter.total": 12.345,
    }


@pytest.mark.parametrize(
    ("field", "payload", "said"),
    [
        ({"type": "uint16", "at": 3}, b"abcd", "field 'v' has 2 bytes from byte 3 on, and the payload has 4"),
        ({"type": "uint16", "at": -6}, b"abcd", "field 'v' has 2 bytes from byte -6, from the end, on"),
        ({"type": "hex", "size": 5}, b"abcd", "field 'v' has 5 bytes from byte 0 on"),
    ],
)
def test_a_payload_that_is_too_short_is_refused(field: dict[str, Any], payload: bytes, said: str) -> None:
    """It says which field, where, and how long the payload is."""
    with pytest.raises(Reject) as refused:
        read(payload, **field)
    assert refused.value.reason == "malformed_bytes"
    assert said in refused.value.detail


def test_a_text_that_is_none_is_refused() -> None:
    """A text is UTF-8."""
    with pytest.raises(Reject, match="field 'v' is a text, and its byte 1 is not UTF-8") as refused:
        read(b"a\xff", type="text", size=2)
    assert refused.value.reason == "not_utf8"


U8 = Field(name="a", type="uint8")


@pytest.mark.parametrize(
    ("bytes_", "said"),
    [
        (Bytes(), "route[3].bytes.field: is needed"),
        (Bytes(preset="cayenne-lpp", field=(U8,)), "route[3].bytes.preset: "),
        (Bytes(field=(Field(name="", type="uint8"),)), "route[3].bytes.field[0].name: "),
        (Bytes(field=(U8, U8)), "route[3].bytes.field[1].name: 'a'"),
        (Bytes(field=(U8, Field(name="b", type="text"))), "route[3].bytes.field[1].size: "),
        (Bytes(field=(U8, Field(name="b", type="hex"))), "route[3].bytes.field[1].size: "),
        (Bytes(field=(Field(name="b", type="uint8", size=1),)), "route[3].bytes.field[0].size: "),
        (Bytes(field=(Field(name="b", type="uint8", bits=(0, 9)),)), "route[3].bytes.field[0].bits: "),
        (Bytes(field=(Field(name="b", type="uint8", bits=(8, 1)),)), "route[3].bytes.field[0].bits: "),
        (Bytes(field=(Field(name="b", type="uint8", bits=(-1, 2)),)), "route[3].bytes.field[0].bits: "),
        (Bytes(field=(Field(name="b", type="uint8", bits=(0, 0)),)), "route[3].bytes.field[0].bits: "),
        (Bytes(field=(Field(name="b", type="uint8", bits=(1,)),)), "route[3].bytes.field[0].bits: "),
        (Bytes(field=(Field(name="b", type="int8", bits=(0, 1)),)), "route[3].bytes.field[0].bits: "),
        (Bytes(field=(Field(name="b", type="float32", bits=(0, 1)),)), "route[3].bytes.field[0].bits: "),
        (Bytes(field=(Field(name="b", type="hex", size=1, bits=(0, 1)),)), "route[3].bytes.field[0].bits: "),
        (Bytes(field=(Field(name="b", type="text", size=1, scale=2.0),)), "route[3].bytes.field[0].scale: "),
        (Bytes(field=(Field(name="b", type="text", size=1, add=2.0),)), "route[3].bytes.field[0].add: "),
        (
            Bytes(field=(Field(name="b", type="text", size=1, order="big"),)),
            "route[3].bytes.field[0].order: ",
        ),
        (Bytes(field=(Field(name="b", type="bool", scale=2.0),)), "route[3].bytes.field[0].scale: "),
        (Bytes(field=(Field(name="b", type="bool", add=2.0),)), "route[3].bytes.field[0].add: "),
        (Bytes(field=(Field(name="b", type="uint8", scale=0.0),)), "route[3].bytes.field[0].scale: "),
        (
            Bytes(field=(Field(name="b", type="uint8", scale=float("nan")),)),
            "route[3].bytes.field[0].scale: ",
        ),
        (Bytes(field=(Field(name="b", type="uint8", add=float("inf")),)), "route[3].bytes.field[0].add: "),
        (Bytes(field=(Field(name="b", type="uint32", at=-2),)), "route[3].bytes.field[0].at: "),
        (Bytes(field=(U8,), inside="data"), "route[3].bytes.encoding: "),
        (Bytes(field=(U8,), inside="data[0]", encoding="hex"), "route[3].bytes.inside: "),
        (Bytes(field=(U8,), inside="a..b", encoding="hex"), "route[3].bytes.inside: "),
        (Bytes(field=(U8,), inside="a |", encoding="hex"), "route[3].bytes.inside: "),
    ],
)
def test_a_layout_that_means_nothing_is_refused_at_start(bytes_: Bytes, said: str) -> None:
    """Each error names its place in the file."""
    with pytest.raises(ConfigurationError) as refused:
        format_of(Route(format="bytes", bytes=bytes_), "route[3]")
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize(
    ("encoding", "payload"),
    [
        ("base64", b"+/+/AA=="),
        ("base64", b"+/+/AA"),
        ("base64", b"-_-_AA"),
        ("base64", b"-_-_AA=="),
        ("base64", b" +/+/\r\n AA== \n"),
        ("hex", b"fbffbf00"),
        ("hex", b"FBFFBF00"),
        ("hex", b"0xfbffbf00"),
        ("hex", b"fb ff bf 00\n"),
        ("hex", b"fb:ff:bf:00"),
        ("hex", b"FB-FF-BF-00"),
        ("hex", b"0xfb, 0xff, 0xbf, 0x00"),
    ],
)
def test_bytes_come_as_text_too(encoding: str, payload: bytes) -> None:
    """As others write it: spaces, no padding, the alphabet of URLs, 0x, colons and dashes."""
    form = layout(Field(name="v", type="hex", size=4), encoding=encoding)
    assert form.parse(payload) == {"v": "fbffbf00"}


@pytest.mark.parametrize(
    ("encoding", "payload", "said"),
    [
        ("base64", b"+/+!AA==", "this is no base64: '!' stands in it ('+/+!AA==')"),
        ("base64", b"+/=/AA==", "this is no base64: '=' stands in it"),
        ("base64", b"AAAAA", "this is no base64: with 5 characters it was cut"),
        ("base64", b"\xff\xff", "this is no base64, which has ASCII"),
        ("hex", b"fbf", "this is no hex: 3 digits are an odd number"),
        ("hex", b"fg", "this is no hex: 'g' stands in it"),
        ("hex", "é".encode(), "this is no hex, which has ASCII"),
        ("hex", b'{"a": 1}' * 9, "…"),
    ],
)
def test_text_that_holds_no_bytes_is_refused(encoding: str, payload: bytes, said: str) -> None:
    """The error shows what stands there."""
    with pytest.raises(Reject) as refused:
        layout(U8, encoding=encoding).parse(payload)
    assert refused.value.reason == "malformed_bytes"
    assert said in refused.value.detail


UPLINK = {
    "deviceInfo": {"devEui": "a84041000181c061", "tags": {"room": "k2"}},
    "fCnt": 7,
    "data": "A2cBEAVnAP8=",
}


def decode(message: object, route: Route) -> list[Reading | Rejection]:
    payload = message if isinstance(message, bytes) else json.dumps(message).encode()
    decoder = Decoder(compile_routes([route]), Limits())
    return decoder.decode(Delivered("application/1/event/up", payload), Received.of(NOW))


def inside_route(path: str, **more: Any) -> Route:  # noqa: ANN401  # as of `Route`
    return Route(
        topic="application/{app}/event/up",
        format="bytes",
        bytes=Bytes(preset="cayenne-lpp", encoding="base64", inside=path),
        **more,
    )


@pytest.mark.parametrize(
    ("message", "value"),
    [
        ({"a.b": {"c": "AQI="}}, {"a.b": {"c": {"v": 1}}}),
        ({"a": {"b": {"d": 1}}, "a.b": {"c": "AQI="}}, {"a": {"b": {"d": 1}}, "a.b": {"c": {"v": 1}}}),
        ({"a": {"b.c": "AQI="}}, {"a": {"b.c": {"v": 1}}}),
        ({"a": {"b": {"c": "AQI="}}, "a.b.c": None}, {"a": {"b": {"c": {"v": 1}}}, "a.b.c": None}),
    ],
)
def test_values_stand_where_the_text_was_found(message: Any, value: Any) -> None:  # noqa: ANN401  # JSON is any value
    """Names with dots in them do not lead to another place than that of the text."""
    form = layout(Field(name="v", type="uint8", at=0), inside="a.b.c", encoding="base64")
    assert form.parse(json.dumps(message).encode()) == value


def test_bytes_inside_json_take_the_place_of_their_text() -> None:
    """The rest of the message is what it was: who sent it, and what the network says of it."""
    (reading,) = decode(UPLINK, inside_route("data", device="deviceInfo.devEui", key="", time=""))
    assert isinstance(reading, Reading)
    assert reading.event.device_id == "a84041000181c061"
    assert json.loads(bytes(reading.event.metrics)) == {
        "deviceInfo.tags.room": "k2",
        "fCnt": 7,
        "data.temperature_3": 27.2,
        "data.temperature_5": 25.5,
    }


def test_the_values_alone_can_be_the_metrics() -> None:
    """`metrics` names the same path."""
    (reading,) = decode(
        UPLINK, inside_route("data", device="deviceInfo.devEui", key="", time="", metrics="data")
    )
    assert isinstance(reading, Reading)
    assert json.loads(bytes(reading.event.metrics))["temperature_3"] == 27.2


@pytest.mark.parametrize(
    ("path", "message", "value"),
    [
        ("a.b", {"a": {"b": "AQAB"}}, {"a": {"b": {"digital_in_1": 1}}}),
        ("a.b", {"a.b": "AQAB"}, {"a.b": {"digital_in_1": 1}}),
        ("a.1.b", {"a": [0, {"b": "AQAB"}]}, {"a": [0, {"b": {"digital_in_1": 1}}]}),
        ("a.0", {"a": ["AQAB"]}, {"a": [{"digital_in_1": 1}]}),
        ("data | frm_payload", {"frm_payload": "AQAB"}, {"frm_payload": {"digital_in_1": 1}}),
        (
            "data | frm_payload",
            {"data": "AQAB", "frm_payload": "x"},
            {"data": {"digital_in_1": 1}, "frm_payload": "x"},
        ),
        ("data", {"data": ""}, {"data": {}}),
        (
            "data",
            [{"data": "AQAB"}, {"data": "AQAA"}],
            [{"data": {"digital_in_1": 1}}, {"data": {"digital_in_1": 0}}],
        ),
    ],
)
def test_the_text_is_found_by_any_plain_path(path: str, message: object, value: object) -> None:
    """Nested, in arrays, under the first of several names; of an array in each of its elements."""
    form = format_of(inside_route(path), "route[0]")
    assert form.parse(json.dumps(message).encode()) == value


@pytest.mark.parametrize(
    ("message", "reason", "said"),
    [
        ({"fCnt": 1}, "malformed_bytes", "nothing stands at 'data', where bytes.inside"),
        ({"data": 5}, "malformed_bytes", "'data' is no text"),
        ({"data": {"a": 1}}, "malformed_bytes", "'data' is no text"),
        ({"data": "AQA"}, "malformed_bytes", "byte 2: 'digital_in_1' takes 1 bytes"),
        ({"data": "é"}, "malformed_bytes", "this is no base64"),
        (5, "malformed_bytes", "nothing stands at 'data'"),
        (b"{", "malformed_json", ""),
    ],
)
def test_a_message_without_its_bytes_is_refused(message: object, reason: str, said: str) -> None:
    """It says where they should have been."""
    (rejection,) = decode(message, inside_route("data", device="deviceInfo.devEui"))
    assert isinstance(rejection, Rejection)
    assert rejection.reason == reason
    assert said in rejection.error


def test_an_element_that_cannot_be_read_leaves_its_neighbours_alone() -> None:
    """Of an array, each element is a message."""
    good, bad = {"id": "k", "dev": "a", "data": "AQAB"}, {"id": "k", "dev": "b", "data": "!"}
    found = decode([good, bad, good | {"dev": "c"}], inside_route("data", device="dev", time=""))
    assert [type(each) for each in found] == [Reading, Rejection, Reading]
    rejection = found[1]
    assert isinstance(rejection, Rejection)
    assert json.loads(rejection.payload) == bad


def test_elements_are_payloads_of_the_same_format() -> None:
    """What a dead letter keeps of an array is read again alike, by itself and joined."""
    form = format_of(inside_route("data"), "route[0]")
    payload = b'[{"data": "AQAB"}, {"data": "AQAA", "n": 1e400}]'
    elements = form.elements(payload)
    values = form.parse(payload)
    assert form.parse(bytes(elements[0])) == values[0]
    assert len(form.parse(form.join(elements))) == len(values) == 2


def test_a_payload_of_bytes_is_its_only_element() -> None:
    """One payload is one reading."""
    form = layout(U8)
    assert form.join(form.elements(b"\x05")) == b"\x05"


@given(
    st.integers(-(2**15), 2**15 - 1),
    st.sampled_from([0.1, 0.01, 0.001, 0.5, 0.0625, 0.02, 1.5]),
    st.integers(-50, 50),
)
@settings(max_examples=150, deadline=None)
def test_scaled_numbers_are_those_of_pen_and_paper(raw: int, scale: float, add: int) -> None:
    """They have the digits that decimal arithmetic gives."""
    found = read(struct.pack(">h", raw), type="int16", scale=scale, add=float(add))
    assert Decimal(repr(found)) == raw * Decimal(repr(scale)) + add


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
@settings(max_examples=150, deadline=None)
def test_a_float_of_32_bits_loses_nothing(value: float) -> None:
    """Its decimal is that float again, and no longer than it need be."""
    found = read(struct.pack(">f", value), type="float32")
    assert struct.pack(">f", found) == struct.pack(">f", value)
    assert value.is_integer() or len(f"{found:.17g}") >= len(repr(found))


FUZZED = [
    layout(
        Field(name="a", type="float32", scale=0.1),
        Field(name="b", type="text", at=2, size=3),
        Field(name="c", type="uint24", at=-3, bits=(3, 9)),
        Field(name="d", type="float16", at=1),
        encoding=encoding,
    )
    for encoding in ("raw", "hex", "base64")
] + [format_of(inside_route("data"), "route[0]")]


@given(st.binary(max_size=40))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_read_or_refused(payload: bytes) -> None:
    """Whatever comes, there is a message or a reason."""
    inside = json.dumps({"data": payload.decode("latin-1")}).encode()
    for form in FUZZED:
        for each in (payload, payload.hex().encode(), base64.b64encode(payload), inside):
            with suppress(Reject):
                form.parse(each)
