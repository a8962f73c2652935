"""The door: who is let in, and what becomes of what is not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from gateway.decode import Decoder, Limits, Reading, Received, Rejection
from gateway.decode.routes import compile_routes
from gateway.door import Door, mend, refusal
from runtime.settings import Route
from tests.support.write_side import NOW, Delivered

if TYPE_CHECKING:
    from gateway.door import Refusal, State

MANY = Route(topic="many", device="device_id")


def let_in(door: Door, *messages: tuple[str, bytes]) -> list[tuple[str, str]]:
    """What comes of messages: (device, "") of a reading, (device or "", reason) of a letter."""
    decoder = Decoder(compile_routes([Route(), MANY]), Limits())
    received = Received.of(NOW)
    return [
        (item.event.device_id, "") if isinstance(item, Reading) else (item.device_id or "", item.reason)
        for topic, payload in messages
        for item in door.guarding(decoder.decode)(Delivered(topic, payload), received)
    ]


def letters(door: Door, topic: str, payload: bytes) -> list[Rejection]:
    decoder = Decoder(compile_routes([Route(), MANY]), Limits())
    items = door.guarding(decoder.decode)(Delivered(topic, payload), Received.of(NOW))
    return [item for item in items if isinstance(item, Rejection)]


def knowing(*, holds: bool, most: int = 100, **states: State) -> Door:
    """A door that knows these devices."""
    door = Door(holds=holds, most=most)
    new = door.begin()
    for device_id, state in states.items():
        new.take(device_id, state)
    door.replace(new)
    return door


def of(*ids: str) -> bytes:
    return json.dumps([{"device_id": id_, "id": f"{n}", "x": n} for n, id_ in enumerate(ids)]).encode()


@pytest.mark.parametrize(
    ("state", "holds", "why"),
    [
        ("active", False, None),
        ("active", True, None),
        ("unknown", False, None),
        ("unknown", True, "unknown_device"),
        (None, False, None),
        (None, True, "unknown_device"),
        ("blocked", False, "device_blocked"),
        ("blocked", True, "device_blocked"),
    ],
)
def test_who_is_refused(state: State | None, holds: bool, why: Refusal | None) -> None:  # noqa: FBT001  # a table
    """A blocked device always, one that is not active when those are held, and nobody else."""
    assert refusal(state, holds=holds) == why


def test_a_door_that_refuses_nobody_is_not_there() -> None:
    """Decoding is the very same call, so that a message costs what it cost."""
    decoder = Decoder(compile_routes([Route()]), Limits())
    assert Door().guarding(decoder.decode) == decoder.decode
    assert knowing(holds=False, a1="active").guarding(decoder.decode) == decoder.decode


def test_each_is_let_in_or_not_by_what_it_is() -> None:
    """With hold those that are active are let in, and of the others each message is one letter."""
    door = knowing(holds=True, a1="active", b1="blocked")
    sent = [(f"devices/{id_}/telemetry", b'{"id":"1","x":1}') for id_ in ("a1", "b1", "c1")]
    assert let_in(door, *sent) == [("a1", ""), ("b1", "device_blocked"), ("c1", "unknown_device")]


def test_who_becomes_known_is_let_in_and_who_is_blocked_is_not() -> None:
    """What is taken holds from the next message on."""
    door, topic = knowing(holds=True), "devices/a1/telemetry"
    seen = []
    states: list[State] = ["unknown", "active", "blocked", "active"]
    for state in states:
        door.take("a1", state)
        seen += let_in(door, (topic, b'{"id":"1","x":1}'))
    assert [why for _, why in seen] == ["unknown_device", "", "device_blocked", ""]


def test_a_letter_holds_the_message_as_it_came() -> None:
    """However many readings of one device it is: one letter, all of the bytes, nothing named beside."""
    payload = of("a1", "a1", "a1")
    (letter,) = letters(knowing(holds=True), "many", payload)
    assert (letter.payload, letter.device_id, letter.stands_for) == (payload, "a1", ())
    assert "gateway devices set a1" in letter.error


def test_of_a_message_of_several_devices_one_letter_a_reason_says_for_whom() -> None:
    """Those that are let in are readings; the letters name whom they stand for, each a device once."""
    door = knowing(holds=True, a1="active", b1="blocked")
    payload = of("a1", "c1", "b1", "c2", "c1")
    assert let_in(door, ("many", payload)) == [("a1", ""), ("", "unknown_device"), ("b1", "device_blocked")]
    held, blocked = letters(door, "many", payload)
    assert held.stands_for == ("c1", "c2")
    assert blocked.stands_for == ("b1",)
    assert held.payload == blocked.payload == payload


def test_a_bad_element_stays_a_letter_of_its_own() -> None:
    """What cannot be decoded is refused as ever, beside the letter of what could."""
    payload = b'[{"device_id":"c1","id":"1","x":1},{"device_id":"c1","id":"2","ts":"nonsense","x":2}]'
    bad, held = letters(knowing(holds=True), "many", payload)
    assert (bad.reason, held.reason, held.stands_for) == ("invalid_time", "unknown_device", ("c1",))


def test_each_device_is_told_of_once_until_it_was_let_in() -> None:
    """The log has it once, however much comes, and again when it is refused anew."""
    door, topic = knowing(holds=True), "devices/a1/telemetry"
    let_in(door, *[(topic, b'{"id":"1","x":1}')] * 3)
    assert door.take_news(10) == [("a1", "unknown_device", topic)]
    door.take("a1", "active")
    door.take("a1", "blocked")
    let_in(door, (topic, b'{"id":"1","x":1}'))
    assert door.take_news(10) == [("a1", "device_blocked", topic)]
    assert door.take_news(10) == []


def test_as_long_as_nothing_is_known_everything_is_let_in() -> None:
    """A message is rather stored than held."""
    assert let_in(Door(holds=True), ("devices/a1/telemetry", b'{"id":"1","x":1}')) == [("a1", "")]


def test_a_registry_that_has_no_room_holds_nobody() -> None:
    """Who is not in mind may be in the registry, so its messages are stored; who is blocked is, as before."""
    door = knowing(holds=True, most=3, a1="active", b1="blocked")
    sent = [(f"devices/{id_}/telemetry", b'{"id":"1","x":1}') for id_ in ("b1", "c1")]
    assert [why for _, why in let_in(door, *sent)] == ["device_blocked", "unknown_device"]
    door.take("a2", "active")
    door.take("a3", "active")
    assert [why for _, why in let_in(door, *sent)] == ["device_blocked", ""]
    assert len(door) == 3


def test_what_hostile_devices_are_called_is_quoted() -> None:
    """An id from a stranger is one word of the command that a letter proposes."""
    (letter,) = letters(knowing(holds=True), "many", of("x; rm -rf '~'"))
    assert """gateway devices set 'x; rm -rf '"'"'~'"'"''`""" in letter.error


@pytest.mark.parametrize(
    ("device_id", "command"),
    [
        ("a1", "gateway devices set a1"),
        ("a 'b'; rm -rf x", "gateway devices set 'a '\"'\"'b'\"'\"'; rm -rf x'"),
        ("--state=blocked", "gateway devices set -- --state=blocked"),
    ],
)
def test_a_command_that_mends_is_about_its_device(device_id: str, command: str) -> None:
    """Whatever a stranger calls itself, who copies the command adds that and does nothing else."""
    assert mend("unknown_device", [device_id]) == command
