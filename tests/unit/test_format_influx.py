"""Line protocol: the examples of its documents, escapes, times, and what a bad line costs."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decode import Decoder, Limits, Reading, Received
from gateway.decode.fields import NoNumber, Refused
from gateway.decode.formats import format_of, influx
from gateway.decode.routes import compile_routes
from runtime.errors import Reject
from runtime.settings import Route
from runtime.settings.route import Influx
from tests.support.write_side import NOW, Delivered

if TYPE_CHECKING:
    from gateway.decode.formats import Format


def form(precision: str = "auto") -> Format:
    """The format of a route with times of such a precision."""
    influx = Influx(precision=precision)  # type: ignore[arg-type]  # one of five words
    return format_of(Route(format="influx", influx=influx), "route[0]")


FORM = form()


def plain(value: object) -> object:
    """A value with what is refused of it as a tuple, so that it can be compared."""
    if isinstance(value, Refused):
        return (value.reason, value.detail)
    if isinstance(value, NoNumber):
        return (value.reason, value.text)
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list) else value


def point(
    measurement: str, tags: dict[str, str], fields: dict[str, Any], at: int | None = None
) -> dict[str, Any]:
    """The value of a line."""
    return {"measurement": measurement, "tags": tags, "fields": fields, "time": at}


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (
            'myMeasurement,tag1=value1,tag2=value2 fieldKey="fieldValue" 1556813561098000000',
            point(
                "myMeasurement",
                {"tag1": "value1", "tag2": "value2"},
                {"fieldKey": "fieldValue"},
                1556813561098000000,
            ),
        ),
        ("m f=1.0", point("m", {}, {"f": 1.0})),
        ("m f=1", point("m", {}, {"f": 1.0})),
        ("m f=-1.234456e+78", point("m", {}, {"f": -1.234456e78})),
        ("m f=12485903i", point("m", {}, {"f": 12485903})),
        ("m f=-12485903i", point("m", {}, {"f": -12485903})),
        ("m f=12485903u", point("m", {}, {"f": 12485903})),
        ('m f="this is a string"', point("m", {}, {"f": "this is a string"})),
        (r'my\ Measurement f="string value"', point("my Measurement", {}, {"f": "string value"})),
        (r'm f="\"string\" within a string"', point("m", {}, {"f": '"string" within a string'})),
        (
            r"m,tag\ Key1=tag\ Value1,tag\ Key2=tag\ Value2 f=100",
            point("m", {"tag Key1": "tag Value1", "tag Key2": "tag Value2"}, {"f": 100.0}),
        ),
        (
            'm,tagKey=🍭 f="Launch 🚀" 1556813561098000000',
            point("m", {"tagKey": "🍭"}, {"f": "Launch 🚀"}, 1556813561098000000),
        ),
        (
            "weather,location=us-midwest temperature=82,humidity=71 1465839830100400200",
            point(
                "weather",
                {"location": "us-midwest"},
                {"temperature": 82.0, "humidity": 71.0},
                1465839830100400200,
            ),
        ),
    ],
)
def test_the_documents_examples(line: str, value: object) -> None:
    """What the reference of the protocol shows is what comes out, of the right types."""
    found = FORM.parse(line.encode())
    assert found == value
    assert list(map(type, found["fields"].values())) == [type(each) for each in value["fields"].values()]  # type: ignore[index]


@pytest.mark.parametrize("word", ["t", "T", "true", "True", "TRUE", "f", "F", "false", "False", "FALSE"])
def test_booleans(word: str) -> None:
    """All the spellings of the reference."""
    assert FORM.parse(f"m f={word}".encode())["fields"] == {"f": word[0] in "tT"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.", 1.0),
        (".5", 0.5),
        ("-.5e1", -5.0),
        ("1E-2", 0.01),
        ("007i", 7),
        ("-9223372036854775808i", -(2**63)),
        ("9223372036854775807i", 2**63 - 1),
        ("18446744073709551615u", 2**64 - 1),
        ("0009223372036854775807i", 2**63 - 1),
        ("-0009223372036854775808i", -(2**63)),
        ("9223372036854775808i", ("number_out_of_range", "9223372036854775808i")),
        ("18446744073709551616u", ("number_out_of_range", "18446744073709551616u")),
        ("9" * 5000 + "i", ("number_out_of_range", "9" * 5000 + "i")),
        ("1e400", ("number_out_of_range", "1e400")),
        ("NaN", ("malformed_influx", "NaN")),
        ("-inf", ("malformed_influx", "-inf")),
        ('""', ""),
        ('"a,b=c d#"', "a,b=c d#"),
        ('"true"', "true"),
    ],
)
def test_fields(text: str, value: object) -> None:
    """Numbers of the grammar within their ranges; what is beyond them spoils its field alone."""
    assert plain(FORM.parse(f"m a=1i,f={text},z=2i".encode())["fields"]) == {"a": 1, "f": value, "z": 2}


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (r'm f="a\b"', point("m", {}, {"f": "a\\b"})),
        (r'm f="a\\b"', point("m", {}, {"f": "a\\b"})),
        (r'm f="a\\\b"', point("m", {}, {"f": "a\\\\b"})),
        (r'm f="\\\\"', point("m", {}, {"f": "\\\\"})),
        (r'm f="\\\""', point("m", {}, {"f": '\\"'})),
        (r'm f="\n\t"', point("m", {}, {"f": "\\n\\t"})),
        (r"a\,b\=c,t\,u=v\,w,x\=y=z\= f\ g=1,h\,i=2,j\=k=3 4",
         point("a,b\\=c", {"t,u": "v,w", "x=y": "z="}, {"f g": 1.0, "h,i": 2.0, "j=k": 3.0}, 4_000_000_000)),
        (r"m=n,t=\a\\,b f=1", point("m=n", {"t": r"\a\,b"}, {"f": 1.0})),
        (r'm"n,"t"="v" "f"=1', point('m"n', {'"t"': '"v"'}, {'"f"': 1.0})),
    ],
)  # fmt: skip
def test_escapes(line: str, value: object) -> None:
    """A backslash counts before what it can free in that place, and is itself before all else."""
    assert FORM.parse(line.encode()) == value


@pytest.mark.parametrize(
    ("precision", "text", "nanoseconds"),
    [
        ("auto", "1763888400", 1763888400 * 10**9),
        ("auto", "1763888400250", 1763888400250 * 10**6),
        ("auto", "1763888400250125", 1763888400250125 * 10**3),
        ("auto", "1763888400250125001", 1763888400250125001),
        ("ns", "1763888400", 1763888400),
        ("us", "1763888400250125", 1763888400250125000),
        ("ms", "1763888400250", 1763888400250 * 10**6),
        ("s", "1763888400", 1763888400 * 10**9),
        ("s", "-5", -5 * 10**9),
    ],
)
def test_times(precision: str, text: str, nanoseconds: int) -> None:
    """A time is given in nanoseconds, of what the route says it counts or what its size tells."""
    assert form(precision).parse(f"m f=1 {text}".encode())["time"] == nanoseconds


@pytest.mark.parametrize(
    ("payload", "values"),
    [
        (b"m f=1\nm f=2\r\n\n  m f=3  \n", [{"f": 1.0}, {"f": 2.0}, {"f": 3.0}]),
        (b"# a comment\nm f=1\n  # another\nm f=2\n#m f=3", [{"f": 1.0}, {"f": 2.0}]),
        (b"m   f=1   1\nm f=2", [{"f": 1.0}, {"f": 2.0}]),
        (b'm f="a\nb",g=1\nm f=2', [{"f": "a\nb", "g": 1.0}, {"f": 2.0}]),
        (b'm f="a\r\n\\"\n#b" 1\nm f=2', [{"f": 'a\r\n"\n#b'}, {"f": 2.0}]),
        (b'm f="a\n",g="b\nc"\nm f=2', [{"f": "a\n", "g": "b\nc"}, {"f": 2.0}]),
        (b"x f=1\nx f=2", [{"f": 1.0}, {"f": 2.0}]),
    ],
)
def test_lines(payload: bytes, values: list[object]) -> None:
    """Blank lines and comments are none; a string may go on in the next line."""
    assert [each["fields"] for each in FORM.parse(payload)] == values


@pytest.mark.parametrize(
    ("payload", "reason", "said"),
    [
        (b"\n# nothing\n", "empty_message", "no line"),
        (b"m", "malformed_influx", "line 1: at character 2 there is the end, expected a field"),
        (b"m,t=v", "malformed_influx", "expected a field"),
        (b",t=v f=1", "malformed_influx", "at character 1 there is ',t=v f=1', expected a measurement"),
        (b"m,t= f=1", "malformed_influx", "at character 3 there is 't= f=1', expected a tag"),
        (b"m,=v f=1", "malformed_influx", "expected a tag"),
        (b"m,t=a=b f=1", "malformed_influx", "expected a tag"),
        (b"m, f=1", "malformed_influx", "expected a tag"),
        (b"m f=", "malformed_influx", "expected a field"),
        (b"m f=1,", "malformed_influx", "expected a field"),
        (b"m f=1,,g=2", "malformed_influx", "expected a field"),
        (b"m =1", "malformed_influx", "expected a field"),
        (b"m f=1.2.3", "malformed_influx", "expected a field"),
        (b"m f=1ix", "malformed_influx", "expected a field"),
        (b"m f=-1u", "malformed_influx", "expected a field"),
        (b"m f=0x1F", "malformed_influx", "expected a field"),
        (b"m f=text", "malformed_influx", "'text' is no value of a field; a string needs quotation marks"),
        (b"m f='a'", "malformed_influx", "expected a field"),
        (b'm f="a"b', "malformed_influx", "expected a field"),
        (b'm f="a', "malformed_influx", "at character 3 there is 'f=\"a', expected a field whose string"),
        (b"m f=1 g=2", "malformed_influx", "at character 7 there is 'g=2', expected a time"),
        (b"m f=1 1.5", "malformed_influx", "expected a time"),
        (b"m f=1 1 2", "malformed_influx", "expected a time"),
        (b"m f=1 " + b"9" * 5000, "malformed_influx", "expected a time"),
        (b"m f=1 9223372036854775808", "number_out_of_range", "64 bits"),
        (b"\tm f=1", "malformed_influx", "expected a measurement"),
        (b"m,a=1,a=2 f=1", "duplicate_key", "tag 'a'"),
        (b"m f=1,f=2", "duplicate_key", "field 'f'"),
        (b"m f\xff=1", "not_utf8", "line 1"),
        (b'{"m":1}', "malformed_influx", "expected a field"),
    ],
)
def test_refused(payload: bytes, reason: str, said: str) -> None:
    """What the grammar does not have is refused, with its place and what should stand there."""
    with pytest.raises(Reject) as refused:
        FORM.parse(payload)
    assert refused.value.reason == reason
    assert said in refused.value.detail


def test_readings() -> None:
    """Lines become readings; one that is none, or has a string without an end, is a letter of its own."""
    route = Route(
        topic="telegraf/{device_id}",
        format="influx",
        device="tags.host",
        key="",
        time_format="ns",
        region="tags.region",
        metrics="fields",
        tags=("measurement", "tags.cpu"),
    )
    payload = (
        b"cpu,cpu=cpu0,host=a1,region=north usage=1.5,n=2i 1763888400250000000\n"
        b"cpu,cpu=cpu1,host=a1 usage=\n"
        b'cpu,cpu=cpu2,host=a1 note="open 1763888400250000000\n'
        b'cpu,cpu=cpu3,host=a1 up=true,note="ok" 1763888401250000000'
    )
    items = Decoder(compile_routes([route]), Limits()).decode(
        Delivered("telegraf/a1", payload), Received.of(NOW)
    )
    lines = payload.split(b"\n")
    (first, last) = (each for each in items if isinstance(each, Reading))
    assert json.loads(bytes(first.event.metrics)) == {"usage": 1.5, "n": 2}
    assert (first.event.ts, first.event.region) == ("2025-11-23T09:00:00.250000Z", "north")
    assert first.event.tags == {"measurement": "cpu", "cpu": "cpu0"}
    assert json.loads(bytes(last.event.metrics)) == {"up": True, "note": "ok"}
    assert [each.raw for each in (first, last)] == [lines[0], lines[3]]
    letters = [each for each in items if not isinstance(each, Reading)]
    assert [(each.reason, each.payload) for each in letters] == [
        ("malformed_influx", lines[1]),
        ("malformed_influx", lines[2]),
    ]


def test_a_measurement_that_begins_like_an_archive() -> None:
    """`x` and a space are the first two bytes of a zlib archive with a dictionary, which nobody sends."""
    route = Route(format="influx", metrics="fields", key="")
    (item,) = Decoder(compile_routes([route]), Limits()).decode(
        Delivered("devices/a1/telemetry", b"x f=1"), Received.of(NOW)
    )
    assert isinstance(item, Reading)


@pytest.mark.parametrize(
    "piece",
    [
        b'm f="\n',
        b'm f="a\n"\n',
        b'm f="\\"\n',
        b'm f="\nm g=1\n',
        b"m,",
        b"f=1,",
        b"\\",
        b'm f="",',
        b"x\n",
        b'",g="\n',
    ],
)
def test_rubbish_costs_what_the_payload_does(piece: bytes) -> None:
    """Strings that are never closed are gone over once or twice, not again for each line."""
    began = time.process_time()
    for payload in (piece * (15_000 // len(piece)), b"m f=" + piece * (15_000 // len(piece))):
        with contextlib.suppress(Reject):
            FORM.parse(payload)
    assert time.process_time() - began < 10


NAMES = st.text(alphabet='ab ,="é#', min_size=1, max_size=5)
VALUES = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(alphabet='ab ,="\\\n\ré', max_size=6),
)
POINTS = st.builds(
    point,
    NAMES.map(lambda name: f"m{name}"),
    st.dictionaries(NAMES, NAMES, max_size=3),
    st.dictionaries(NAMES, VALUES, min_size=1, max_size=3),
    st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
)


def written(value: dict[str, Any]) -> str:
    """A line that says this."""

    def name(text: str) -> str:
        return text.replace(",", "\\,").replace("=", "\\=").replace(" ", "\\ ")

    def field(each: object) -> str:
        if isinstance(each, str):
            text = each.replace("\\", "\\\\").replace('"', '\\"')
            return f'"{text}"'
        return f"{each}i" if type(each) is int else str(each)

    measurement = value["measurement"].replace(",", "\\,").replace(" ", "\\ ")
    tags = "".join(f",{name(tag)}={name(text)}" for tag, text in value["tags"].items())
    fields = ",".join(f"{name(one)}={field(each)}" for one, each in value["fields"].items())
    at = "" if value["time"] is None else f" {value['time']}"
    return f"{measurement}{tags} {fields}{at}"


@settings(max_examples=60, deadline=None)
@given(st.lists(POINTS, min_size=2, max_size=4), st.sampled_from(["\n", "\r\n", "\n#\n\n"]))
def test_what_is_written_comes_back(points: list[dict[str, Any]], between: str) -> None:
    """Lines come back as they were meant; each element is one of them, and joined they are all."""
    by = form("ns")
    payload = between.join(map(written, points)).encode()
    assert by.parse(payload) == points
    cut = by.elements(payload)
    assert [by.parse(bytes(each)) for each in cut] == points
    assert by.parse(by.join(cut)) == points


@settings(max_examples=100, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=40),
        st.text(alphabet='mf=,"\\ 1iu\n\rt#-.é', max_size=40).map(str.encode),
        st.lists(
            st.sampled_from(['m f="', 'a"', " 1", "m f=1i", ",t=v", "\n", "\\", '"', "m,t=v f=t"]), max_size=9
        ).map(lambda pieces: "".join(pieces).encode()),
    )
)
def test_whatever_comes(payload: bytes) -> None:
    """Any bytes are read or refused; each element of a list is a payload that is read or refused alike."""
    with contextlib.suppress(Reject):
        value = FORM.parse(payload)
        if isinstance(value, list):
            for each, raw in zip(value, FORM.elements(payload), strict=True):
                if isinstance(each, Refused):
                    with pytest.raises(Reject) as refused:
                        FORM.parse(bytes(raw))
                    assert refused.value.reason == each.reason
                else:
                    assert plain(FORM.parse(bytes(raw))) == plain(each)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["m", ",t=v", " ", " f=1", ",g=2i", ",f=-1.5e3", "=", "1", ",", "#", '"', "\\", "é", "\r"]
        ),
        max_size=7,
    ).map("".join),
    st.sampled_from(["", " 17", " 1795424400000000000", " 9223372036854775808"]),
    st.sampled_from([None, 1, 10**9]),
)
def test_usual_lines_are_read_as_any(line: str, at: str, unit: int | None) -> None:
    """What is read at one glance is what it is when it is read piece by piece."""
    usual = influx._usual(line + at, unit)
    if usual is not None:
        assert repr(usual) == repr(influx.read_slowly((line + at).rstrip(" \r"), unit))


@pytest.mark.parametrize("line", ["m f=1", "m,a=b,c=d f=1.5,g=-2i 1795424400", "a.b f=1e5 1\r\n", "é f=1"])
def test_usual_lines(line: str) -> None:
    """Lines without escapes and strings are read at one glance."""
    assert influx._usual(line, None) is not None


@pytest.mark.parametrize(
    "line",
    ["m,a=1,a=2 f=1", "m f=1,f=2", 'm f="1"', "m f=t", "m f=1 9223372036854775808", "#m f=1", "m f=1."],
)
def test_others_are_read_piece_by_piece(line: str) -> None:
    """So it is said what is wrong with them, or what else they are."""
    assert influx._usual(line, None) is None
