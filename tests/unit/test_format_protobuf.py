"""Protocol buffers by a descriptor set: values by the names of the .proto, nothing lost, what is refused."""

from __future__ import annotations

import contextlib
import struct
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    duration_pb2,
    message_factory,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor_pool import DescriptorPool
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.decode import Decoder, Limits, Reading, Received
from gateway.decode.fields import NoNumber
from gateway.decode.formats import Format, format_of
from gateway.decode.routes import compile_routes
from runtime.errors import ConfigurationError, Reject
from runtime.settings import Route
from runtime.settings.route import Protobuf
from tests.support.write_side import Delivered

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

F = descriptor_pb2.FieldDescriptorProto

SCALARS = {
    "double": (F.TYPE_DOUBLE, 1.1),
    "float": (F.TYPE_FLOAT, 21.3),
    "int32": (F.TYPE_INT32, -(2**31)),
    "int64": (F.TYPE_INT64, -(2**63)),
    "uint32": (F.TYPE_UINT32, 2**32 - 1),
    "uint64": (F.TYPE_UINT64, 2**64 - 1),
    "sint32": (F.TYPE_SINT32, -(2**31)),
    "sint64": (F.TYPE_SINT64, 2**63 - 1),
    "fixed32": (F.TYPE_FIXED32, 2**32 - 1),
    "fixed64": (F.TYPE_FIXED64, 2**64 - 1),
    "sfixed32": (F.TYPE_SFIXED32, -1),
    "sfixed64": (F.TYPE_SFIXED64, 2**53 + 1),
    "bool": (F.TYPE_BOOL, True),
    "string": (F.TYPE_STRING, "äöü"),
}
KNOWN = (timestamp_pb2, duration_pb2, wrappers_pb2, struct_pb2, any_pb2)


def field(holder: Any, name: str, number: int, kind: int, **more: Any) -> Any:  # noqa: ANN401  # of the library
    return holder.field.add(name=name, number=number, type=kind, **({"label": F.LABEL_OPTIONAL} | more))


def add_map(message: Any, scope: str, name: str, number: int, key: int, **value: Any) -> None:  # noqa: ANN401  # likewise
    entry = message.nested_type.add(name=f"{name.title()}Entry")
    entry.options.map_entry = True
    field(entry, "key", 1, key)
    field(entry, "value", 2, value.pop("type"), **value)
    field(message, name, number, F.TYPE_MESSAGE, label=F.LABEL_REPEATED, type_name=f".{scope}.{entry.name}")


def descriptor_set() -> descriptor_pb2.FileDescriptorSet:
    """`site.proto` (proto3): Frame, of Reading; `old.proto` (proto2): Old; and what they import."""
    found = descriptor_pb2.FileDescriptorSet()
    for known in KNOWN:
        known.DESCRIPTOR.CopyToProto(found.file.add())
    site = found.file.add(name="site.proto", package="site.v1", syntax="proto3")
    site.dependency.extend(each.DESCRIPTOR.name for each in KNOWN)
    quality = site.enum_type.add(name="Quality")
    for number, name in enumerate(("UNKNOWN_QUALITY", "GOOD", "BAD")):
        quality.value.add(name=name, number=number)

    reading = site.message_type.add(name="Reading")
    field(reading, "name", 1, F.TYPE_STRING)
    field(reading, "temperature", 2, F.TYPE_FLOAT)
    field(reading, "count", 3, F.TYPE_UINT64)
    field(reading, "quality", 4, F.TYPE_ENUM, type_name=".site.v1.Quality")
    field(reading, "at", 5, F.TYPE_MESSAGE, type_name=".google.protobuf.Timestamp")
    field(reading, "inner", 6, F.TYPE_MESSAGE, type_name=".site.v1.Reading")

    frame = site.message_type.add(name="Frame")
    for number, (name, (kind, _)) in enumerate(SCALARS.items(), 1):
        field(frame, f"a_{name}", number, kind)
    field(frame, "a_bytes", 20, F.TYPE_BYTES)
    field(frame, "quality", 21, F.TYPE_ENUM, type_name=".site.v1.Quality")
    frame.oneof_decl.add(name="power")
    field(frame, "volts", 22, F.TYPE_DOUBLE, oneof_index=0)
    field(frame, "state", 23, F.TYPE_STRING, oneof_index=0)
    field(frame, "readings", 24, F.TYPE_MESSAGE, label=F.LABEL_REPEATED, type_name=".site.v1.Reading")
    field(frame, "numbers", 25, F.TYPE_INT32, label=F.LABEL_REPEATED)
    add_map(frame, "site.v1.Frame", "limits", 26, F.TYPE_STRING, type=F.TYPE_DOUBLE)
    add_map(
        frame, "site.v1.Frame", "slots", 27, F.TYPE_INT32, type=F.TYPE_MESSAGE, type_name=".site.v1.Reading"
    )
    add_map(frame, "site.v1.Frame", "flags", 28, F.TYPE_BOOL, type=F.TYPE_ENUM, type_name=".site.v1.Quality")
    for number, name in enumerate(
        ("Timestamp", "Duration", "DoubleValue", "BytesValue", "Struct", "Value", "Any"), 30
    ):
        field(frame, f"the_{name.lower()}", number, F.TYPE_MESSAGE, type_name=f".google.protobuf.{name}")
    frame.oneof_decl.add(name="_maybe")
    field(frame, "maybe", 40, F.TYPE_INT32, oneof_index=1, proto3_optional=True)

    old = found.file.add(name="old.proto", package="old", syntax="proto2")
    kinds = old.enum_type.add(name="Kind")
    kinds.value.add(name="A", number=1)
    message = old.message_type.add(name="Old")
    field(message, "id", 1, F.TYPE_STRING, label=F.LABEL_REQUIRED)
    field(message, "level", 2, F.TYPE_INT32, default_value="7")
    field(message, "kind", 3, F.TYPE_ENUM, type_name=".old.Kind")
    inner = message.nested_type.add(name="Part")
    field(inner, "x", 1, F.TYPE_INT32)
    field(message, "part", 4, F.TYPE_GROUP, type_name=".old.Old.Part", label=F.LABEL_REPEATED)
    message.extension_range.add(start=100, end=200)
    extension = old.extension.add(
        name="extra", number=100, type=F.TYPE_INT32, label=F.LABEL_OPTIONAL, extendee=".old.Old"
    )
    assert extension.name
    return found


class Site(NamedTuple):
    form: Format
    old: Format
    frame: Callable[..., Any]
    path: str


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    path = tmp_path_factory.mktemp("protobuf") / "site.bin"
    files = descriptor_set()
    path.write_bytes(files.SerializeToString())
    pool = DescriptorPool()
    for each in files.file:
        pool.Add(each)
    return Site(
        form_of(str(path), "site.v1.Frame"),
        form_of(str(path), "old.Old"),
        message_factory.GetMessageClass(pool.FindMessageTypeByName("site.v1.Frame")),
        str(path),
    )


def form_of(path: str, message: str) -> Format:
    route = Route(topic="a/{device_id}", format="protobuf", protobuf=Protobuf(path, message))
    return format_of(route, "route[0]")


ZEROS = {
    **{f"a_{name}": 0 if name != "bool" else False for name in SCALARS if name != "string"},
    "quality": "UNKNOWN_QUALITY",
}


def sent(form: Format, payload: bytes) -> dict[str, Any]:
    """What a payload says beyond zeros."""
    return {name: value for name, value in form.parse(payload).items() if ZEROS.get(name, ...) != value}


def test_scalars(site: Site) -> None:
    """Each type at its border, by the name in the .proto; a float is the decimal that was meant."""
    values = {f"a_{name}": value for name, (_, value) in SCALARS.items()}
    found = site.form.parse(site.frame(**values, a_bytes=b"\xff\xfe", quality=1).SerializeToString())
    assert found == {**values, "a_bytes": "//4=", "quality": "GOOD"}
    assert {name: type(found[name]) for name in values} == {
        name: type(value) for name, value in values.items()
    }


def test_zeros(site: Site) -> None:
    """A number, boolean or enum that is zero is not sent, and given; texts and what has presence are not."""
    assert site.form.parse(site.frame(a_string="x").SerializeToString()) == {**ZEROS, "a_string": "x"}
    assert sent(site.form, site.frame(maybe=0, volts=0).SerializeToString()) == {"maybe": 0, "volts": 0.0}


@pytest.mark.parametrize(
    ("fields", "value"),
    [
        ({"state": "on"}, {"state": "on"}),
        ({"numbers": [1, -1, 0]}, {"numbers": [1, -1, 0]}),
        ({"limits": {"low": 1.5, "": 0.0}}, {"limits": {"low": 1.5, "": 0.0}}),
        ({"flags": {True: 1, False: 9}}, {"flags": {"true": "GOOD", "false": 9}}),
        ({"quality": 77}, {"quality": 77}),
        ({"the_timestamp": {"seconds": 1795944600}}, {"the_timestamp": "2026-11-29T09:30:00Z"}),
        ({"the_timestamp": {"seconds": -1, "nanos": 5}}, {"the_timestamp": "1969-12-31T23:59:59.000000005Z"}),
        ({"the_duration": {"seconds": 90}}, {"the_duration": 90}),
        ({"the_duration": {"seconds": -1, "nanos": -500_000_000}}, {"the_duration": -1.5}),
        ({"the_doublevalue": {"value": 0}}, {"the_doublevalue": 0.0}),
        ({"the_bytesvalue": {"value": b"\x01"}}, {"the_bytesvalue": "AQ=="}),
        ({"the_any": {"type_url": "x", "value": b"\x01"}}, {"the_any": {"type_url": "x", "value": "AQ=="}}),
        (
            {"readings": [{"name": "a", "temperature": 21.6}, {}]},
            {
                "readings": [
                    {"name": "a", "temperature": 21.6, "count": 0, "quality": "UNKNOWN_QUALITY"},
                    {"temperature": 0.0, "count": 0, "quality": "UNKNOWN_QUALITY"},
                ]
            },
        ),
    ],
)  # fmt: skip
def test_values(site: Site, fields: dict[str, Any], value: dict[str, Any]) -> None:
    """Oneofs, lists, maps, enums and messages that everybody knows; each is written as it was."""
    payload = site.frame(**fields).SerializeToString()
    assert sent(site.form, payload) == value
    assert site.form.write is not None
    assert sent(site.form, site.form.write(site.form.parse(payload))) == value


def test_struct(site: Site) -> None:
    """A Struct is the object that it is."""
    message = site.frame()
    value = {"a": 1.5, "b": [True, None, "x", {"c": []}], "d": {}}
    message.the_struct.update(value)
    message.the_value.string_value = "x"
    message.slots[-3].name = "three"
    found = site.form.parse(message.SerializeToString())
    assert (found["the_struct"], found["the_value"]) == (value, "x")
    assert found["slots"]["-3"]["name"] == "three"
    assert site.form.write is not None
    assert site.form.parse(site.form.write(found)) == found


def test_numbers_that_are_none(site: Site) -> None:
    """What is not finite costs only its field, and is written again."""
    payload = site.frame(
        a_float=float("inf"), a_double=float("nan"), limits={"x": float("-inf")}
    ).SerializeToString()
    assert site.form.write is not None
    for found in (site.form.parse(payload), site.form.parse(site.form.write(site.form.parse(payload)))):
        assert [each.text for each in (found["a_float"], found["a_double"], found["limits"]["x"])] == [
            "inf",
            "nan",
            "-inf",
        ]
        assert isinstance(found["a_float"], NoNumber)


def test_old_syntax(site: Site) -> None:
    """proto2: presence, groups, extensions, and a number that an enum does not have."""
    payload = b"\x0a\x01x" + b"\x23\x08\x05\x24" + b"\xa0\x06\x09" + b"\x18\x05"
    value = {"id": "x", "part": [{"x": 5}], "old.extra": 9, "unknown": {"3": 5}}
    assert site.old.parse(payload) == value
    assert site.old.write is not None
    assert site.old.parse(site.old.write(value)) == value
    assert site.old.parse(b"\x0a\x01x\x10\x00\x18\x01") == {"id": "x", "level": 0, "kind": "A"}


def test_unknown_fields(site: Site) -> None:
    """What a newer firmware sends beside is kept by number, and is written again."""
    more = b"\xa0\x1f\x05\xa0\x1f\x06\xaa\x1f\x02hi\xb1\x1f" + bytes(8) + b"\xbb\x1f\x08\x01\xbc\x1f"
    payload = site.frame(state="on").SerializeToString() + more
    value = {"state": "on", "unknown": {"500": [5, 6], "501": "aGk=", "502": 0, "503": {"1": 1}}}
    assert sent(site.form, payload) == value
    assert site.form.write is not None
    assert sent(site.form, site.form.write(site.form.parse(payload))) == value
    within = b"\xc2\x01\x05" + b"\x0a\x01a" + b"\x78\x01"
    assert sent(site.form, within)["readings"][0]["unknown"] == {"15": 1}


NAME_TWICE = b"\x72\x01a\x72\x01b"


@pytest.mark.parametrize(
    ("payload", "reason", "detail"),
    [
        (b"\xff", "malformed_protobuf", "site.v1.Frame"),
        (b"\x72\x05a", "malformed_protobuf", "corrupt"),
        (b"\x72\x01\xff", "not_utf8", "site.v1.Frame"),
        (NAME_TWICE, "duplicate_key", "a_string comes again at byte 3"),
        (b"\xc2\x01\x08" + b"\x10\x01"[:0] + b"\x18\x01\x18\x02\x0a\x00\x0a\x00", "duplicate_key", "count"),
        (b"\xb1\x01" + bytes(8) + b"\xba\x01\x01x", "duplicate_key", "power"),
        (b"\xd2\x01\x03\x0a\x01a\xd2\x01\x03\x0a\x01a", "duplicate_key", "key of limits"),
        (b"\xda\x01\x02\x08\x00\xda\x01\x00", "duplicate_key", "key of slots"),
        (b"\x28\xff\xff\xff\xff\x1f", "number_out_of_range", "a_uint32"),
        (b"\x18\xff\xff\xff\xff\x1f", "number_out_of_range", "a_int32"),
        (b"\xca\x01\x06\x01\xff\xff\xff\xff\x1f", "number_out_of_range", "numbers"),
        (b"\x72\x01a\x1a\x01a", "malformed_protobuf", "a_int32 is of another type"),
        (b"\xf8\x07\x01", "malformed_protobuf", "none of its fields"),
        (b"\xf2\x01\x06\x10\x80\x94\xeb\xdc\x03", "malformed_protobuf", "nanoseconds"),
        (b"\xf2\x01\x0b\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", "number_out_of_range", "calendar"),
        (b"\xf2\x01\x0a\x08\x80\x80\x80\x80\x80\x80\x80\x80\x40", "number_out_of_range", "calendar"),
        (b"\xf2\x01\x02\x78\x01", "malformed_protobuf", "none of its own"),
    ],
)  # fmt: skip
def test_refused(site: Site, payload: bytes, reason: str, detail: str) -> None:
    """What is not that message, or would lose something, is refused with the field."""
    with pytest.raises(Reject) as caught:
        site.form.parse(payload)
    assert (caught.value.reason, detail in caught.value.detail) == (reason, True), caught.value.detail


def test_read_though_written_otherwise(site: Site) -> None:
    """Another order, numbers that are longer than need be, lists that are not packed: all of it is read."""
    assert sent(site.form, b"\x72\x01a" + b"\x18\x85\x00") == {"a_string": "a", "a_int32": 5}
    assert sent(site.form, b"\xc8\x01\x01\xc8\x01\x02\x18\x00") == {"numbers": [1, 2]}
    assert sent(site.form, b"\x18\xff\xff\xff\xff\x0f\x72\x01a") == {"a_int32": -1, "a_string": "a"}
    assert sent(site.form, b"\xda\x01\x04\x12\x00\x08\x05" + b"\xda\x01\x02\x08\x06")["slots"].keys() == {
        "5",
        "6",
    }


def nested(depth: int) -> bytes:
    payload = b""
    for _ in range(depth):
        payload = b"\x32" + length(payload) + payload
    return b"\xc2\x01" + length(payload) + payload


def length(payload: bytes) -> bytes:
    size = len(payload)
    return bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])


def test_depth(site: Site) -> None:
    """Nesting is bounded, whatever a descriptor allows."""
    assert site.form.parse(nested(28))
    for depth in (31, 60, 90):
        with pytest.raises(Reject) as caught:
            site.form.parse(nested(depth))
        assert caught.value.reason == "too_deep"
    for depth in (110, 1000):
        with pytest.raises(Reject) as caught:
            site.form.parse(nested(depth))
        assert caught.value.reason == "malformed_protobuf"


def test_zeros_are_bounded(site: Site) -> None:
    """Three bytes are a message of several zeros: so many of them are refused, soon."""
    started = time.process_time()
    with pytest.raises(Reject, match="zero"):
        site.form.parse(b"\xc2\x01\x00" * 87_000)
    assert time.process_time() - started < 10


def test_joined(site: Site) -> None:
    """Payloads of parts of a message are one again."""
    whole = site.frame(state="on", readings=[{"name": name} for name in "abc"]).SerializeToString()
    assert site.form.write is not None
    value = site.form.parse(whole)
    parts = [site.form.write({**value, "readings": [each]}) for each in value["readings"]]
    assert [site.form.parse(part)["readings"] for part in parts] == [[each] for each in value["readings"]]
    assert site.form.parse(site.form.join(parts)) == value
    assert site.form.elements(whole) == [whole]


def test_cut_by_each(site: Site) -> None:
    """Each of a list of messages is a reading, whose bytes are a payload that decodes to the same reading."""
    route = Route(
        topic="a/{device_id}",
        format="protobuf",
        protobuf=Protobuf(site.path, "site.v1.Frame"),
        each="readings",
        time="at",
        key="count",
        tags=("name",),
        on_bad_field="drop",
    )
    payload = site.frame(
        readings=[
            {"name": "s1", "temperature": 21.3, "count": 5, "at": {"seconds": 1795939200}},
            {"name": "s2", "temperature": -1, "count": 6, "at": {"seconds": 1795939201}},
        ]
    ).SerializeToString()
    found = decoded(route, payload)
    assert [(each.event.ts, each.event.key, each.event.tags) for each in found] == [
        ("2026-11-29T08:00:00.000000Z", "5", {"name": "s1"}),
        ("2026-11-29T08:00:01.000000Z", "6", {"name": "s2"}),
    ]
    assert [bytes(each.event.metrics) for each in found] == [
        b'{"quality":"UNKNOWN_QUALITY","temperature":21.3}',
        b'{"quality":"UNKNOWN_QUALITY","temperature":-1.0}',
    ]
    for each in found:
        (again,) = decoded(route, bytes(each.raw))
        assert (again.event.key, again.event.metrics) == (each.event.key, each.event.metrics)


def decoded(route: Route, payload: bytes) -> list[Reading]:
    received = Received.of(datetime(2026, 11, 29, 9, tzinfo=UTC))
    found = Decoder(compile_routes([route]), Limits()).decode(Delivered("a/d1", payload), received)
    assert all(isinstance(each, Reading) for each in found), found
    return [each for each in found if isinstance(each, Reading)]


@pytest.mark.parametrize(
    ("descriptor", "message", "said"),
    [
        ("", "x", "route[0].protobuf.descriptor: format protobuf needs"),
        ("{path}", "", "route[0].protobuf.message"),
        ("{path}", "site.v1.Nothing", "site.v1.Frame"),
        ("{path}", "site.v1.Frame.LimitsEntry", "no message"),
        ("{path}.not", "site.v1.Frame", "route[0].protobuf.descriptor: "),
        ("{folder}", "site.v1.Frame", "route[0].protobuf.descriptor: "),
        ("{folder}/proto", "site.v1.Frame", "is no descriptor set"),
        ("{folder}/alone", "site.v1.Frame", "--include_imports"),
    ],
)
def test_configuration(site: Site, tmp_path: Path, descriptor: str, message: str, said: str) -> None:
    """A descriptor set or a message that is none is refused at start, with the key."""
    (tmp_path / "proto").write_text('syntax = "proto3";')
    files = descriptor_set()
    alone = descriptor_pb2.FileDescriptorSet(file=[each for each in files.file if each.name == "site.proto"])
    (tmp_path / "alone").write_bytes(alone.SerializeToString())
    with pytest.raises(ConfigurationError) as caught:
        form_of(descriptor.format(path=site.path, folder=tmp_path), message)
    assert said in str(caught.value)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.builds(lambda n, v: number(n << 3) + number(v), st.integers(1, 45), st.integers(0, 2**64 - 1)),
            st.builds(
                lambda n, v: number(n << 3 | 2) + length(v) + v, st.integers(1, 45), st.binary(max_size=9)
            ),
            st.builds(
                lambda n, v: number(n << 3 | 1) + struct.pack("<d", v), st.integers(1, 45), st.floats()
            ),
            st.builds(
                lambda n, v: number(n << 3 | 5) + struct.pack("<f", v),
                st.integers(1, 45),
                st.floats(width=32),
            ),
            st.binary(max_size=3),
        ),
        max_size=4,
    )
)
def test_any_bytes(site: Site, parts: list[bytes]) -> None:
    """Whatever comes is plain values or a refusal; what was read is written so that it is the same again."""
    payload = b"".join(parts)
    with contextlib.suppress(Reject):
        found = site.form.parse(payload)
        assert site.form.write is not None
        assert text_of(site.form.parse(site.form.write(found))) == text_of(found)


def number(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes((*found, value))


def text_of(value: Any) -> str:  # noqa: ANN401  # any value
    if isinstance(value, dict):
        return str(sorted((key, text_of(each)) for key, each in value.items()))
    if isinstance(value, list):
        return str([*map(text_of, value)])
    assert value is None or type(value) in {str, bool, int, float, NoNumber}
    return repr(str(value))
