"""Selecting and showing dead letters, and what a page of them comes to: the pure parts."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from gateway.dead_letters import render
from gateway.dead_letters.letters import Letter
from gateway.dead_letters.selection import parse_when, topic_pattern
from gateway.dead_letters.tally import Tally
from gateway.dead_letters.verdicts import Kept, decode, judge
from gateway.decode import Decoder, Limits
from gateway.decode.routes import compile_routes
from gateway.transaction import Claimed
from runtime.settings import Route
from runtime.terminal import safe

NOW = datetime(2026, 11, 23, 9, 0, 0, tzinfo=UTC)
LETTER = Letter(7, NOW, "conflict", None, "a/\x1b[31m/é", 3, "bad\n\x00", None)


@pytest.mark.parametrize(
    ("topic_filter", "matches", "others"),
    [
        ("a/b", ["a/b"], ["a/b/c", "xa/b", "a/bc", "a.b"]),
        ("a/+/c", ["a/b/c", "a//c"], ["a/b/d", "a/b/b/c"]),
        ("a/#", ["a", "a/", "a/b/c"], ["b", "ab"]),
        ("#", ["", "a", "a/b\nc"], []),
        ("+", ["a", ""], ["a/b"]),
        ("a.*/(b)/+", ["a.*/(b)/c"], ["abc/b/c"]),
    ],
)
def test_a_topic_filter_selects_as_a_broker_does(
    topic_filter: str, matches: list[str], others: list[str]
) -> None:
    """`+` is one level, `#` all that follow and its parent (MQTT5 §4.7); anything else is itself."""
    pattern = re.compile(topic_pattern(topic_filter), re.DOTALL)
    assert [topic for topic in matches if not pattern.search(topic)] == []
    assert [topic for topic in others if pattern.search(topic)] == []


@pytest.mark.parametrize("topic_filter", ["a#", "#/a", "a+/b", "+a"])
def test_an_impossible_topic_filter_is_refused(topic_filter: str) -> None:
    """A wildcard that is not a whole level, or `#` before the last, is a wrong usage."""
    with pytest.raises(ValueError, match="whole level"):
        topic_pattern(topic_filter)


def test_times_as_people_write_them() -> None:
    """ISO 8601 in UTC unless it says otherwise, or how long ago."""
    assert parse_when("1h", NOW) == NOW - timedelta(hours=1)
    assert parse_when("2026-11-23T08:00", NOW) == NOW - timedelta(hours=1)
    assert parse_when("2026-11-23T09:00+01:00", NOW) == NOW - timedelta(hours=1)
    for wrong in ("yesterday", "1w", "", "999999999d"):
        with pytest.raises(ValueError, match="neither a time"):
            parse_when(wrong, NOW)


def test_nothing_of_a_stranger_reaches_the_terminal() -> None:
    """Control characters in topics and errors are shown escaped; printable text of any script as it is."""
    assert safe("a\x1b[31mé\u202e\n") == "a\\x1b[31mé\\u202e\\n"
    shown = render.describe(LETTER, b'{"a": "\x1b[2J"}')
    assert "\x1b" not in shown
    assert "|" in shown
    assert '{"x":\t1}' in render.describe(LETTER, b'{"x":\t1}')


def test_a_hexdump_shows_offset_bytes_and_characters() -> None:
    """Sixteen bytes a line, the last padded."""
    first, second = render.hexdump(bytes(range(60, 78))).splitlines()
    assert first == "00000000  3c 3d 3e 3f 40 41 42 43 44 45 46 47 48 49 4a 4b  |<=>?@ABCDEFGHIJK|"
    assert second == f"00000010  4c 4d{' ' * 43} |LM|"


def test_a_letter_as_json() -> None:
    """A program gets the bytes in base64, and as text when they are text."""
    whole = json.loads(render.encode_with_payload(LETTER, b"\xff\x00"))
    assert (whole["id"], whole["payload"], whole["payload_base64"]) == (7, None, "/wA=")
    assert json.loads(render.encode_with_payload(LETTER, b"{}"))["payload"] == "{}"
    assert json.loads(render.encode_letter(LETTER))["topic"] == LETTER.topic


def test_the_summary_says_what_is_left() -> None:
    """Every letter that was selected is accounted for."""
    tally = Tally(10)
    tally.replayed, tally.stored, tally.stopped = 3, 5, True
    tally.failing.update({"conflict": 2})
    assert not tally.complete
    text = render.summary(tally)
    assert "3 of 10 dead letters replayed: 5 readings stored" in text
    assert "2 still fail: conflict" in text
    assert "5 not looked at" in text


ROUTES = compile_routes([Route()])
DECODER = Decoder(ROUTES, Limits())


def kept(payload: bytes, reason: str = "no_route", *, replayed: bool = False) -> Kept:
    return Kept(1, NOW, "devices/a1/telemetry", reason, "", payload, replayed)


def test_a_letter_is_decoded_as_at_its_receipt() -> None:
    """Device time is checked against the time of receipt, and that is what is stored as received."""
    (reading,) = decode(kept(b'{"id":"1","x":1}'), DECODER, ROUTES).readings
    assert reading.event.received_at == reading.event.ts == "2026-11-23T09:00:00.000000Z"
    late = decode(kept(b'{"id":"1","ts":"2026-11-25T00:00:00Z"}'), DECODER, ROUTES)
    assert [failure.reason for failure in late.failures] == ["time_out_of_range"]


def test_a_part_of_an_array() -> None:
    """What can be stored of an array replays it; each element that cannot is a letter of its own, once."""
    letter = kept(b'[{"id":"1"},{"id":"2"},[],{"id":"3"}]')
    attempt = decode(letter, DECODER, ROUTES)
    new, conflicting, repeat = attempt.readings
    claimed = Claimed([new], 1, [conflicting.reject("conflict", "")])
    verdicts = judge([attempt], claimed)
    assert verdicts.replayed == [1]
    assert verdicts.duplicates == 1
    assert [orphan.payload for orphan in verdicts.orphans] == [b"[]", b'{"id":"2"}']
    assert repeat.event.key == "3"
    again = decode(letter._replace(replayed=True), DECODER, ROUTES)
    assert judge([again], Claimed([], 3, [])).orphans == []


def test_nothing_of_an_array() -> None:
    """An array of which nothing can be stored stays one letter."""
    attempt = decode(kept(b"[1,2]"), DECODER, ROUTES)
    verdicts = judge([attempt], Claimed([], 0, []))
    assert (verdicts.replayed, verdicts.orphans) == ([], [])
    ((letter, found),) = verdicts.failing
    assert (letter.id, found.reason) == (1, "wrong_root")


def test_a_part_of_what_cannot_be_cut() -> None:
    """A letter that is a whole message stays while one reading of it conflicts; the others are none."""
    routes = compile_routes([Route(each="data[?x]", device="", identity="key+time")])
    letter = kept(b'{"data":[{"id":"1","x":1},{"id":"2","x":2},{"id":"3","x":3}]}', "conflict")
    attempt = decode(letter, Decoder(routes, Limits()), routes)
    new, conflicting, _repeat = attempt.readings
    verdicts = judge([attempt], Claimed([new], 1, [conflicting.reject("conflict", "")]))
    ((stays, found),) = verdicts.failing
    assert (stays.id, found.key, verdicts.duplicates) == (1, "2", 1)
    assert (verdicts.replayed, verdicts.orphans) == ([], [])


def test_equal_letters_of_which_the_first_is_new() -> None:
    """The second of two equal letters is a repeat of the first, not a conflict."""
    attempts = [decode(kept(b'{"id":"1"}'), DECODER, ROUTES) for _ in range(2)]
    verdicts = judge(attempts, Claimed(attempts[0].readings, 1, []))
    assert (len(verdicts.replayed), verdicts.duplicates) == (2, 1)


def test_a_reading_without_key_and_time_is_replayed_once() -> None:
    """Nothing could tell its second replay from the first, so it is not asked for again."""
    assert len(decode(kept(b'{"x":1}'), DECODER, ROUTES).readings) == 1
    again = decode(kept(b'{"x":1}', replayed=True), DECODER, ROUTES)
    assert (again.readings, again.repeats) == ([], 1)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_list_on_a_terminal_always_has_the_id(width: int) -> None:
    """`show` and `replay` go by the id: however long topic, device and error are, it stands there whole."""
    letters = [
        msgspec.structs.replace(LETTER, id=id_, topic="plants/" + "t" * 300, device_id="d" * 128)
        for id_ in (7, 1_234_567_890)
    ]
    shown = [re.sub(r"\x1b\[\d+m", "", line) for line in render.listing(letters, width)]
    assert [line.split()[0] for line in shown if line[9] != " "] == ["id", "7", "1234567890"]
    assert sum("conflict" in line for line in shown) == 2
    assert max(map(len, shown)) <= max(width, 60)


def test_a_list_in_a_pipe_is_never_cut() -> None:
    """A line each under one of names, with all of a topic of any length and no tab but those between."""
    letter = msgspec.structs.replace(LETTER, topic="a\t" * 30_000, error="x" * 5000)
    names, line = render.lines([letter])
    cells = dict(zip(names.split("\t"), line.split("\t"), strict=True))
    assert cells["id"] == "7"
    assert cells["topic"] == "a\\t" * 30_000
    assert cells["error"] == "x" * 5000
