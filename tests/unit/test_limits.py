"""Which device is beyond which limit, reading by reading."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from contract.events import Event, Scalar, format_time
from contract.order import microseconds
from projector.limits import states as states_module
from projector.limits.book import Change, Known
from projector.limits.rules import CRIT, OK, WARN, Rule, Rules
from projector.limits.states import Limits
from runtime.settings import Limit

if TYPE_CHECKING:
    import pytest

START = datetime(2026, 11, 23, 9, tzinfo=UTC)
HOT = Limit("t", warn=30, crit=40)


def at(second: float) -> int:
    """Seconds past nine, as microseconds since 1970."""
    return microseconds(time(second))


def time(second: float) -> str:
    return format_time(START + timedelta(seconds=second))


class Heard:
    """Limits, and readings for them."""

    def __init__(
        self,
        *limits: Limit,
        known: dict[tuple[str, str, str], Known] | None = None,
        forget_after_s: float | None = None,
    ) -> None:
        self.limits = Limits(Rules(limits), known, forget_after_s=forget_after_s)

    def read(
        self,
        second: float,
        value: Scalar,
        *,
        measured: float | None = None,
        device: str = "a",
        region: str | None = None,
        stream: int = 0,
        metric: str = "t",
    ) -> Heard:
        """A row with one reading comes."""
        ts = time(second if measured is None else measured)
        event = Event(device, region, ts, time(second), "k", {"other": 1, metric: value})
        self.limits.hear(stream, at(second) // 1_000_000, [event])
        return self

    def goes_on(self, second: float, stream: int = 0) -> Heard:
        """The stream brings something else, and time decides."""
        self.limits.hear(stream, at(second) // 1_000_000, [])
        self.limits.turn()
        return self

    def told(self) -> list[tuple[str, int, float | None, float | None, float]]:
        """Of whom what is told, with value, limit and the second since when."""
        return [
            (change.key[0], change.level, change.value, change.limit, (change.at - at(0)) / 1_000_000)
            for change in self.limits.take_pending(1000)
        ]


def test_beyond_and_back() -> None:
    """Each change is told with the value, the number crossed and when it came; on a limit is within it."""
    heard = Heard(HOT)
    assert heard.read(0, 30).told() == []
    assert heard.read(1, 30.5).told() == [("a", WARN, 30.5, 30, 1)]
    assert heard.read(2, 31).told() == []
    assert heard.read(3, 41).told() == [("a", CRIT, 41, 40, 3)]
    assert heard.read(4, 40).told() == [("a", WARN, 40, 30, 4)]
    assert heard.read(5, 7).told() == [("a", OK, 7, None, 5)]
    assert heard.limits.beyond == {}


def test_lower_limits() -> None:
    """Below is beyond, and both sides of a metric have states of their own."""
    heard = Heard(Limit("t", when="below", warn=20, crit=10), HOT)
    assert heard.read(0, 15).told() == [("a", WARN, 15, 20, 0)]
    assert heard.read(1, 5).told() == [("a", CRIT, 5, 10, 1)]
    heard.read(2, 50)
    assert [(change.key, change.level) for change in heard.limits.take_pending(9)] == [
        (("a", "t", "below"), OK),
        (("a", "t", "above"), CRIT),
    ]
    assert list(heard.limits.counts()) == [("t", "below", [1, 0, 0]), ("t", "above", [0, 0, 1])]


def test_a_late_reading_changes_nothing() -> None:
    """What was measured earlier than the newest neither raises nor clears; a clock ahead wins for minutes."""
    heard = Heard(HOT)
    assert heard.read(100, 7).read(101, 99, measured=50).told() == []
    assert heard.read(102, 50).told() == [("a", CRIT, 50, 40, 102)]
    assert heard.read(103, 7, measured=50).told() == []
    heard.read(104, 7, measured=999_999)
    assert heard.told() == [("a", OK, 7, None, 104)]
    assert heard.read(105, 99).told() == []
    assert heard.read(500, 99).told() == [("a", CRIT, 99, 40, 500)]


def test_a_value_has_to_stay_beyond() -> None:
    """Shorter is not told of; who sends only changes is, once the stream has gone on for as long."""
    heard = Heard(Limit("t", warn=30, crit=40, for_="1m"))
    assert heard.read(0, 50).read(59, 50).goes_on(59).told() == []
    assert heard.read(59.5, 7).goes_on(200).told() == []
    assert heard.read(300, 35).read(350, 45).goes_on(359).told() == []
    assert heard.goes_on(360).told() == [("a", WARN, 45, 30, 360)]
    assert heard.goes_on(409).told() == []
    assert heard.goes_on(410).told() == [("a", CRIT, 45, 40, 410)]
    assert heard.read(411, 7).told() == [("a", OK, 7, None, 411)]
    assert heard.limits._waiting == {}


def test_what_time_had_decided_before_a_reading_is_decided_by_it() -> None:
    """However seldom somebody looks: a minute beyond is one, and what is over when it is told is not told."""
    heard = Heard(Limit("t", warn=30, for_="1m"))
    assert heard.read(0, 50).read(70, 50).told() == [("a", WARN, 50, 30, 60)]
    assert heard.read(80, 7).told() == [("a", OK, 7, None, 80)]
    assert heard.read(100, 50).read(170, 7).told() == []


def test_an_outage_makes_nobody_critical() -> None:
    """What nobody brought does not count: a device has its whole `for` after a pause, and three times."""
    heard = Heard(Limit("t", crit=40, for_="30m"))
    heard.read(0, 45).goes_on(60)
    for second in (7200, 8000, 8800, 8999):
        assert heard.goes_on(second).told() == []
    assert heard.goes_on(9000).told() == [("a", CRIT, 45, 40, 9000)]

    heard = Heard(Limit("t", crit=40, for_="30m")).read(0, 45)
    for second in (1000, 3000, 5000, 6000):
        assert heard.goes_on(second).told() == []
    assert heard.goes_on(7000).told() == [("a", CRIT, 45, 40, 6800)], "a gateway that brings little by little"

    heard = Heard(Limit("t", crit=40, for_="30m")).read(0, 45)
    assert heard.read(7200, 7).goes_on(7200).told() == []
    assert heard.read(7300, 45).goes_on(7900).goes_on(8500).goes_on(9099).told() == []
    assert heard.goes_on(9100).told() == [("a", CRIT, 45, 40, 9100)]


def test_who_pauses_for_longer_than_for_is_told_of_at_its_third_reading() -> None:
    """A meter alone with its gateway: beyond before a pause and after is beyond in it, but for one."""
    heard = Heard(Limit("t", crit=40, for_="30m")).read(0, 45)
    assert heard.read(3600, 45).goes_on(3600).told() == []
    assert heard.read(7200, 45).told() == [("a", CRIT, 45, 40, 5400)]


def test_what_was_learned_waits_for_the_streams_that_were_there() -> None:
    """While one gateway is away another says nothing of its devices; one away for a day is not waited for."""
    heard = Heard(Limit("t", crit=40, for_="30m"))
    heard.limits.expect(0, at(0) // 1_000_000)
    heard.limits.expect(1, at(-600) // 1_000_000)
    heard.limits.learn("a", None, "t", 45, (at(-1000), time(-1000) + "k"))
    for second in range(0, 4001, 800):
        assert heard.goes_on(second).told() == []
    assert heard.goes_on(4000, stream=1).told() == [], "nor at its first row"
    for second in (4800, 5600):
        assert heard.goes_on(second).goes_on(second, stream=1).told() == []
    assert heard.goes_on(5900).goes_on(5800, stream=1).told() == [("a", CRIT, 45, 40, 5800)]

    heard = Heard(Limit("t", crit=40, for_="30m"))
    heard.limits.expect(0, at(0) // 1_000_000)
    heard.limits.expect(1, at(-90_000) // 1_000_000)
    heard.limits.learn("a", None, "t", 45, (at(-1000), time(-1000) + "k"))
    assert heard.goes_on(799).told() == []
    assert heard.goes_on(800).told() == [("a", CRIT, 45, 40, 800)], "it was beyond before, and all went on"


def test_a_gateway_that_stopped_holds_up_nobody() -> None:
    """One that has brought a row since the start, and then nothing for a day."""
    heard = Heard(Limit("t", crit=40, for_="30m"))
    heard.limits.learn("a", None, "t", 45, (at(-1000), time(-1000) + "k"))
    heard.goes_on(0, stream=1)
    for second in range(0, 86_400, 800):
        assert heard.goes_on(second).told() == []
    assert heard.goes_on(86_401).told() == [("a", CRIT, 45, 40, 800)]


def test_another_streams_time_decides_nothing() -> None:
    """A gateway that is behind may have the reading that ends it still to come."""
    heard = Heard(Limit("t", warn=30, for_="1m"))
    assert heard.read(0, 50).goes_on(900, stream=1).told() == []
    assert heard.read(10, 7).goes_on(900).told() == []


def test_a_clock_that_was_set_back_is_not_waited_for() -> None:
    """The time that a value has been beyond begins anew."""
    heard = Heard(Limit("t", warn=30, for_="1m"))
    heard.read(200, 50).read(100, 50, measured=201).goes_on(160)
    assert heard.told() == [("a", WARN, 50, 30, 160)]


def test_the_first_limit_that_fits() -> None:
    """By device and region, with patterns; a device that names no region stays where it is."""
    heard = Heard(
        Limit("t", device="freezer-[12]", warn=-10),
        Limit("t", region="cold*", warn=5),
        Limit("t", device="oven", crit=300),
    )
    heard.read(0, 7, device="freezer-1", region="cold").read(1, 7, device="b", region="cold-2")
    heard.read(2, 7, device="oven").read(3, 7, device="c").read(4, 7, device="d", region="Cold")
    assert [(device, limit) for device, _, _, limit, _ in heard.told()] == [("freezer-1", -10), ("b", 5)]
    assert len(heard.limits) == 3
    assert heard.read(5, 8, device="b").told() == []
    assert heard.read(6, 8, device="b", region="hall").told() == [("b", OK, None, None, 6)]
    assert len(heard.limits) == 2


def test_many_limits_cost_no_more_than_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 500 by device, or by pattern, few are tried for a reading, and none twice for a device."""
    tried = 0

    def count(rule: Rule, device_id: str, region: str | None) -> bool:
        nonlocal tried
        tried += 1
        return fits(rule, device_id, region)

    fits = Rule.fits
    monkeypatch.setattr(Rule, "fits", count)
    heard = Heard(*(Limit("t", device=f"d{number}", crit=40) for number in range(500)))
    for second in range(1000):
        heard.read(second, 50, device=f"d{second % 600}")
    assert (len(heard.limits), tried) == (500, 500)
    tried = 0
    heard = Heard(*(Limit("t", region=f"r{number}-*", crit=40) for number in range(500)))
    for second in range(1000):
        heard.read(second, 50, device="a", region="r7-1").read(second, 50, device="b", region="x")
    assert (len(heard.limits), tried) == (1, 508)


def test_what_is_no_number_is_no_reading() -> None:
    """Text says nothing about a limit, and true is 1."""
    heard = Heard(Limit("t", warn=0.5))
    assert heard.read(0, "99").read(1, 10**400).told() == []
    assert heard.read(2, value=True).told() == [("a", WARN, 1, 0.5, 2)]
    assert heard.read(3, "error").told() == []
    assert heard.read(4, value=False).told() == [("a", OK, 0, None, 4)]


KEY = ("a", "t", "above")


def test_a_start_tells_nothing_again() -> None:
    """What was told stands until a reading says otherwise, one that the views hold or one that comes."""
    known = {KEY: Known(CRIT, at(-60))}
    heard = Heard(HOT, known=known)
    heard.limits.learn("a", "north", "t", 50, (at(-30), time(-30) + "k"))
    heard.limits.all_learned(at(0) // 1_000_000)
    assert heard.told() == []
    assert heard.limits.beyond["a"]["t", "above"].at == at(-60)
    assert heard.read(1, 7).told() == [("a", OK, 7, None, 1)]

    heard = Heard(HOT, known=known).read(1, 50)
    heard.limits.learn("a", "north", "t", 7, (at(-30), time(-30) + "k"))
    assert heard.told() == [], "what came is newer than what the views held"

    heard = Heard(HOT, known=known)
    heard.limits.learn("a", "north", "t", 7, (at(-30), time(-30) + "k"))
    assert heard.told() == [("a", OK, 7, None, -30)]


def test_a_change_is_later_than_the_one_before() -> None:
    """Else it would count as told: time raised it after its reading, and the limit was set anew."""
    known = {KEY: Known(CRIT, at(60))}
    heard = Heard(Limit("t", crit=70, for_="1m"), known=known)
    heard.limits.learn("a", None, "t", 50, (at(0), time(0) + "k"))
    (change,) = heard.limits.take_pending(9)
    assert (change.level, change.at) == (OK, at(60) + 1)
    heard = Heard(HOT, known={KEY: Known(CRIT, at(1_000_000))}).read(0, 7)
    assert heard.told() == [("a", OK, 7, None, 0)], "but for a clock that was wrong by days"


def test_what_was_told_is_said_with_what_is_told_next() -> None:
    """Redis may have lost it."""
    heard = Heard(HOT)
    levels = []
    for second, value in enumerate((35, 50, 7)):
        (change,) = heard.read(second, value).limits.take_pending(9)
        levels.append((change.told, change.level))
    assert levels == [(OK, WARN), (WARN, CRIT), (CRIT, OK)]
    heard = Heard(HOT, known={KEY: Known(CRIT, at(-60))})
    heard.limits.all_learned(at(0) // 1_000_000)
    (change,) = heard.limits.take_pending(9)
    assert (change.told, change.level) == (CRIT, OK)


def test_a_start_is_later_than_what_was_told() -> None:
    """A limit that was taken out and put back, one that took days, and a gateway whose clock is behind."""
    mark = (at(-3000), time(-3000) + "k")
    heard = Heard(HOT, known={KEY: Known(OK, at(0))})
    heard.limits.learn("a", None, "t", 50, mark)
    heard.limits.all_learned(at(5) // 1_000_000)
    (change,) = heard.limits.take_pending(9)
    assert (change.level, change.at) == (CRIT, at(0) + 1)

    heard = Heard(Limit("t", crit=70, for_="2d"), known={KEY: Known(CRIT, at(172_800))})
    heard.limits.learn("a", None, "t", 50, (at(0), time(0) + "k"))
    (change,) = heard.limits.take_pending(9)
    assert (change.level, change.at) == (OK, at(172_800) + 1)

    heard = Heard(HOT, known={KEY: Known(CRIT, at(-60))})
    heard.limits.all_learned(at(600) // 1_000_000)
    assert heard.told() == [("a", OK, None, None, 600)]
    (change,) = heard.read(10, 50).limits.take_pending(9)
    assert (change.level, change.at) == (CRIT, at(600) + 1)


def test_what_is_gone_is_over() -> None:
    """A device that the views do not have any more, or without a limit; what comes back counts anew."""
    known = {KEY: Known(CRIT, at(-60)), ("b", "x", "above"): Known(WARN, at(-60))}
    heard = Heard(HOT, known=known, forget_after_s=3600)
    heard.limits.all_learned(at(0) // 1_000_000)
    assert heard.read(1, 50).told() == [("b", OK, None, None, 0)], "a is there after all, and was told of"
    assert len(heard.goes_on(1).goes_on(1300).goes_on(2600).goes_on(3601).limits) == 1
    assert heard.goes_on(3602).limits.beyond == {}
    assert len(heard.limits) == 0
    assert heard.read(3603, 50).told() == [], "and nobody was told meanwhile"
    assert heard.goes_on(4900).goes_on(6200).told() == []
    assert heard.goes_on(7204).told() == [("a", OK, None, None, 7204)]
    assert heard.read(7205, 50).told() == [("a", CRIT, 50, 40, 7205)]


def test_who_has_left_is_forgotten_and_nobody_else() -> None:
    """By any message of a device and any gateway's time, but for an outage of all, and not at a start."""
    heard = Heard(HOT, Limit("humidity", crit=99), forget_after_s=3600)
    heard.limits.learn("old", None, "t", 50, (at(-9000), time(-9000) + "k"))
    heard.read(0, 50).read(0, 50, device="b", stream=1).goes_on(0)
    assert [each[0] for each in heard.told()] == ["old", "a", "b"]
    for second in (1200, 2400, 3600):
        heard.read(second, 7, metric="humidity").goes_on(second)
    assert heard.told() == [], "what was learned was there at the start"
    assert heard.read(3601, 7, metric="other").goes_on(3601).told() == [
        ("old", OK, None, None, 3601),
        ("b", OK, None, None, 3601),
    ], "though nothing comes by its gateway"
    assert heard.goes_on(20_000).told() == [], "everything was away"
    assert heard.goes_on(21_200).goes_on(22_400).goes_on(23_600).told() == []
    assert heard.goes_on(23_601).told() == [("a", OK, None, None, 23_601)]
    assert heard.limits._leaving._heard == {}


def test_what_is_replayed_goes_by_no_time() -> None:
    """It is heard as it came once: no gateway's clock moves, and what has to stay beyond goes by them all."""
    heard = Heard(Limit("t", crit=40, for_="30m"), forget_after_s=3600).goes_on(9000)
    event = Event("a", None, time(8000), time(8000), "k", {"t": 50})
    heard.limits.hear(None, at(100) // 1_000_000, [event])
    assert heard.goes_on(9799).told() == []
    assert heard.goes_on(9800).told() == [("a", CRIT, 50, 40, 9800)]


def test_a_gateway_ahead_makes_nobody_leave() -> None:
    """Its time is now at the most."""
    heard = Heard(HOT, forget_after_s=3600).read(0, 50)
    heard.limits.hear(1, at(1_000_000) // 1_000_000, [])
    heard.limits.turn(at(60) // 1_000_000)
    assert len(heard.limits) == 1


def test_room_is_bounded() -> None:
    """Who comes when there is none is counted, and those that are known go on."""
    limits = Limits(Rules([HOT]), most=2)
    limits.hear(0, 0, [Event(device, None, time(0), time(0), "k", {"t": 50}) for device in "abcb"])
    assert (len(limits), limits.no_room, list(limits.beyond)) == (2, 1, ["a", "b"])


def test_what_was_told_of_has_room() -> None:
    """A start does not say that what is beyond is over because others came before."""
    limits = Limits(Rules([HOT]), {KEY: Known(CRIT, at(-60))}, most=2)
    mark = (at(-30), time(-30) + "k")
    for device in "bcda":
        limits.learn(device, None, "t", 50, mark)
    limits.all_learned(at(0) // 1_000_000)
    assert (list(limits.pending), list(limits.beyond), limits.no_room) == (
        [("b", "t", "above")],
        ["b", "a"],
        2,
    )
    limits = Limits(Rules([HOT]), {KEY: Known(CRIT, at(-60))}, most=1)
    limits.all_learned(at(0) // 1_000_000)
    limits.learn("b", None, "t", 50, mark)
    assert list(limits.beyond) == ["b"], "nor is room kept for what is gone"


def test_a_turn_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many that wait some are looked at, and then the others."""
    monkeypatch.setattr(states_module, "CHECKS", 10)
    heard = Heard(Limit("t", warn=30, for_="1m"))
    for device in range(25):
        heard.read(0, 50, device=str(device))
    assert [len(heard.goes_on(60).told()) for _ in range(4)] == [10, 10, 5, 0]


def test_what_is_told_says_of_which_reading() -> None:
    """Where the device is, and when the reading was measured."""
    heard = Heard(HOT).read(5, 50, measured=2, region="north")
    assert heard.limits.take_pending(9) == [Change(KEY, "north", CRIT, 50, 40, at(5), at(2), OK)]


def test_times_that_are_none_are_no_reading() -> None:
    """They come by the topic alone, on which anybody might publish."""
    limits = Limits(Rules([HOT]))
    limits.hear(0, 0, [Event("a", None, "z", "y", "k", {"t": 50})])
    limits.learn("a", None, "t", 50, (0, "y"))
    assert len(limits) == 0


class Muted(Heard):
    """Limits of devices that people mute."""

    def __init__(self, *limits: Limit, known: dict[tuple[str, str, str], Known] | None = None) -> None:
        self.muted: set[str] = set()
        self.limits = Limits(Rules(limits), known, besides=self.muted)

    def mute(self, second: float, *devices: str) -> None:
        """From now on nothing is told of them."""
        self.muted.update(devices)
        for device in devices:
            self.limits.take_care(device, at(second), holds=True)

    def unmute(self, second: float, *devices: str) -> None:
        """That ends."""
        self.muted.difference_update(devices)
        for device in devices:
            self.limits.take_care(device, at(second), holds=False)

    @property
    def counts(self) -> list[int]:
        """How many are within and beyond."""
        ((_, _, counts),) = self.limits.counts()
        return counts


def test_a_muted_device_counts_nowhere_and_is_told_again_afterwards() -> None:
    """Neither counted nor shown nor told; what it is beyond once that ends is told as of then."""
    heard = Muted(HOT)
    heard.read(0, 50, device="a").read(0, 35, device="b").read(0, 7, device="c").told()
    heard.mute(10, "a", "b", "c")
    assert (heard.counts, heard.limits.beyond) == ([0, 0, 0], {})
    assert list(heard.limits.left) == [("a", "t", "above"), ("b", "t", "above")]
    heard.limits.left.clear()
    heard.read(20, 51, device="a").read(20, 7, device="b").read(20, 50, device="c").read(20, 50, device="d")
    assert heard.told() == [("d", CRIT, 50, 40, 20)]
    assert (heard.counts, list(heard.limits.beyond)) == ([0, 0, 1], ["d"])
    heard.unmute(30, "a", "b", "c")
    assert sorted(heard.told()) == [("a", CRIT, 51, 40, 30), ("c", CRIT, 50, 40, 30)]
    assert (heard.counts, sorted(heard.limits.beyond)) == ([1, 0, 3], ["a", "c", "d"])
    assert heard.read(40, 7, device="a").told() == [("a", OK, 7, None, 40)]
    heard.mute(50, "a", "c", "d")
    assert heard.counts == [1, 0, 0]


def test_what_others_have_not_forgotten_yet_is_over_if_it_is() -> None:
    """A mute that is over before Redis was there again: whoever claims finds what was told."""
    heard = Muted(HOT)
    heard.read(0, 50, device="a").read(0, 50, device="b").told()
    heard.mute(10, "a", "b")
    heard.read(20, 7, device="a")
    heard.unmute(30, "a", "b")
    assert heard.limits.left == {}
    assert heard.told() == [("a", OK, 7, None, 30), ("b", CRIT, 50, 40, 30)]


def test_what_was_told_of_a_device_that_is_muted_is_forgotten_at_a_start() -> None:
    """Also when it was said while nobody ran; a limit that is there no more is over all the same."""
    known = {("a", "t", "above"): Known(CRIT, at(0)), ("a", "u", "above"): Known(CRIT, at(0))}
    heard = Muted(HOT, known=known)
    heard.muted.add("a")
    heard.read(1, 50)
    heard.limits.all_learned(at(2) // 1_000_000)
    assert [(change.key, change.level) for change in heard.limits.take_pending(9)] == [
        (("a", "u", "above"), OK)
    ]
    assert (list(heard.limits.left), heard.counts) == ([("a", "t", "above")], [0, 0, 0])


def test_a_muted_device_that_leaves_was_not_counted() -> None:
    """It is gone; the others are there still."""
    heard = Muted(Limit("t", warn=30, crit=40, region="north"))
    heard.read(0, 50, region="north").read(0, 7, region="north", device="b")
    heard.mute(1, "a")
    heard.read(2, 50, region="south")
    assert heard.counts == [1, 0, 0]
    heard.unmute(3, "a")
    assert (heard.counts, heard.told()) == ([1, 0, 0], [])
