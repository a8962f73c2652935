"""SenML packs: every example of RFC 8428, what is refused, and how packs are cut."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decode import Decoder, Limits, Reading, Received
from gateway.decode.fields import NoNumber
from gateway.decode.formats import format_of, senml
from gateway.decode.mapping.learned import nothing_known
from gateway.decode.routes import compile_routes
from gateway.decode.times import TimeReader
from runtime.errors import Reject
from runtime.settings import Route
from tests.support.write_side import NOW, Delivered

FORM = format_of(Route(topic="a/{device_id}", format="senml"), "route[0]")

DEVICE = "urn:dev:ow:10e2073a01080063"
LABELS = ["n", "u", "v", "vs", "vb", "s", "t", "ut", "vd"]
BASE_LABELS = ["bver", "bn", "bt", "bu", "bv", "bs"]
NUMBERS = {label: i for i, label in enumerate(LABELS)} | {
    label: -1 - i for i, label in enumerate(BASE_LABELS)
}


def as_cbor(pack: list[dict[str, Any]]) -> bytes:
    return cbor2.dumps(
        [{NUMBERS.get(label, label): each for label, each in record.items()} for record in pack]
    )


EXAMPLES: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "5.1.1": (
        '[{"n":"urn:dev:ow:10e2073a01080063","u":"Cel","v":23.1}]',
        [{"name": DEVICE, "n": DEVICE, "u": "Cel", "v": 23.1}],
    ),
    "5.1.2, without a time": (
        '[{"bn":"urn:dev:ow:10e2073a01080063:","n":"voltage","u":"V","v":120.1},{"n":"current","u":"A","v":1.2}]',
        [
            {"name": f"{DEVICE}:voltage", "bn": f"{DEVICE}:", "n": "voltage", "u": "V", "v": 120.1},
            {"name": f"{DEVICE}:current", "bn": f"{DEVICE}:", "n": "current", "u": "A", "v": 1.2},
        ],
    ),
    "5.1.2, with a base time": (
        """[
        {"bn":"urn:dev:ow:10e2073a0108006:","bt":1.276020076001e+09,"bu":"A","bver":5,
         "n":"voltage","u":"V","v":120.1},
        {"n":"current","t":-5,"v":1.2}, {"n":"current","t":-4,"v":1.3}, {"n":"current","t":-3,"v":1.4},
        {"n":"current","t":-2,"v":1.5}, {"n":"current","t":-1,"v":1.6}, {"n":"current","v":1.7}]""",
        [
            {
                "name": f"urn:dev:ow:10e2073a0108006:{name}",
                "bn": "urn:dev:ow:10e2073a0108006:",
                "n": name,
                "u": unit,
                "v": value,
                "t": time,
                "bver": 5,
            }
            for name, unit, value, time in [
                ("voltage", "V", 120.1, 1276020076.001),
                ("current", "A", 1.2, 1276020071.001),
                ("current", "A", 1.3, 1276020072.001),
                ("current", "A", 1.4, 1276020073.001),
                ("current", "A", 1.5, 1276020074.001),
                ("current", "A", 1.6, 1276020075.001),
                ("current", "A", 1.7, 1276020076.001),
            ]
        ],
    ),
    "5.1.2, many of one": (
        """[
        {"bn":"urn:dev:ow:10e2073a01080063","bt":1.320067464e+09,"bu":"%RH","v":21.2},
        {"t":10,"v":21.3}, {"t":20,"v":21.4}, {"t":30,"v":21.4}, {"t":40,"v":21.5}, {"t":50,"v":21.5},
        {"t":60,"v":21.5}, {"t":70,"v":21.6}, {"t":80,"v":21.7}]""",
        [
            {"name": DEVICE, "bn": DEVICE, "u": "%RH", "v": value, "t": 1320067464 + 10 * i}
            for i, value in enumerate([21.2, 21.3, 21.4, 21.4, 21.5, 21.5, 21.5, 21.6, 21.7])
        ],
    ),
    "5.1.3": (
        """[
        {"bn":"urn:dev:ow:10e2073a01080063","bt":1.320067464e+09,"bu":"%RH","v":20},
        {"u":"lon","v":24.30621}, {"u":"lat","v":60.07965}, {"t":60,"v":20.3},
        {"u":"lon","t":60,"v":24.30622}, {"u":"lat","t":60,"v":60.07965}, {"t":120,"v":20.7},
        {"u":"lon","t":120,"v":24.30623}, {"u":"lat","t":120,"v":60.07966}, {"u":"%EL","t":150,"v":98},
        {"t":180,"v":21.2}, {"u":"lon","t":180,"v":24.30628}, {"u":"lat","t":180,"v":60.07967}]""",
        [
            {"name": DEVICE, "bn": DEVICE, "u": unit, "v": value, "t": 1320067464 + time}
            for unit, value, time in [
                ("%RH", 20, 0),
                ("lon", 24.30621, 0),
                ("lat", 60.07965, 0),
                ("%RH", 20.3, 60),
                ("lon", 24.30622, 60),
                ("lat", 60.07965, 60),
                ("%RH", 20.7, 120),
                ("lon", 24.30623, 120),
                ("lat", 60.07966, 120),
                ("%EL", 98, 150),
                ("%RH", 21.2, 180),
                ("lon", 24.30628, 180),
                ("lat", 60.07967, 180),
            ]
        ],
    ),
    "5.1.4": (
        """[
        {"n":"urn:dev:ow:10e2073a01080063","u":"%RH","t":1.320067464e+09,"v":20},
        {"n":"urn:dev:ow:10e2073a01080063","u":"lon","t":1.320067464e+09,"v":24.30621},
        {"n":"urn:dev:ow:10e2073a01080063","u":"lat","t":1.320067644e+09,"v":60.07967}]""",
        [
            {"name": DEVICE, "n": DEVICE, "u": unit, "v": value, "t": time}
            for unit, value, time in [
                ("%RH", 20, 1320067464),
                ("lon", 24.30621, 1320067464),
                ("lat", 60.07967, 1320067644),
            ]
        ],
    ),
    "5.1.5": (
        """[
        {"bn":"urn:dev:ow:10e2073a01080063:","n":"temp","u":"Cel","v":23.1},
        {"n":"label","vs":"Machine Room"},
        {"n":"open","vb":false}, {"n":"nfc-reader","vd":"aGkgCg"}]""",
        [
            {"name": f"{DEVICE}:temp", "bn": f"{DEVICE}:", "n": "temp", "u": "Cel", "v": 23.1},
            {"name": f"{DEVICE}:label", "bn": f"{DEVICE}:", "n": "label", "vs": "Machine Room"},
            {"name": f"{DEVICE}:open", "bn": f"{DEVICE}:", "n": "open", "vb": False},
            {"name": f"{DEVICE}:nfc-reader", "bn": f"{DEVICE}:", "n": "nfc-reader", "vd": "aGkgCg"},
        ],
    ),
    "5.1.6": (
        """[
        {"bn":"2001:db8::2/","bt":1.320078429e+09,"n":"temperature","u":"Cel","v":25.2},
        {"n":"humidity","u":"%RH","v":30},
        {"bn":"2001:db8::1/","n":"temperature","u":"Cel","v":12.3}, {"n":"humidity","u":"%RH","v":67}]""",
        [
            {"name": base + name, "bn": base, "n": name, "u": unit, "v": value, "t": 1320078429}
            for base, name, unit, value in [
                ("2001:db8::2/", "temperature", "Cel", 25.2),
                ("2001:db8::2/", "humidity", "%RH", 30),
                ("2001:db8::1/", "temperature", "Cel", 12.3),
                ("2001:db8::1/", "humidity", "%RH", 67),
            ]
        ],
    ),
    "5.1.7, a thermostat": (
        """[{"bn":"urn:dev:ow:10e2073a01080063:"},{"n":"temp","u":"Cel","v":23.1},{"n":"heat","u":"/","v":1},
        {"n":"fan","u":"/","v":0}]""",
        [
            {"name": f"{DEVICE}:{name}", "bn": f"{DEVICE}:", "n": name, "u": unit, "v": value}
            for name, unit, value in [("temp", "Cel", 23.1), ("heat", "/", 1), ("fan", "/", 0)]
        ],
    ),
    "5.1.7, lights": (
        '[{"bt":1.320078429e+09,"bu":"/","n":"2001:db8::3","v":1},{"n":"2001:db8::4","v":1}]',
        [
            {"name": name, "n": name, "u": "/", "v": 1, "t": 1320078429}
            for name in ("2001:db8::3", "2001:db8::4")
        ],
    ),
    "5.1.7, dimming": (
        """[{"bt":1.320078429e+09,"bu":"/","n":"2001:db8::3","v":0.5},{"n":"2001:db8::4","v":0.5},
        {"n":"2001:db8::3","t":0.1,"v":0},{"n":"2001:db8::4","t":0.1,"v":0}]""",
        [
            {"name": name, "n": name, "u": "/", "v": value, "t": time}
            for name, value, time in [
                ("2001:db8::3", 0.5, 1320078429),
                ("2001:db8::4", 0.5, 1320078429),
                ("2001:db8::3", 0, 1320078429.1),
                ("2001:db8::4", 0, 1320078429.1),
            ]
        ],
    ),
}

SECTION_6 = """
87 a7 21 78 1b 75 72 6e 3a 64 65 76 3a 6f 77 3a 31 30 65 32 30 37 33 61 30 31 30 38 30 30 36 3a
22 fb 41 d3 03 a1 5b 00 10 62 23 61 41 20 05 00 67 76 6f 6c 74 61 67 65 01 61 56 02 fb 40 5e 06
66 66 66 66 66 a3 00 67 63 75 72 72 65 6e 74 06 24 02 fb 3f f3 33 33 33 33 33 33 a3 00 67 63 75
72 72 65 6e 74 06 23 02 fb 3f f4 cc cc cc cc cc cd a3 00 67 63 75 72 72 65 6e 74 06 22 02 fb 3f
f6 66 66 66 66 66 66 a3 00 67 63 75 72 72 65 6e 74 06 21 02 f9 3e 00 a3 00 67 63 75 72 72 65 6e
74 06 20 02 fb 3f f9 99 99 99 99 99 9a a3 00 67 63 75 72 72 65 6e 74 06 00 02 fb 3f fb 33 33 33
33 33 33
"""


@pytest.mark.parametrize(("pack", "records"), EXAMPLES.values(), ids=EXAMPLES)
def test_examples_of_the_rfc(pack: str, records: list[dict[str, Any]]) -> None:
    """Every example of RFC 8428 §5.1 is resolved, from JSON and from CBOR."""
    assert FORM.parse(pack.encode()) == records
    parsed = json.loads(pack)
    if "vd" not in pack:
        assert FORM.parse(as_cbor(parsed)) == records


def test_the_example_in_cbor() -> None:
    """The example of RFC 8428 §6 is that of §5.1.2."""
    assert FORM.parse(bytes.fromhex(SECTION_6)) == EXAMPLES["5.1.2, with a base time"][1]


def test_data_in_cbor() -> None:
    """Octets of CBOR come out as they stand in JSON."""
    assert FORM.parse(as_cbor([{"n": "x", "vd": b"hi \n"}])) == [{"name": "x", "n": "x", "vd": "aGkgCg"}]


@pytest.mark.parametrize(
    ("pack", "records"),
    [
        ([{"n": "a", "s": 5}], [{"name": "a", "n": "a", "s": 5}]),
        ([{"n": "a", "v": 1, "s": 5, "ut": 60}], [{"name": "a", "n": "a", "v": 1, "s": 5, "ut": 60}]),
        ([{"bs": 100, "n": "a", "v": 1}], [{"name": "a", "n": "a", "v": 1, "s": 100}]),
        ([{"bs": 100, "n": "a", "s": 1.5}], [{"name": "a", "n": "a", "s": 101.5}]),
        ([{"bv": 20, "n": "a", "v": 1.5}], [{"name": "a", "n": "a", "v": 21.5}]),
        ([{"bv": 20}, {"n": "b"}], [{"name": "b", "n": "b", "v": 20}]),
        ([{"bv": 20, "n": "a", "vs": "x"}], [{"name": "a", "n": "a", "vs": "x"}]),
        ([{"n": "a", "v": 1, "u": None, "t": 0}], [{"name": "a", "n": "a", "v": 1}]),
        ([{"n": "a", "v": 1, "t": -5}], [{"name": "a", "n": "a", "v": 1, "t": "-PT5S"}]),
        ([{"bt": -10, "n": "a", "v": 1, "t": 0.5}], [{"name": "a", "n": "a", "v": 1, "t": "-PT9.5S"}]),
        ([{"n": "a", "v": 1, "t": 2**28 - 1}], [{"name": "a", "n": "a", "v": 1, "t": "PT268435455S"}]),
        ([{"n": "a", "v": 1, "t": 2**28}], [{"name": "a", "n": "a", "v": 1, "t": 2**28}]),
        ([{"bt": 2**28, "n": "a", "v": 1, "t": -1}], [{"name": "a", "n": "a", "v": 1, "t": "PT268435455S"}]),
        ([{"bver": 10, "n": "a", "v": 1}], [{"name": "a", "n": "a", "v": 1}]),
        ([{"bver": 26, "n": "a", "v": 1}], [{"name": "a", "n": "a", "v": 1, "bver": 26}]),
        ([{"v": 1}], [{"v": 1}]),
        ([{"n": "a", "v": 1, "x": "y", "bto": 10}], [{"name": "a", "n": "a", "v": 1, "x": "y", "bto": 10}]),
        ([{"bn": "a"}, {"bu": "V"}], []),
        ([], []),
    ],
)  # fmt: skip
def test_resolved(pack: list[dict[str, Any]], records: list[dict[str, Any]]) -> None:
    """Base fields, sums, relative times and fields that are not known, from JSON and from CBOR."""
    assert FORM.parse(json.dumps(pack).encode()) == records
    assert FORM.parse(as_cbor(pack)) == records


@pytest.mark.parametrize(
    ("pack", "detail"),
    [
        ({"n": "a", "v": 1}, "array"),
        ([1], "record 0"),
        ([{"n": "a", "v": 1}, {"n": "b"}], "record 1: has no value"),
        ([{"n": "a", "v": 1, "vs": "x"}], "v and vs"),
        ([{"n": "a", "v": "1"}], "v is to be a number"),
        ([{"n": "a", "v": True}], "v is to be a number"),
        ([{"n": "a", "vb": 1}], "vb is to be true or false"),
        ([{"n": 5, "v": 1}], "n is to be a text"),
        ([{"n": "a", "v": 1, "t": "now"}], "t is to be a number"),
        ([{"n": "a", "v": 1, "bver": 11}], "bver is 11"),
        ([{"n": "a", "v": 1, "bver": 0}], "bver is 0"),
        ([{"n": "a", "v": 1, "must_": 0}], "'must_'"),
        ([{"name": "a", "v": 1}], "'name'"),
    ],
)
def test_refused(pack: object, detail: str) -> None:
    """A pack that does not say one thing is refused, with the record and the field."""
    for payload in (json.dumps(pack).encode(), cbor2.dumps(pack)):
        with pytest.raises(Reject) as caught:
            FORM.parse(payload)
        assert (caught.value.reason, detail in caught.value.detail) == ("malformed_senml", True), (
            caught.value.detail
        )


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b'[{"n":"a","v":1', "malformed_json"),
        (b'[{"n":"a","n":"b","v":1}]', "duplicate_key"),
        (b"\x81\xa2\x00\x61a\x61n\x61b", "duplicate_key"),
        (b"\x81\xa1\x02", "malformed_cbor"),
        (b'[{"bt":NaN,"n":"a","v":1}]', "malformed_json"),
        (b"\xef\xbb\xbf[]", "malformed_json"),
        (b"", "malformed_json"),
    ],
)
def test_refused_below(payload: bytes, reason: str) -> None:
    """What JSON or CBOR refuses keeps its reason."""
    with pytest.raises(Reject) as caught:
        FORM.parse(payload)
    assert caught.value.reason == reason


def test_numbers_that_are_none() -> None:
    """A value that is no number costs only its field, and stands in its element as it was written."""
    payload = b'[{"bn":"d","bv":1,"n":"a","v":NaN},{"n":"b","v":1e400},{"bv":1e308,"n":"c","v":1e308}]'
    for found in (FORM.parse(payload), [FORM.parse(bytes(raw))[0] for raw in FORM.elements(payload)]):
        assert [type(each["v"]) for each in found] == [NoNumber] * 3
        assert [each["v"].text for each in found] == ["NaN", "1e400", "1e309"]
    assert FORM.parse(as_cbor([{"n": "a", "v": float("nan")}]))[0]["v"].text == "nan"


def test_names_have_an_end() -> None:
    """A base name is copied into each record: no name is longer than any device or metric is called."""
    assert FORM.parse(as_cbor([{"bn": "b" * 500, "n": "n" * 12, "v": 1}]))[0]["name"] == "b" * 500 + "n" * 12
    for pack in (
        [{"bn": "b" * 500}, {"n": "n" * 13, "v": 1}],
        [{"bn": "b" * 513}],
        [{"n": "n" * 513, "v": 1}],
    ):
        with pytest.raises(Reject) as caught:
            FORM.parse(json.dumps([{"n": "a", "v": 1}, *pack]).encode())
        assert caught.value.reason == "malformed_senml"
        assert "513 characters" in caught.value.detail


def test_packs_that_would_become_too_many_bytes_are_refused() -> None:
    """Cut, each record has the base fields that hold for it."""
    few, many = ([{"bn": "b" * 500, "bu": "u" * 20_000}, *[{"v": 1}] * count] for count in (700, 900))
    assert len(FORM.elements(json.dumps(few).encode())) == 700
    with pytest.raises(Reject) as caught:
        FORM.elements(json.dumps(many).encode())
    assert caught.value.reason == "too_many_readings"
    assert "900 records" in caught.value.detail


def test_times_from_arrival() -> None:
    """A relative time is read as that of arrival and so much."""
    arrived = datetime(2026, 11, 29, 9, tzinfo=UTC)
    for time_format in ("auto", "s", "iso"):
        read = TimeReader(time_format, "UTC", "route[0]", relative=True).read
        assert read("-PT5S", arrived, "a") == arrived - timedelta(seconds=5)
        assert read("PT0.25S", arrived, "a") == arrived + timedelta(seconds=0.25)
    with pytest.raises(Reject):
        read("-PT9999999999S", arrived, "a")


def test_readings() -> None:
    """A pack becomes readings, each at its own time, whose bytes decode to the same."""
    route = Route(
        topic="a/{device_id}", format="senml", time="t", name="n", value="v", tags=("bn",), ignore=("*.name",)
    )
    decoder = Decoder(compile_routes([route]), Limits())
    arrived = datetime(2026, 11, 29, 9, tzinfo=UTC)
    payload = b'[{"bn":"x:","n":"a","v":21.5,"t":-5},{"n":"b","v":40}]'
    found = decoder.decode(Delivered("a/d1", payload), Received.of(arrived))
    assert [
        (each.event.ts[:19], bytes(each.event.metrics)) for each in found if isinstance(each, Reading)
    ] == [
        ("2026-11-29T08:59:55", b'{"a":21.5}'),
        ("2026-11-29T09:00:00", b'{"b":40}'),
    ]
    for each in found:
        assert isinstance(each, Reading)
        (again,) = decoder.decode(Delivered("a/d1", bytes(each.raw)), Received.of(arrived))
        assert isinstance(again, Reading)
        assert (again.event.metrics, again.event.ts[:19]) == (each.event.metrics, each.event.ts[:19])


@pytest.mark.parametrize("pack", [pack for pack, _ in EXAMPLES.values()], ids=EXAMPLES)
def test_cut_and_joined(pack: str) -> None:
    """Each element is a pack of one record that says all of it, and joined they are the same pack."""
    for payload in (pack.encode(), as_cbor(json.loads(pack))):
        records, raws = FORM.parse(payload), FORM.elements(payload)
        assert [FORM.parse(bytes(raw)) for raw in raws] == [[record] for record in records]
        assert FORM.parse(FORM.join(raws)) == records
        assert FORM.write is not None
        assert FORM.parse(FORM.write(records)) == records


def test_joined_with_others() -> None:
    """A base name does not reach records that were without one."""
    joined = FORM.join([b'[{"bn":"x","n":"a","v":1}]', b'[{"n":"b","v":2,"t":-0.5}]', b'[{"bn":"x","v":3}]'])
    assert [(each["name"], each.get("t")) for each in FORM.parse(joined)] == [
        ("xa", None),
        ("b", "-PT0.5S"),
        ("x", None),
    ]


RECORDS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(("bn", "bu", "n", "u", "vs"), st.text("ab:/é", max_size=4)),
            **dict.fromkeys(
                ("bt", "bv", "bs", "v", "s", "t", "ut"), st.one_of(st.integers(-9, 2**32), st.floats())
            ),
            "vb": st.booleans(),
            "bver": st.sampled_from([5, 10, 26, 11]),
            "x": st.none(),
        },
    ),
    max_size=4,
)


@settings(max_examples=100, deadline=None)
@given(RECORDS, st.booleans(), st.lists(st.tuples(st.integers(0, 99), st.binary(max_size=2)), max_size=2))
def test_any_pack(pack: list[dict[str, Any]], binary: bool, changes: list[tuple[int, bytes]]) -> None:  # noqa: FBT001  # drawn
    """Whatever comes is records or a refusal; records can be cut and joined."""
    payload = as_cbor(pack) if binary else json.dumps(pack).encode()
    for at, put in changes:
        payload = payload[:at] + put + payload[at + 1 :]
    senml._plain.clear()
    try:
        records = FORM.parse(payload)
    except Reject:
        return
    assert text_of(FORM.parse(payload)) == text_of(records)  # by what is known of its records now
    raws = FORM.elements(payload)
    assert text_of([FORM.parse(bytes(raw))[0] for raw in raws]) == text_of(records)
    assert text_of(FORM.parse(FORM.join(raws))) == text_of(records)


def text_of(value: Any) -> str:  # noqa: ANN401  # any value
    if isinstance(value, dict):
        return str({key: text_of(each) for key, each in value.items()})
    return str([*map(text_of, value)]) if isinstance(value, list) else repr(type(value) is NoNumber or value)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
def test_garbage(payload: bytes) -> None:
    """Bytes that mean nothing are refused, never anything else."""
    with contextlib.suppress(Reject):
        FORM.parse(payload)


USUAL = st.lists(
    st.fixed_dictionaries(
        {"n": st.sampled_from(["a", "b", "c", "", "x" * 300])},
        optional={
            "bn": st.sampled_from(["d:", "e:", "", "x" * 300]),
            "bt": st.sampled_from([1_795_424_400, 1_795_424_400.25, 5, 0, 1_795_424_400.12345678]),
            "t": st.sampled_from([-5, 0, 1_795_424_401]),
            "u": st.sampled_from(["V", "A", ""]),
            "bu": st.sampled_from(["W", ""]),
            "v": st.sampled_from([1, 2.5, -1]),
            "vs": st.sampled_from(["on", ""]),
            "vb": st.booleans(),
            "s": st.just(7),
            "bs": st.just(3),
            "bv": st.just(2),
            "ut": st.just(60),
            "bver": st.sampled_from([10, 5]),
        },
    ),
    min_size=1,
    max_size=3,
)
PLAIN = st.lists(
    st.fixed_dictionaries(
        {"n": st.sampled_from(["a", "b", "c"]), "v": st.sampled_from([1, 2.5, -1])},
        optional={"u": st.sampled_from(["V", "A", ""])},
    ),
    min_size=1,
    max_size=3,
).map(lambda pack: [{"bn": "d:", "bt": 1_795_424_400, **pack[0]}, *pack[1:]])
WORDS: dict[str, Any] = {"name": "n | name", "value": "v | vb | vs | vd", "tags": ("bn",), "time": "t"}


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.one_of(USUAL, PLAIN), min_size=1, max_size=3),
    st.sampled_from(
        [{"device": "", "key": ""}, {"device": "bn", "tags": ()}, {"name": "name"}, {"on_bad_field": "drop"}]
    ),
)
def test_what_is_known_of_packs(packs: list[list[dict[str, Any]]], words: dict[str, Any]) -> None:
    """A pack of a shape that is known comes to what it comes to when all of it is resolved."""
    topic = "senml" if words.get("device") else "senml/{device_id}"
    route = Route(topic=topic, format="senml", **{**WORDS, **words})
    decoders = [Decoder(compile_routes([route]), Limits()) for _ in range(2)]
    decoders[1]._readers[0].shaper.known = nothing_known  # type: ignore[attr-defined]  # it has one
    for pack in packs * 3:
        payload = Delivered(topic.format(device_id="d"), json.dumps(pack).encode())
        found = [
            [
                (each.event.device_id, each.event.ts, bytes(each.event.metrics), each.event.tags)
                if isinstance(each, Reading)
                else (each.reason, each.error)
                for each in decoder.decode(payload, Received.of(NOW))
            ]
            for decoder in decoders
        ]
        assert found[0] == found[1]
    assert decoders[0].drops.counts == decoders[1].drops.counts
