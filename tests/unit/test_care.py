"""What is told of devices that people have muted or retired, and once that is over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

import pytest

from contract.events import Event, format_time
from projector.levels import ToldLevel
from projector.watch.care import Care, Cares
from projector.watch.drift import BEHIND, RIGHT
from projector.watch.said import Watch
from projector.watch.silence import Silence

if TYPE_CHECKING:
    from projector.watch.care import What

START = 1_795_945_200
MINUTE, HOUR, DAY = 60, 3600, 86_400


def moment(at: int) -> datetime:
    """Seconds since the start as a time."""
    return datetime.fromtimestamp(START + at, UTC)


def word(device: str, what: str, at: int, version: int = 1) -> Care:
    """Somebody says something."""
    until = moment(at) + timedelta(hours=2) if what == "muted" else None
    return Care(device, cast("What", what), moment(at), until, "ann", "", version, told=False)


class Site:
    """Devices that send each minute, with clocks that are behind by so many seconds."""

    def __init__(self, silence: Silence | None = None) -> None:
        self.silence = Silence({}) if silence is None else silence
        self.watch = Watch()
        self.watch.begins(self.silence)

    def run(self, first: int, last: int, *devices: str, lag: int = 1) -> list[tuple[str, str]]:
        """Let minutes pass in which these send; returns what is told meanwhile."""
        told: list[tuple[str, str]] = []
        for minute in range(first, last):
            at = START + minute * MINUTE
            ts = format_time(datetime.fromtimestamp(at - lag, UTC))
            self.silence.hear(0, at, [Event(id_, "north", ts, "", "", {}) for id_ in devices])
            self.silence.turn()
            self.silence.learn({id_: [] for id_ in list(self.silence.unsure)})
            told += self.told()
        return told

    def told(self) -> list[tuple[str, str]]:
        """What is to be told now."""
        silences = self.silence.take_pending(100)
        clocks = self.silence.drifts.take_pending(100)
        return [(each.device_id, "silent" if each.silent else "ok") for each in silences] + [
            (each.device_id, "right" if each.level == RIGHT else "wrong") for each in clocks
        ]


def test_a_clock_is_told_when_it_becomes_wrong_and_right() -> None:
    """Once each, counted beside the states, and with its error for whoever asks."""
    site = Site()
    assert site.run(0, 60, "a", "b") == []
    assert site.run(60, 120, "a", "b", lag=HOUR) == [("a", "wrong"), ("b", "wrong")]
    said = site.watch.of("a")
    assert (said.state, said.clock_error_s) == ("ok", -HOUR)
    assert said.clock_since is not None
    assert START + 80 * MINUTE <= said.clock_since < START + 100 * MINUTE
    assert site.silence.counts == {"north": [2, 0, 0, 0, 0, 0, 2]}
    assert site.watch.clocks_wrong() == ["a", "b"]
    assert site.run(120, 180, "a", "b") == [("a", "right"), ("b", "right")]
    assert site.silence.counts == {"north": [2, 0, 0, 0, 0, 0, 0]}
    assert (site.watch.of("a").clock_since, site.watch.clocks_wrong()) == (None, [])


def test_what_was_told_of_a_clock_is_not_told_again() -> None:
    """Who begins with what was told tells when it is over, and forgets who is gone."""
    told = {"a": ToldLevel(BEHIND, START * 1_000_000), "gone": ToldLevel(BEHIND, START * 1_000_000)}
    site = Site(Silence({}, told_clocks=told))
    site.silence.know("a", "north")
    site.silence.all_known()
    assert list(site.silence.left) == ["gone"]
    assert site.watch.of("a").clock_since == START
    assert site.run(0, 60, "a", lag=HOUR) == []
    assert site.run(60, 120, "a") == [("a", "right")]


def test_a_claimed_time_that_was_not_believed() -> None:
    """It counts where routes take arrival instead of impossible times; elsewhere nobody goes by it."""
    for believes, expected in ((True, [("a", "wrong")]), (False, [])):
        site = Site(Silence({}, believes_claims=believes))
        told = []
        for minute in range(60):
            at = START + minute * MINUTE
            ts = format_time(datetime.fromtimestamp(at, UTC))
            claimed = {"claimed_ts": "1970-01-01T00:00:00Z"}
            site.silence.hear(0, at, [Event("a", None, ts, ts, "", {}, claimed)])
            site.silence.hear(0, at, [Event("b", None, ts, ts, "", {}, {"claimed_ts": "n/a"})])
            told += site.told()
        assert told == expected
        assert site.watch.of("a").clock_error_s == (-START - 40 * MINUTE if believes else None)


@pytest.mark.parametrize("what", ["muted", "retired"])
def test_nothing_is_told_while_a_word_holds(what: str) -> None:
    """Neither silence nor clock; what is wrong once it is over is told then, what was wrong before too."""
    site = Site()
    site.run(0, 60, "a", "b", "c")
    site.silence.take_care(word("a", what, HOUR))
    site.silence.take_care(word("c", what, HOUR))
    site.silence.left.clear()
    assert site.run(60, 120, "b") == []
    counts = [1, 0, 0, 2, 0, 0, 0] if what == "muted" else [1, 0, 0, 0, 2, 0, 0]
    assert site.silence.counts["north"] == counts
    assert site.watch.of("a").state == what
    assert site.watch.silent() == []
    if what == "muted":
        site.run(120, 150, "b", "c", lag=HOUR)
        assert site.watch.clocks_wrong() == ["b"]
    site.silence.take_care(word("a", "unmuted", 3 * HOUR, 2))
    site.silence.take_care(word("c", "expired", 3 * HOUR, 3))
    assert site.told() == [("a", "silent"), ("c", "wrong" if what == "muted" else "silent")]
    assert site.run(180, 190, "a", "b")[:1] == [("a", "ok")]


def test_what_was_told_before_is_over_with_the_word() -> None:
    """Redis forgets that it was silent, and it is told anew if it still is."""
    site = Site()
    site.run(0, 60, "a", "b")
    assert site.run(60, 90, "b") == [("a", "silent")]
    site.silence.take_care(word("a", "muted", 90 * MINUTE))
    assert (list(site.silence.left), site.told()) == (["a"], [])
    site.silence.left.clear()
    site.silence.take_care(word("a", "unmuted", 91 * MINUTE, 2))
    assert site.told() == [("a", "silent")]


def test_what_redis_has_not_forgotten_yet_stands() -> None:
    """A mute that is over before Redis was there again forgets nothing, and what is over since is told."""
    site = Site()
    site.run(0, 60, "a", "b")
    site.run(60, 120, "b", lag=HOUR)
    for minute in range(120, 180):
        moment = START + minute * MINUTE
        ts = format_time(datetime.fromtimestamp(moment, UTC))
        site.silence.hear(0, moment, [Event(id_, "north", ts, "", "", {}) for id_ in "ab"])
    for id_ in "ab":
        site.silence.take_care(word(id_, "muted", 3 * HOUR))
        site.silence.take_care(word(id_, "unmuted", 3 * HOUR + 1, 2))
    assert list(site.silence.left) == []
    back = {change.device_id: change for change in site.silence.take_pending(9)}
    assert (back["a"].silent, back["a"].is_news, back["a"].was_told) == (False, True, False)
    clocks = {change.device_id: change for change in site.silence.drifts.take_pending(9)}
    assert (clocks["b"].level, clocks["b"].told) == (RIGHT, RIGHT), "Redis says what was told"


def test_one_message_of_a_silent_device_ends_no_silence() -> None:
    """It takes two; so when a mute ends after one, the device is told silent all the same."""
    site = Site()
    site.run(0, 60, "a", "b")
    assert site.run(60, 120, "b") == [("a", "silent")]
    site.silence.take_care(word("a", "muted", 2 * HOUR))
    site.silence.left.clear()
    site.run(120, 121, "a", "b")
    site.silence.take_care(word("a", "unmuted", 121 * MINUTE, 2))
    assert site.told() == [("a", "silent")]
    assert site.run(121, 200, "b") == []
    assert site.run(200, 203, "a", "b") == [("a", "ok")]


def test_a_retired_device_that_was_silent_is_back_at_once() -> None:
    """The word tells so; when nothing follows it falls silent again, which is told."""
    site = Site()
    site.run(0, 60, "a", "b")
    site.run(60, 120, "b")
    site.silence.take_care(word("a", "retired", 2 * HOUR))
    site.silence.left.clear()
    site.run(120, 180, "b")
    site.run(180, 181, "a", "b")
    site.silence.take_care(word("a", "returned", 3 * HOUR, 2))
    assert (site.told(), site.watch.of("a").state, site.watch.silent()) == ([], "ok", [])
    assert site.run(181, 240, "b") == [("a", "silent")]


def test_what_is_told_when_a_mute_ends_was_not_so_before() -> None:
    """PostgreSQL was away when it ended: what came to be wrong meanwhile is told as of then."""
    site = Site()
    site.run(0, 60, "a", "b", "c")
    for id_ in "ac":
        site.silence.take_care(word(id_, "muted", HOUR))
    site.silence.left.clear()
    site.run(60, 300, "a", "b", "c")
    site.run(300, 400, "b", "c", lag=HOUR)
    for id_ in "ac":
        site.silence.take_care(word(id_, "expired", 3 * HOUR, 2))
    (silent,) = site.silence.take_pending(9)
    assert silent.at >= silent.heard_at == START + 299 * MINUTE
    clocks = {change.device_id: change for change in site.silence.drifts.take_pending(9)}
    assert clocks["c"].at >= START + 5 * HOUR


def test_a_change_that_waits_is_not_told() -> None:
    """It was decided before the word came."""
    site = Site()
    site.run(0, 60, "a", "b")
    for minute in range(60, 120):
        site.silence.hear(0, START + minute * MINUTE, [Event("b", "north", "", "", "", {})])
        site.silence.turn()
        site.silence.learn({id_: [] for id_ in list(site.silence.unsure)})
    assert list(site.silence.pending) == ["a"]
    site.silence.take_care(word("a", "muted", 2 * HOUR))
    assert site.told() == []


def test_a_retired_device_that_sends_is_back() -> None:
    """By a message that a gateway took after it was retired; one that was under way is none."""
    site = Site()
    site.run(0, 60, "a")
    site.silence.take_care(word("a", "retired", HOUR))
    site.silence.left.clear()
    site.run(60, 61, "a")
    assert site.silence.returned == {}
    site.run(61, 62, "a")
    assert site.silence.returned == {"a": START + 61 * MINUTE}
    site.silence.take_care(word("a", "returned", 61 * MINUTE, 2))
    assert site.told() == [], "the word is what is told"
    site.silence.returned.clear()
    assert site.run(62, 70, "a") == []
    assert site.silence.returned == {}


def test_a_message_that_is_faster_than_the_word_puts_a_device_back() -> None:
    """It came after the device was retired, and was heard of before that was."""
    site = Site()
    site.run(0, 60, "a", "b")
    site.silence.take_care(word("a", "retired", 58 * MINUTE))
    site.silence.take_care(word("b", "retired", 59 * MINUTE, 2))
    assert site.silence.returned == {"a": START + 59 * MINUTE}


def test_a_muted_device_that_sends_stays_muted() -> None:
    """It is not retired."""
    site = Site()
    site.silence.take_care(word("a", "muted", 0))
    assert site.run(0, 30, "a") == []
    assert (site.silence.returned, site.watch.of("a").state) == ({}, "muted")


def test_words_that_hold() -> None:
    """The newest counts; a mute is over when its time is."""
    cares = Cares()
    cares.take(word("a", "muted", 0, 5))
    cares.take(word("b", "retired", 0, 6))
    assert ("a" in cares, "b" in cares, len(cares), cares.retired) == (True, True, 2, {"b"})
    assert not cares.is_any_over(moment(2 * HOUR - 1))
    assert cares.is_any_over(moment(2 * HOUR))
    cares.take(word("a", "expired", 2 * HOUR, 7))
    assert (list(cares), cares.version) == (["b"], 7)
