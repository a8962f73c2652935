"""The payload of Sparkplug B: every datatype, as others write it, and nothing overlooked."""

from __future__ import annotations

import gzip
import json
import re
import struct
import tracemalloc
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decode import Decoder, Limits, Reading, Received
from gateway.decode.fields import NoNumber
from gateway.decode.formats import format_of
from gateway.decode.formats.sparkplug import parse, read_slowly
from gateway.decode.formats.sparkplug_usual import look
from gateway.decode.formats.sparkplug_values import typed
from gateway.decode.routes import compile_routes
from runtime.errors import Reject
from runtime.settings import Route
from tests.support.write_side import NOW, Delivered

if TYPE_CHECKING:
    from collections.abc import Callable

T = 1_700_000_000_123

# What pysparkplug 0.6.1 writes: NDATA of one metric, its name that of the datatype.
WRITTEN: list[tuple[str, int, Any, str]] = [
    ("INT8", 1, -5, "08fbd095ffbc3112120a04494e543818fbd095ffbc31200150fb011807"),
    ("INT16", 2, -300, "08fbd095ffbc3112140a05494e54313618fbd095ffbc31200250d4fd031807"),
    ("INT32", 3, -70000, "08fbd095ffbc3112160a05494e54333218fbd095ffbc3120035090ddfbff0f1807"),
    (
        "INT64",
        4,
        -5_000_000_000,
        "08fbd095ffbc31121b0a05494e54363418fbd095ffbc31200458809ce8afedffffffff011807",
    ),
    ("UINT8", 5, 250, "08fbd095ffbc3112130a0555494e543818fbd095ffbc31200550fa011807"),
    ("UINT16", 6, 65000, "08fbd095ffbc3112150a0655494e54313618fbd095ffbc31200650e8fb031807"),
    ("UINT32", 7, 4294967295, "08fbd095ffbc3112170a0655494e54333218fbd095ffbc31200750ffffffff0f1807"),
    (
        "UINT64",
        8,
        18446744073709551615,
        "08fbd095ffbc31121c0a0655494e54363418fbd095ffbc31200858ffffffffffffffffff011807",
    ),
    ("FLOAT", 9, 12.3, "08fbd095ffbc3112150a05464c4f415418fbd095ffbc31200965cdcc44411807"),
    ("DOUBLE", 10, -0.1, "08fbd095ffbc31121a0a06444f55424c4518fbd095ffbc31200a699a9999999999b9bf1807"),
    ("BOOLEAN", 11, True, "08fbd095ffbc3112140a07424f4f4c45414e18fbd095ffbc31200b70011807"),
    ("STRING", 12, "°C", "08fbd095ffbc3112160a06535452494e4718fbd095ffbc31200c7a03c2b0431807"),
    (
        "DATETIME",
        13,
        1_700_000_000_000,
        "08fbd095ffbc31121a0a084441544554494d4518fbd095ffbc31200d5880d095ffbc311807",
    ),
    ("TEXT", 14, "a\nb", "08fbd095ffbc3112140a045445585418fbd095ffbc31200e7a03610a621807"),
    (
        "UUID",
        15,
        "b0f1c2d3-0000-4000-8000-000000000001",
        (
            "08fbd095ffbc3112350a045555494418fbd095ffbc31200f7a2462306631633264332d303030302d343030302d"
            "383030302d3030303030303030303030311807"
        ),
    ),
    ("BYTES", 17, "AP8Q", "08fbd095ffbc3112160a05425954455318fbd095ffbc31201182010300ff101807"),
    (
        "FILE",
        18,
        "aWQsdgoxLDIK",
        "08fbd095ffbc31121b0a0446494c4518fbd095ffbc31201282010969642c760a312c320a1807",
    ),
    (
        "INT8_ARRAY",
        22,
        [-23, 123],
        "08fbd095ffbc31121a0a0a494e54385f415252415918fbd095ffbc312016820102e97b1807",
    ),
    (
        "INT16_ARRAY",
        23,
        [-30000, 30000],
        "08fbd095ffbc31121d0a0b494e5431365f415252415918fbd095ffbc312017820104d08a30751807",
    ),
    (
        "INT32_ARRAY",
        24,
        [-1, 315338746],
        "08fbd095ffbc3112210a0b494e5433325f415252415918fbd095ffbc312018820108fffffffffaafcb121807",
    ),
    (
        "INT64_ARRAY",
        25,
        [-4270929666821191986, -3601064768563266876],
        (
            "08fbd095ffbc3112290a0b494e5436345f415252415918fbd095ffbc312019820110ce0672ac189cbac4c4ba9c"
            "18ac7206ce1807"
        ),
    ),
    (
        "UINT8_ARRAY",
        26,
        [23, 250],
        "08fbd095ffbc31121b0a0b55494e54385f415252415918fbd095ffbc31201a82010217fa1807",
    ),
    (
        "UINT16_ARRAY",
        27,
        [30, 52360],
        "08fbd095ffbc31121e0a0c55494e5431365f415252415918fbd095ffbc31201b8201041e0088cc1807",
    ),
    (
        "UINT32_ARRAY",
        28,
        [52, 3293969225],
        "08fbd095ffbc3112220a0c55494e5433325f415252415918fbd095ffbc31201c8201083400000049fb55c41807",
    ),
    (
        "UINT64_ARRAY",
        29,
        [52, 16444743074749521625],
        (
            "08fbd095ffbc31122a0a0c55494e5436345f415252415918fbd095ffbc31201d8201103400000000000000d99e"
            "02d1b27637e41807"
        ),
    ),
    (
        "FLOAT_ARRAY",
        30,
        [1.23, 89.341],
        "08fbd095ffbc3112210a0b464c4f41545f415252415918fbd095ffbc31201e820108a4709d3f98aeb2421807",
    ),
    (
        "DOUBLE_ARRAY",
        31,
        [12.354213, 1022.9123213],
        (
            "08fbd095ffbc31122a0a0c444f55424c455f415252415918fbd095ffbc31201f820110d7a205685bb528408e17"
            "1c6f4cf78f401807"
        ),
    ),
    (
        "BOOLEAN_ARRAY",
        32,
        [False, False, True, True, False, True, False, False, True, True, False, True],
        "08fbd095ffbc3112210a0d424f4f4c45414e5f415252415918fbd095ffbc3120208201060c00000034d01807",
    ),
    (
        "STRING_ARRAY",
        33,
        ["ABC", "hello"],
        ("08fbd095ffbc3112240a0c535452494e475f415252415918fbd095ffbc31202182010a4142430068656c6c6f001807"),
    ),
    (
        "DATETIME_ARRAY",
        34,
        [1256102875000, 1656107875000],
        (
            "08fbd095ffbc31122c0a0e4441544554494d455f415252415918fbd095ffbc31202282011078cf907524010000"
            "b8bab897810100001807"
        ),
    ),
]

# Likewise what it makes of its sessions.
NBIRTH = (
    "08fbd095ffbc3112120a05626453657118fbd095ffbc312008580012210a144e6f646520436f6e74726f6c2f52"
    "65626972746818fbd095ffbc31200b700012200a0e537570706c7920566f6c74616765100518fbd095ffbc3120"
    "09659a99414112110a04476f6e6518fbd095ffbc31200a38011800"
)
NDATA = "08fbd095ffbc311210100518fbd095ffbc31280165cdcc4441120f100618fbd095ffbc3150fbffffff0f1801"
NDEATH = "08fbd095ffbc3112120a05626453657118fbd095ffbc3120045803"

# What its generated classes write, of protobuf 7: a data set, a template, properties, a file.
RICH = (
    "08fbd095ffbc31125b0a055461626c6518fbd095ffbc3120108a0148080312024964120454656d7012044e616d"
    "651803180a180c22140a0208010a092100000000008035400a0332016122180a0608feffffff0f0a0921000000"
    "0000000ac00a033201621294010a074d6f746f72203118fbd095ffbc31201392017f0a02763112140a0352504d"
    "18fcd095ffbc312003509cffffff0f120d0a04416d7073200965cdcccc3d122c0a0742656172696e6720139201"
    "1e12110a0448656174200a690000000000404440220742656172696e6728001a0f0a0653657269616c100c4203"
    "732d311a0c0a05506f6c6573100118fc0122054d6f746f7228001293010a054c6576656c18fbd095ffbc31200a"
    "4a780a075175616c6974790a07656e67556e69740a066c696d6974730a056e6f7465730a046e6f6e6512050803"
    "18c0011205080c42016d122708144a230a036c6f770a0468696768120708092dcdcccc3d120d080420f9ffffff"
    "ffffffffff0112120815520e0a0c0a0262791206080c42026d65120408031001690000000000000c40123f0a05"
    "50686f746f18fbd095ffbc3120123001422408001209696d6167652f706e67180420002a05612e706e67320370"
    "6e673a02303042017882010489504e4718092203752d312a020102"
)


def varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(found) + bytes([value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def sized(field: int, *values: bytes | str) -> bytes:
    raw = b"".join(each.encode() if isinstance(each, str) else each for each in values)
    return varint(field << 3 | 2) + varint(len(raw)) + raw


def metric(*fields: bytes) -> bytes:
    return sized(2, *fields)


def value_of(*fields: bytes) -> Any:  # noqa: ANN401  # of any datatype
    """The value of a payload's only metric."""
    (found,) = parse(metric(*fields))["metrics"]
    return found["value"]


@pytest.mark.parametrize(("name", "datatype", "value", "payload"), WRITTEN, ids=[each[0] for each in WRITTEN])
def test_each_datatype_is_read_as_another_writes_it(
    name: str, datatype: int, value: object, payload: str
) -> None:
    """Integers have their signs, floats their decimals, bytes are base64, arrays are lists."""
    found = parse(bytes.fromhex(payload))
    assert found == {
        "timestamp": T,
        "seq": 7,
        "metrics": [{"name": name, "timestamp": T, "datatype": datatype, "value": value}],
    }
    assert type(found["metrics"][0]["value"]) is type(value)


def test_the_messages_of_a_session() -> None:
    """Births have names and aliases, data aliases alone and no datatypes, deaths no number."""
    assert parse(bytes.fromhex(NBIRTH)) == {
        "timestamp": T,
        "seq": 0,
        "metrics": [
            {"name": "bdSeq", "timestamp": T, "datatype": 8, "value": 0},
            {"name": "Node Control/Rebirth", "timestamp": T, "datatype": 11, "value": False},
            {"name": "Supply Voltage", "alias": 5, "timestamp": T, "datatype": 9, "value": 12.1},
            {"name": "Gone", "timestamp": T, "datatype": 10, "is_null": True, "value": None},
        ],
    }
    assert parse(bytes.fromhex(NDATA)) == {
        "timestamp": T,
        "seq": 1,
        "metrics": [
            {"alias": 5, "timestamp": T, "is_historical": True, "value": 12.3},
            {"alias": 6, "timestamp": T, "value": 4294967291},
        ],
    }
    assert parse(bytes.fromhex(NDEATH)) == {
        "timestamp": T,
        "metrics": [{"name": "bdSeq", "timestamp": T, "datatype": 4, "value": 3}],
    }


def test_what_is_nested_comes_out_plain() -> None:
    """Data sets are rows, templates and property sets objects; what else is said stands beside."""
    table, motor, level, photo = parse(bytes.fromhex(RICH))["metrics"]
    assert table == {
        "name": "Table",
        "timestamp": T,
        "datatype": 16,
        "value": [{"Id": 1, "Temp": 21.5, "Name": "a"}, {"Id": -2, "Temp": -3.25, "Name": "b"}],
    }
    assert motor == {
        "name": "Motor 1",
        "timestamp": T,
        "datatype": 19,
        "value": {"RPM": -100, "Amps": 0.1, "Bearing": {"Heat": 40.5}},
        "template": {
            "version": "v1",
            "template_ref": "Motor",
            "is_definition": False,
            "parameters": {"Serial": "s-1", "Poles": -4},
        },
        "members": {
            "RPM": {"timestamp": T + 1, "datatype": 3},
            "Amps": {"datatype": 9},
            "Bearing": {
                "datatype": 19,
                "template": {"template_ref": "Bearing", "is_definition": False},
                "members": {"Heat": {"datatype": 10}},
            },
        },
    }
    assert level["properties"] == {
        "Quality": 192,
        "engUnit": "m",
        "limits": {"low": 0.1, "high": -7},
        "notes": [{"by": "me"}],
        "none": None,
    }
    assert photo["value"] == "iVBORw=="
    assert photo["is_transient"] is True
    assert photo["metadata"] == {
        "is_multi_part": False,
        "content_type": "image/png",
        "size": 4,
        "seq": 0,
        "file_name": "a.png",
        "file_type": "png",
        "md5": "00",
        "description": "x",
    }


def test_a_payload_has_a_body_too() -> None:
    """Bytes that bypass the metrics are kept, and so is what says what they are."""
    found = parse(bytes.fromhex(RICH))
    assert (found["uuid"], found["body"], found["seq"]) == ("u-1", "AQI=", 9)


@pytest.mark.parametrize(
    ("datatype", "sent", "value"),
    [
        (1, 0x7F, 127),
        (1, 0x80, -128),
        (1, 0xFFFFFF80, -128),  # signs in all 32 bits, as in Java
        (1, 2**64 - 128, -128),
        (2, 0xFFFF8000, -32768),
        (3, 2**64 - 2, -2),
        (3, 2**31, -(2**31)),
        (3, 2**64 - 2**31, -(2**31)),
        (4, 2**63, -(2**63)),
        (4, 2**32 - 5, 4294967291),
        (7, 2**32 - 1, 4294967295),
        (8, 2**64 - 1, 18446744073709551615),
        (0, 2**64 - 1, 18446744073709551615),
        (99, 5, 5),
    ],
)
def test_integers_have_the_sign_of_their_datatype(datatype: int, sent: int, value: int) -> None:
    """In whichever of the two fields they come, and however far their sign reaches."""
    assert value_of(number(4, datatype), number(11, sent)) == value
    assert typed(sent, datatype) == value
    if sent < 2**32:
        assert value_of(number(4, datatype), number(10, sent)) == value


@pytest.mark.parametrize(
    ("datatype", "sent"),
    [(1, 256), (1, 0xFFFFFF7F), (2, 65536), (3, 2**32), (5, 256), (6, 65536), (7, 2**32)],
)
def test_what_a_datatype_cannot_hold_is_no_number(datatype: int, sent: int) -> None:
    """Its neighbours are stored without it where the route says so."""
    found = value_of(number(4, datatype), number(11, sent))
    assert isinstance(found, NoNumber)
    assert found.reason == "number_out_of_range"
    assert str(sent) in found.text


@pytest.mark.parametrize(
    "field",
    [
        b"\x65" + struct.pack("<f", float("nan")),
        b"\x65" + struct.pack("<f", float("inf")),
        b"\x69" + struct.pack("<d", float("-inf")),
    ],
)
def test_a_float_that_is_none_is_no_number(field: bytes) -> None:
    """NaN and infinity are for the route to drop or to refuse."""
    assert isinstance(value_of(number(4, 9), field), NoNumber)


@pytest.mark.parametrize(
    ("fields", "value"),
    [
        (number(7, 1), None),
        (number(7, 1) + number(10, 0), None),
        (number(7, 1) + sized(15, ""), None),
        (number(7, 0) + number(10, 5), 5),
        (b"", None),
        (sized(15, ""), ""),
        (sized(16, b""), ""),
        (number(4, 33) + sized(16, b""), []),
        (number(4, 33) + sized(16, b"a\x00b"), ["a", "b"]),
        (number(4, 33) + sized(16, b"\x00b\x00"), ["", "b"]),
        (number(4, 32) + sized(16, bytes(4)), []),
        (number(4, 32) + sized(16, bytes([8, 0, 0, 0, 0b10000001])), [True] + [False] * 6 + [True]),
        (number(4, 22) + sized(16, b""), []),
        (number(4, 11) + number(14, 2), True),
        (sized(19, b"\x08\x01"), "CAE="),
        (sized(17), []),
        (sized(17, sized(2, "a"), number(3, 1), sized(4, sized(1, number(1, 255)))), [{"a": -1}]),
        (sized(17, sized(2, "a"), sized(3, b"\x01"), sized(4, sized(1, number(1, 255)))), [{"a": -1}]),
        (sized(17, sized(2, "a"), sized(4, sized(1))), [{"a": None}]),
        (sized(18), {}),
    ],
)
def test_what_writers_leave_out_or_write_in_their_way(fields: bytes, value: object) -> None:
    """Nulls with a placeholder, empty values, packed types, an array without its last NUL."""
    assert value_of(fields) == value


def test_fields_that_the_standard_leaves_to_others_are_kept() -> None:
    """Extensions come out by their numbers, whatever they are."""
    extended = (
        number(6, 5)
        + sized(7, "x")
        + sized(7, "y")
        + b"\x41"
        + bytes([1] + [0] * 7)
        + b"\x4d\x02\x00\x00\x00"
    )
    assert parse(extended + metric(number(30, 1))) == {
        "metrics": [{"field_30": [1], "value": None}],
        "field_6": [5],
        "field_7": ["eA==", "eQ=="],
        "field_8": [1],
        "field_9": [2],
    }


@pytest.mark.parametrize(
    ("payload", "reason", "said"),
    [
        (b'{"online": true}', "malformed_sparkplug", "STATE messages"),
        (b"ON", "malformed_sparkplug", "byte 0: the payload has no field 9 of wire type 7"),
        (number(0, 1), "malformed_sparkplug", "no field 0"),
        (sized(1, "x"), "malformed_sparkplug", "field 1 of the payload is of another kind"),
        (number(1, 5) + number(1, 5), "malformed_sparkplug", "byte 2: the payload has timestamp twice"),
        (metric(number(10, 5), number(11, 6)), "malformed_sparkplug", "a metric has value twice"),
        (metric(sized(1, "a"), sized(1, "b")), "malformed_sparkplug", "a metric has name twice"),
        (metric(number(7, 1), number(10, 5)), "malformed_sparkplug", "said to be null, and is there"),
        (b"\x08", "malformed_sparkplug", "byte 1: it ends in the middle of a field"),
        (b"\x08\x80", "malformed_sparkplug", "it ends in the middle"),
        (b"\x12", "malformed_sparkplug", "it ends in the middle"),
        (b"\x12\x05\x0a", "malformed_sparkplug", "byte 0: metrics has 5 bytes, and 1 are left"),
        (b"\x12\x03\x0a\x05abcde", "malformed_sparkplug", "name has 5 bytes, and 1 are left"),
        (b"\x12\x02\x18\x80\x01", "malformed_sparkplug", "the last field of a metric goes beyond its end"),
        (b"\x12\x03\x65\x00\x00\x00\x00", "malformed_sparkplug", "goes beyond its end"),
        (b"\x08" + b"\xff" * 11, "malformed_sparkplug", "more than ten bytes"),
        (b"\x08" + b"\xff" * 9 + b"\x02", "malformed_sparkplug", "more than 64 bits"),
        (metric(sized(1, b"a\xff")), "not_utf8", "byte 5 is in a text"),
        (metric(number(4, 33), sized(16, b"\xff")), "not_utf8", "StringArray"),
        (metric(number(4, 23), sized(16, b"abc")), "malformed_sparkplug", "2 bytes an element, and 3 bytes"),
        (metric(number(4, 32), sized(16, b"abc")), "malformed_sparkplug", "BooleanArray of 3 bytes"),
        (metric(number(4, 32), sized(16, bytes([9, 0, 0, 0, 1]))), "malformed_sparkplug", "BooleanArray"),
        (metric(number(4, 32), sized(16, bytes([1, 0, 0, 0, 1, 1]))), "malformed_sparkplug", "BooleanArray"),
        (metric(sized(9, sized(1, "a"))), "malformed_sparkplug", "property set has 1 names and 0 values"),
        (metric(sized(9, sized(1, "a") * 2, sized(2) * 2)), "duplicate_key", "has a name twice"),
        (metric(sized(17, number(1, 2), sized(2, "a"))), "malformed_sparkplug", "1 names of columns"),
        (metric(sized(17, sized(2, "a"), number(3, 1) * 2)), "malformed_sparkplug", "2 types"),
        (
            metric(sized(17, sized(2, "a"), sized(4))),
            "malformed_sparkplug",
            "a row has 0 values, and there are 1 columns",
        ),
        (
            metric(sized(17, sized(4, sized(1) * 2))),
            "malformed_sparkplug",
            "a row has 2 values, and there are 0 columns",
        ),
        (metric(sized(17, sized(9, "a"))), "malformed_sparkplug", "a data set has no field 9"),
        (metric(sized(17, sized(3, b"\x80"))), "malformed_sparkplug", "it ends in the middle"),
        (
            metric(sized(18, sized(2))),
            "malformed_sparkplug",
            "a member of a template has neither name nor alias",
        ),
        (metric(sized(18, sized(2, sized(1, "a")) * 2)), "duplicate_key", "a template has a name twice"),
        (metric(sized(18, sized(3))), "malformed_sparkplug", "a parameter of a template has no name"),
    ],
)
def test_what_cannot_be_read_in_one_way_is_refused(payload: bytes, reason: str, said: str) -> None:
    """It says what is wrong, and at which byte."""
    with pytest.raises(Reject) as refused:
        parse(payload)
    assert refused.value.reason == reason
    assert said in refused.value.detail


def test_an_array_is_read_when_its_datatype_is_known() -> None:
    """Data after a birth says no datatype; the birth's is applied to what came."""
    for name, datatype, value, payload in WRITTEN:
        if "ARRAY" in name:
            raw = bytes.fromhex(payload).replace(bytes([0x20, datatype]), bytes([0x20, 0]))
            (found,) = parse(raw)["metrics"]
            assert typed(found["value"], datatype) == value
    with pytest.raises(Reject):
        typed("no base64", 22)
    assert typed("text", 12) == "text"
    assert typed(21.5, 9) == 21.5


@pytest.mark.parametrize("field", [9, 18], ids=["property sets", "templates"])
def test_nesting_has_an_end(field: int) -> None:
    """What is nested without end is refused, and costs no more than its bytes."""
    inner = b""
    for _ in range(300):
        inner = (
            sized(1, "a") + sized(2, sized(9, inner))
            if field == 9
            else sized(2, sized(1, "a"), sized(18, inner))
        )
    with pytest.raises(Reject) as refused:
        parse(metric(sized(field, inner)))
    assert refused.value.reason == "too_deep"


def depth_of(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


@pytest.mark.parametrize("field", [9, 18], ids=["property sets", "templates"])
def test_what_is_read_is_not_deeper_than_others_take(field: int) -> None:
    """The deepest that is taken has 32 objects and arrays inside one another."""
    inner, deepest = b"", 0
    for _ in range(40):
        inner = (
            sized(1, "a") + sized(2, sized(9, inner))
            if field == 9
            else sized(2, sized(1, "a"), sized(18, inner))
        )
        with suppress(Reject):
            deepest = max(deepest, depth_of(parse(metric(sized(field, inner)))))
    assert deepest > 16
    assert deepest <= 32


@pytest.mark.parametrize(
    "payload",
    [
        b"\x12\x00" * 2000,
        b"\x12\x02\x10\x05" * 1000,
        metric(sized(17, b"\x22\x00" * 2000)),
        metric(sized(17, sized(2, "a"), b"\x22\x02\x0a\x00" * 1000)),
        metric(number(4, 32), sized(16, struct.pack("<I", 8 * 4_000) + bytes(4_000))),
        metric(number(4, 33), sized(16, bytes(4_000))),
        b"\x30\x01" * 2000,
        metric(sized(18, sized(2, sized(1, "a")) * 800)),
    ],
    ids=["metrics", "aliases", "rows", "values", "booleans", "texts", "tags", "members"],
)
def test_what_is_read_takes_room_by_its_bytes(payload: bytes) -> None:
    """What is small is read into something small, as an array of empty objects in JSON is."""
    tracemalloc.start()
    with suppress(Reject):
        parse(payload)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150 * len(payload)


def test_a_route_makes_metrics_of_it() -> None:
    """`each`, `name` and `value` are all that a route needs for messages with names."""
    route = Route(
        topic="spBv1.0/{group}/NBIRTH/{device_id}",
        format="sparkplug",
        each="metrics",
        name="name",
        value="value",
        key="",
        time="timestamp",
        ignore=("*.datatype", "*.alias", "*.is_null"),
    )
    decoder = Decoder(compile_routes([route]), Limits())
    found = decoder.decode(Delivered("spBv1.0/plant/NBIRTH/press", bytes.fromhex(NBIRTH)), Received.of(NOW))
    (reading,) = found
    assert isinstance(reading, Reading)
    assert json.loads(bytes(reading.event.metrics)) == {
        "bdSeq": 0,
        "Node Control/Rebirth": False,
        "Supply Voltage": 12.1,
    }
    assert reading.event.ts.startswith("2023-11-14T22:13:20.123")


def test_a_birth_of_thousands_of_tags_at_times_of_their_own() -> None:
    """As the server of a plant sends it: a reading for each time, which share the payload."""
    began, count = int(NOW.timestamp() * 1000) - 10_000, 4_000
    tags = [
        metric(sized(1, f"Line {n % 9}/Tag {n}"), number(3, began + n), number(4, 3), number(10, n))
        for n in range(count)
    ]
    words: dict[str, Any] = {
        "each": "metrics",
        "name": "name",
        "value": "value",
        "time": "timestamp",
        "key": "",
    }
    route = Route(topic="{device_id}", format="sparkplug", **words)
    decoder = Decoder(compile_routes([route]), Limits())
    birth = Delivered("press", number(1, began) + b"".join(tags))
    found = decoder.read(birth, decoder.value_of(birth), Received.of(NOW))
    assert [type(each) for each in found] == [Reading] * count


def envelope(body: bytes, *more: bytes, algorithm: str = "GZIP") -> bytes:
    return (
        sized(2, sized(1, "algorithm"), number(4, 12), sized(15, algorithm))
        + b"".join(more)
        + (sized(4, "SPBV1.0_COMPRESSED") + sized(5, body))
    )


def unpack(payload: bytes, most: int = 262_144) -> bytes:
    """As the decoder does it."""
    unpacking = format_of(Route(format="sparkplug"), "route[0]").unpacking
    assert payload[0] in unpacking.first
    return unpacking.unpack(payload, most)


def test_a_compressed_payload_is_the_one_inside() -> None:
    """Ignition sends them, in GZIP or DEFLATE."""
    birth = bytes.fromhex(NBIRTH)
    assert unpack(envelope(gzip.compress(birth))) == birth
    assert unpack(envelope(zlib.compress(birth), algorithm="DEFLATE")) == birth
    assert unpack(sized(4, "SPBV1.0_COMPRESSED") + sized(5, gzip.compress(birth))) == birth
    assert unpack(birth) == birth
    named = metric(sized(1, "SPBV1.0_COMPRESSED"))
    assert unpack(named) == named


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (envelope(b"rubbish"), "malformed_compression"),
        (envelope(b""), "malformed_compression"),
        (envelope(gzip.compress(b"", mtime=0)), "empty_message"),
        (envelope(gzip.compress(bytes(300_000), mtime=0)), "payload_too_large"),
        (
            envelope(gzip.compress(b"abc", mtime=0), metric(sized(1, "Temp"), number(10, 5))),
            "malformed_sparkplug",
        ),
        (sized(4, "SPBV1.0_COMPRESSED"), "malformed_sparkplug"),
        (sized(4, "SPBV1.0_COMPRESSED") + b"\x2a", "malformed_sparkplug"),
    ],
)
def test_an_envelope_that_holds_no_payload_is_refused(payload: bytes, reason: str) -> None:
    """Nothing of it is taken for metrics, and nothing beside its body is lost."""
    with pytest.raises(Reject) as refused:
        unpack(payload)
    assert refused.value.reason == reason


def test_a_route_may_say_how_it_is_packed() -> None:
    """Then all of the payload is the archive, or none is."""
    birth = bytes.fromhex(NBIRTH)
    packed = format_of(Route(format="sparkplug", compression="gzip"), "route[0]").unpacking
    assert packed.unpack(gzip.compress(birth), 262_144) == birth
    assert not format_of(Route(format="sparkplug", compression="none"), "route[0]").unpacking.first


def test_a_payload_is_its_only_element() -> None:
    """One payload is one message."""
    form = format_of(Route(format="sparkplug"), "route[0]")
    payload = bytes.fromhex(RICH)
    assert form.parse(form.join(form.elements(payload))) == form.parse(payload)


@given(st.binary(max_size=60))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_read_or_refused(payload: bytes) -> None:
    """Whatever comes, there is a message or a reason."""
    for each in (
        payload,
        metric(payload),
        metric(sized(17, payload)),
        metric(sized(18, payload)),
        metric(sized(9, payload)),
    ):
        with suppress(Reject):
            parse(each)


@given(st.integers(0, 1000), st.integers(0, 255), st.integers(0, 1000))
@settings(max_examples=150, deadline=None)
def test_a_changed_byte_breaks_nothing(at: int, byte: int, end: int) -> None:
    """Likewise of payloads that were good, whole and cut."""
    payload = bytearray(bytes.fromhex(RICH))
    payload[at % len(payload)] = byte
    for each in (bytes(payload), bytes(payload)[: end % len(payload)]):
        with suppress(Reject):
            parse(each)


@given(
    st.lists(
        st.tuples(
            st.text(max_size=8),
            st.one_of(
                st.integers(-(2**63), 2**63 - 1).map(lambda v: (v, number(4, 4) + number(11, v % 2**64))),
                st.integers(-(2**31), 2**31 - 1).map(lambda v: (v, number(4, 3) + number(10, v % 2**32))),
                st.floats(allow_nan=False, allow_infinity=False).map(
                    lambda v: (v, number(4, 10) + b"\x69" + struct.pack("<d", v))
                ),
                st.booleans().map(lambda v: (v, number(4, 11) + number(14, v))),
                st.text(max_size=8).map(lambda v: (v, number(4, 12) + sized(15, v))),
            ),
        ),
        max_size=3,
    )
)
@settings(max_examples=40, deadline=None)
def test_what_was_written_comes_out(metrics: list[tuple[str, tuple[object, bytes]]]) -> None:
    """Names and values, in the order in which they were written."""
    payload = b"".join(metric(sized(1, name), raw) for name, (_, raw) in metrics)
    found = parse(payload)["metrics"]
    assert [(each["name"], each["value"]) for each in found] == [
        (name, value) for name, (value, _) in metrics
    ]


MOMENT = b"\xe8\xec\x88\xbd\xa0\x34"
FIELDS = st.tuples(
    st.sampled_from(
        [b"", b"\x0a\x01a", b"\x0a\x02a ", b"\x0a\x03b\x101", b"\x0a\x01ab", b"\x0a\x02\xc3\xa4"]
    ),
    st.sampled_from([b"", b"\x10\x07", b"\x10\x80\x01", b"\x10\x10"]),
    st.sampled_from([b"", b"\x18" + MOMENT, b"\x18\x05", b"\x18" + MOMENT[:-1] + b"\x33"]),
    st.sampled_from([b"", b"\x20\x0a", b"\x20\x01", b"\x20\x03", b"\x20\x0b", b"\x20\x80\x01"]),
    st.sampled_from(
        [
            b"\x69" + struct.pack("<d", 21.5),
            b"\x69\x12\x02\x18\x01\x10\x01\x12\x18",
            b"\x69" + struct.pack("<d", float("inf")),
            b"\x50\x07",
            b"\x50\xff\x01",
            b"\x58\x80\x80\x01",
            b"\x70\x01",
            b"\x70\x00",
            b"\x38\x01",
            b"\x7a\x01x",
            b"",
        ]
    ),
).map(b"".join)
METRIC = st.one_of(
    FIELDS.map(lambda fields: b"\x12" + bytes([len(fields)]) + fields),
    st.tuples(FIELDS, st.integers(0, 30)).map(lambda of: b"\x12" + bytes([of[1]]) + of[0]),
)


def usual(payload: bytes) -> dict[str, Any] | None:
    """What is read of a payload at one glance."""
    found = look(payload)
    return None if found is None else found.value


def outcome(read: Callable[[bytes], Any], payload: bytes) -> str:
    """All that is read, with its order; or what is said of it."""
    try:
        return re.sub(r" object at 0x\w+", "", repr(read(payload)))
    except Reject as reject:
        return f"{reject.reason}: {reject.detail}"


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([b"\x08" + MOMENT, b"", b"\x08\x05"]),
    st.lists(METRIC, max_size=3).map(b"".join),
    st.sampled_from([b"\x18\x05", b"\x18\x98\x01", b"\x18\x18", b"", b"\x18\x80\x02"]),
)
def test_usual_payloads_are_read_as_any(begins: bytes, metrics: bytes, ends: bytes) -> None:
    """What is read at one glance, and at the next, is what it is when it is read field by field."""
    payload = begins + metrics + ends
    for _ in range(3):
        if usual(payload) is not None:
            assert outcome(usual, payload) == outcome(read_slowly, payload)


@pytest.mark.parametrize(
    "metric",
    [
        b"\x0a\x01a\x18" + MOMENT + b"\x20\x0a\x69" + struct.pack("<d", 21.5),
        b"\x10\x07\x18" + MOMENT + b"\x20\x03\x50\xff\xff\x03",
        b"\x10\x80\x02\x70\x01",
        b"\x10\x18\x20\x0a\x69" + struct.pack("<d", 21.5),  # 24 is the tag of a time, too
    ],
)
def test_usual_payloads(metric: bytes) -> None:
    """Metrics with a name or an alias, a time, a datatype and a number are read at one glance."""
    payload = b"\x08" + MOMENT + 2 * (b"\x12" + bytes([len(metric)]) + metric) + b"\x18\x07"
    for _ in range(3):
        assert outcome(usual, payload) == outcome(read_slowly, payload)


def test_a_time_without_its_tag_is_none() -> None:
    """What looks like a time where none is said to be is no usual payload."""
    metric = b"\x10\x07" + MOMENT + b"\x20\x0a\x69" + struct.pack("<d", 21.5)
    assert usual(b"\x08" + MOMENT + b"\x12" + bytes([len(metric)]) + metric + b"\x18\x07") is None
