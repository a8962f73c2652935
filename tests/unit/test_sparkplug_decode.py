"""Messages of Sparkplug without a session: of dead letters, and of `gateway decode`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from gateway.decode import Decoder, Limits, Reading, Received, Rejection
from gateway.decode.dialects import complete_routes
from gateway.decode.examples import Message as Delivered
from gateway.decode.routes import compile_routes
from gateway.explain.explanation import explain
from gateway.sparkplug.changes import Row
from gateway.sparkplug.nodes.births import Birth, Names
from gateway.sparkplug.nodes.ordered import Ordered
from gateway.sparkplug.replayed import NamingDecoder
from gateway.sparkplug.topics import address_of
from runtime.settings import load
from tests.support.sparkplug import DOUBLE, INT16, TEMPLATE, bd_seq, metric, payload
from tests.support.write_side import NOW

if TYPE_CHECKING:
    from gateway.decode.routes import CompiledRoute

TOPIC = "spBv1.0/north/DDATA/line-1/press"
SENT = 1_795_424_400_000
BIRTH = payload(
    [metric("Speed", 0.0, alias=1, datatype=DOUBLE), metric("Offset", 0, alias=2, datatype=INT16)],
    ts=SENT,
    seq=1,
)


@pytest.fixture(scope="module")
def routes() -> list[CompiledRoute]:
    """Those of the dialect."""
    return compile_routes(load(None, {"EDGE_ROUTE": '[{"dialect": "sparkplug"}]'}, complete_routes).route)


def data(*metrics: bytes) -> bytes:
    return payload(metrics or [metric(None, 1475.0, alias=1)], ts=SENT + 5, seq=9)


def row(*births: Birth) -> Row:
    """A device as it is stored, with these births."""
    address = address_of(TOPIC)
    assert address is not None
    node = Ordered(address.key, "", reorder_s=2.0)
    node.entities["press"] = type(node.entities[""])(Names(births))
    return Row.of(node, "press", address)


def at(second: int) -> str:
    return f"2026-11-23T09:00:{second:02d}.000000Z"


def test_a_birth_makes_it_readable(routes: list[CompiledRoute]) -> None:
    """With the birth beside it a message by aliases becomes what a gateway makes of it."""
    offset = metric(None, 0xFFF4, alias=2)
    found = explain(routes, Limits(), TOPIC, data(metric(None, 7.5, alias=1), offset), NOW, birth=BIRTH)
    (reading,) = found.readings
    assert msgspec.json.decode(reading.event.metrics) == {"Speed": 7.5, "Offset": -12}
    assert reading.event.device_id == "line-1/press"


RPM, AXIS, WEAR = 6, 7, 8
MOTOR = [
    metric("rpm", 900, alias=RPM, datatype=INT16),
    metric("axis", [metric("wear", 0, alias=WEAR, datatype=INT16)], alias=AXIS, datatype=TEMPLATE),
]


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ([metric("motor", [metric(None, 0xFFF4, alias=RPM)])], {"motor.rpm": -12}),
        ([metric(None, [metric(None, 910, alias=RPM)], alias=5)], {"motor.rpm": 910}),
        ([metric("motor", [metric("rpm", 0xFFF4)])], {"motor.rpm": -12}),
        (
            [metric(None, [metric(None, [metric(None, 0xFFFF, alias=WEAR)], alias=AXIS)], alias=5)],
            {"motor.axis.wear": -1},
        ),
        ([metric(None, 5, alias=WEAR)], {"motor.axis.wear": 5}),
        ([metric("other", [metric(None, 5, alias=RPM)])], None),
        ([metric("motor", [metric(None, 5, alias=99)])], None),
        ([metric("motor", [metric("rpm", 5), metric(None, 5, alias=RPM)])], None),
    ],
)
def test_members_of_templates(
    routes: list[CompiledRoute], sent: list[bytes], expected: dict[str, int] | None
) -> None:
    """They have aliases and datatypes by the birth as metrics have, within templates in templates too."""
    birth = payload([metric("motor", MOTOR, alias=5, datatype=TEMPLATE)], ts=SENT, seq=1)
    found = explain(routes, Limits(), TOPIC, data(*sent), NOW, birth=birth)
    if expected is None:
        assert [letter.reason for letter in found.letters] in (["unknown_alias"], ["duplicate_key"])
        return
    (reading,) = found.readings
    metrics = msgspec.json.decode(reading.event.metrics)
    assert {name: each for name, each in metrics.items() if "template" not in name} == expected


def test_without_it_says_why(routes: list[CompiledRoute]) -> None:
    """Without one it is a dead letter, whose text says how to give one."""
    (letter,) = explain(routes, Limits(), TOPIC, data(), NOW).letters
    assert letter.reason == "not_born"
    assert "alias 1 has no name, and no DBIRTH of device 'press' is known" in letter.error
    assert "--birth FILE" in letter.error


def test_a_birth_of_nothing(routes: list[CompiledRoute]) -> None:
    """A birth for a message that is no Sparkplug is a mistake."""
    with pytest.raises(ValueError, match="no topic of Sparkplug"):
        explain(routes, Limits(), "devices/a1/telemetry", b"{}", NOW, birth=BIRTH)


SPEED = [("Speed", 1, 10)]
FORCE = [("Force", 1, 10)]
BOTH = [("Speed", 1, 10), ("Force", 2, 10)]


@pytest.mark.parametrize(
    ("births", "name"),
    [
        ([], "not_born"),
        ([Birth(at(10), at(5), SPEED)], "Speed"),  # it came while nothing had ended the session
        ([Birth(at(10), at(10), SPEED)], "unknown_alias"),  # a session may have ended before it
        ([Birth(at(1), at(1), SPEED)], "Speed"),  # in force, and nothing was missed
        ([Birth(at(1), at(1), SPEED, until=at(5))], "unknown_alias"),  # something may have been
        ([Birth(at(1), at(1), SPEED, until=at(5)), Birth(at(10), at(10), BOTH)], "Speed"),  # both say so
        ([Birth(at(1), at(1), SPEED, until=at(5)), Birth(at(10), at(5), FORCE)], "unknown_alias"),
        ([Birth(at(1), at(1), SPEED, until=at(9)), Birth(at(10), at(10), FORCE)], "Speed"),
        ([Birth(at(1), at(1), SPEED, sent=SENT + 99), Birth(at(9), at(9), FORCE)], "unknown_alias"),
    ],
)
def test_which_birth_names_a_letter(routes: list[CompiledRoute], births: list[Birth], name: str) -> None:
    """What came at 8 s is named by the birth that was certainly in force, by two that agree, or by none."""
    rows = [row(*births)] if births else []
    decoder = NamingDecoder(Decoder(routes, Limits()), rows)
    received = Received.of(NOW.replace(second=8))
    (item,) = decoder.decode(Delivered(TOPIC, data()), received)
    if isinstance(item, Rejection):
        assert item.reason == name
    else:
        assert isinstance(item, Reading)
        assert list(msgspec.json.decode(item.event.metrics)) == [name]


def test_rows_are_what_they_were(routes: list[CompiledRoute]) -> None:
    """Whatever a name has in it comes back from a row as it was."""
    assert routes
    names = [('a"\\\x00\n', 2**64 - 1, 10), ("ä€😀", None, 0)]
    births = [Birth(at(1), at(1), SPEED, 5, at(2)), Birth(at(3), at(2), names)]
    back = row(*births).names.births
    told = [(b.born_at, b.since, b.until, b.sent, [tuple(m) for m in b.metrics]) for b in back]
    assert told == [(b.born_at, b.since, b.until, b.sent, list(b.metrics)) for b in births]


def test_births_read_by_themselves(routes: list[CompiledRoute]) -> None:
    """A birth needs no other one: its values are its own."""
    decoder = NamingDecoder(Decoder(routes, Limits()))
    message = payload([bd_seq(0), metric("T", 1.5, alias=1, datatype=DOUBLE)], ts=SENT, seq=0)
    (reading,) = decoder.decode(Delivered("spBv1.0/north/NBIRTH/line-1", message), Received.of(NOW))
    assert isinstance(reading, Reading)
    assert msgspec.json.decode(reading.event.metrics) == {"T": 1.5}


def test_a_birth_of_thousands_of_tags(routes: list[CompiledRoute]) -> None:
    """What a gateway stores of a birth is what is told of it, and what its letter becomes again."""
    tags = [metric(f"Line/Tag {i}", i, alias=i, datatype=INT16, ts=SENT + i) for i in range(3_000)]
    topic = "spBv1.0/north/NBIRTH/line-1"
    told = explain(routes, Limits(), topic, payload([bd_seq(0), *tags], ts=SENT, seq=0), at=NOW)
    assert (len(told.readings), told.letters) == (3_000, [])
