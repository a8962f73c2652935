"""Who is silent, decided by what is heard and by the time of the streams."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry

from contract.events import Event
from projector.lag import DeviceCounts
from projector.watch import silence as silence_module
from projector.watch.clock import Clock
from projector.watch.gauges import Gauges
from projector.watch.pace import (
    ARRIVALS,
    FLOOR_S,
    UNKNOWN_S,
    add_pause,
    pauses_between,
    pauses_shown,
    silent_after_s,
    usual_s,
)
from projector.watch.said import Said, Watch
from projector.watch.silence import Silence
from projector.watch.tally import NOWHERE, OTHERS, REGIONS

START = 1_795_945_200
MINUTE, HOUR, DAY = 60, 3600, 86_400


def event(device: str, region: str | None = "north") -> Event:
    """Only who sent it matters here."""
    return Event(device, region, "", "", "", {})


class Site:
    """A site whose devices are heard at given seconds, one row a device, and looked at once a minute.

    Args:
        known: what PostgreSQL would answer about arrivals.
    """

    def __init__(self, silence: Silence | None = None, known: dict[str, list[int]] | None = None) -> None:
        self.silence = Silence({}) if silence is None else silence
        self.told: list[tuple[str, bool, int]] = []
        self.news = 0
        self.asked: list[str] = []
        self._known = known or {}
        self._latest = 0

    def hear(self, at: int, *devices: str, stream: int = 0, ahead: int = 0) -> None:
        """Devices send a message each, by a gateway whose clock may be ahead."""
        self._latest = at
        self.silence.hear(stream, START + at + ahead, [event(device) for device in devices])

    def turn(self, times: int = 3) -> None:
        """What the watcher does in some turns; changes are told with the seconds since the start."""
        for _ in range(times):
            self.silence.turn(START + self._latest)
            asked = list(self.silence.unsure)
            self.asked += asked
            known = {id_: [START + at for at in self._known.get(id_, [])] for id_ in asked}
            self.silence.learn(known, START + self._latest)
            for change in self.silence.take_pending(1000):
                self.told.append((change.device_id, change.silent, change.at - START))
                self.news += change.is_news

    def every(self, interval: int, *devices: str, since: int, until: int) -> None:
        """Devices send at an interval, and the site is looked at each time."""
        for at in range(since, until, interval):
            self.hear(at, *devices)
            self.turn(1)

    @property
    def silent(self) -> list[str]:
        """Who was told of as silent, in that order."""
        return [id_ for id_, is_silent, _ in self.told if is_silent]


def test_usual_is_the_second_longest_pause() -> None:
    """One long pause is no habit, two are; of fewer than two pauses nothing is known."""
    assert usual_s(None) is None
    assert usual_s(add_pause(None, HOUR)) is None
    assert usual_s(pauses_between([0, 60, 120, 180])) == 60
    assert usual_s(pauses_between([0, 60, 120, 10_000, 10_060])) == 60
    assert usual_s(pauses_between([0, 60, 120, 10_000, 20_000])) == 256 * MINUTE
    assert usual_s(pauses_between([0, 5, 10, 15])) is None, "three messages at boot are no pace"
    assert usual_s(pauses_between([0, 90 * DAY, 180 * DAY])) == 2**15 * MINUTE


def test_a_habit_that_is_given_up_is_forgotten() -> None:
    """Two outages stop counting as usual after some hundred pauses of a minute."""
    pauses = pauses_between([0, 10_000, 20_000])
    for _ in range(300):
        pauses = add_pause(pauses, MINUTE)
    assert usual_s(pauses) == MINUTE


def test_limits() -> None:
    """Three usual pauses, three minutes at least, a day while nothing is known."""
    assert (silent_after_s(MINUTE), silent_after_s(HOUR), silent_after_s(None)) == (180, 3 * HOUR, UNKNOWN_S)
    assert silent_after_s(1) == FLOOR_S


def test_a_clock_knows_when_the_last_long_pause_ended() -> None:
    """Of any length; what was before the first row is one that is longer than any."""
    clock = Clock()
    clock.advance(START)
    assert clock.resumed(DAY) == START
    for at in (100, 400, 410, 530, 520):
        clock.advance(START + at)
    assert clock.now == START + 530
    assert [clock.resumed(seconds) - START for seconds in (90, 127, 128, 319, 320)] == [530, 530, 400, 400, 0]
    for n in range(1000):
        clock.advance(START + 1_000_000 + n * 100_000 - n * n * 40)
    assert clock.resumed(10 * DAY) == START + 1_000_000
    assert len(clock._pauses) < 50


def test_who_stops_is_silent_and_who_goes_on_is_not() -> None:
    """Silence is told once, minutes after the last message; of the others nothing is told."""
    site = Site()
    site.every(MINUTE, "a", "b", since=0, until=HOUR)
    site.every(MINUTE, "b", since=HOUR, until=3 * HOUR)
    ((device, is_silent, at),) = site.told
    assert (device, is_silent) == ("a", True)
    assert HOUR - MINUTE + FLOOR_S < at <= HOUR + FLOOR_S + MINUTE
    assert site.silence.counts == {"north": [1, 1, 0, 0, 0, 0, 0]}


def test_a_last_gasp_is_no_return() -> None:
    """Who sends all the time is back with messages of two minutes; a single one changes nothing."""
    site = Site()
    site.every(MINUTE, "a", "b", since=0, until=HOUR)
    site.every(MINUTE, "b", since=HOUR, until=2 * HOUR)
    site.hear(2 * HOUR, "a", "a", "b")
    site.every(MINUTE, "b", since=2 * HOUR, until=3 * HOUR)
    assert [(id_, is_silent) for id_, is_silent, _ in site.told] == [("a", True)]
    assert site.silence.counts == {"north": [1, 1, 0, 0, 0, 0, 0]}


def test_who_sends_again_is_back() -> None:
    """With the message of another minute."""
    site = Site()
    site.every(MINUTE, "a", "b", since=0, until=HOUR)
    site.every(MINUTE, "b", since=HOUR, until=2 * HOUR)
    site.every(MINUTE // 4, "a", "b", since=2 * HOUR, until=3 * HOUR)
    assert site.told[1:] == [("a", False, 2 * HOUR + MINUTE)]
    assert site.silence.counts == {"north": [2, 0, 0, 0, 0, 0, 0]}


def test_who_sends_seldom_is_back_at_once() -> None:
    """Each message of a device that sends each hour counts."""
    site = Site()
    for hour in range(30):
        site.every(MINUTE, "b", since=hour * HOUR, until=(hour + 1) * HOUR)
        if hour < 10 or hour == 20:
            site.hear(hour * HOUR + 59 * MINUTE, "a")
    assert [(id_, is_silent) for id_, is_silent, _ in site.told] == [("a", True), ("a", False), ("a", True)]
    assert site.told[1][2] == 20 * HOUR + 59 * MINUTE


def test_who_stores_and_forwards_does_not_flap() -> None:
    """Twenty minutes of messages after each pause of six hours: never silent where that is known."""

    def sends(at: int) -> bool:
        return at % (6 * HOUR) < 20 * MINUTE

    site = Site(known={"a": [at for at in range(-DAY, 0, MINUTE) if sends(at)]})
    new = Site()
    for at in range(0, 10 * DAY, MINUTE):
        for each in (site, new):
            each.hear(at, "b", *(["a"] if sends(at) else []))
            each.turn(1)
    assert site.told == []
    assert new.silent == ["a", "a"], "of one that is new it has to be learned"


def test_three_messages_at_boot_are_no_pace() -> None:
    """Who reports each hour after that is not silent meanwhile."""
    site = Site()
    for second in (0, 5, 10):
        site.hear(second, "a", "b")
    for at in range(MINUTE, DAY // 2, MINUTE):
        site.hear(at, "b", *(["a"] if at % HOUR == 0 else []))
        site.turn(1)
    assert site.told == []


def test_who_begins_to_send_seldom_is_told_of_twice() -> None:
    """Then that is usual."""
    site = Site()
    site.every(MINUTE, "a", "b", since=0, until=HOUR)
    for at in range(HOUR, DAY, MINUTE):
        site.hear(at, "b", *(["a"] if at % HOUR == 0 else []))
        site.turn(1)
    assert site.silent == ["a", "a"][: len(site.silent)]
    assert len(site.silent) <= 2


def test_nobody_falls_silent_while_nothing_comes() -> None:
    """After an outage of hours each has its whole period again; who does not use it is silent then."""
    site = Site()
    site.every(MINUTE, "a", "b", "c", since=0, until=HOUR)
    site.turn()
    site.hear(5 * HOUR, "c")
    site.turn()
    assert site.told == []
    site.every(MINUTE, "b", "c", since=5 * HOUR + MINUTE, until=6 * HOUR)
    assert site.silent == ["a"]


def test_a_site_with_few_devices_is_watched_too() -> None:
    """Where one is left that sends each ten minutes, the other is silent after a few of these."""
    site = Site()
    site.every(MINUTE, "a", "b", since=0, until=HOUR)
    site.every(10 * MINUTE, "b", since=HOUR, until=2 * HOUR)
    assert site.silent == ["a"]


def test_devices_that_send_at_the_same_time_are_watched_too() -> None:
    """Where all send on the hour, the pauses of the stream are usual, and excuse nobody."""
    site = Site(known={"a": [at * HOUR for at in range(-5, 1)]})
    for hour in range(24):
        site.hear(hour * HOUR, "b", "c", *(["a"] if hour < 10 else []))
        site.turn()
    assert site.silent == ["a"]


def test_a_stream_that_stands_makes_nobody_silent() -> None:
    """Devices of a gateway that is away go by its clock; who comes by another stream goes by that one."""
    site = Site()
    for at in range(0, HOUR, MINUTE):
        site.hear(at, "a", "moves", stream=0)
        site.hear(at, "b", stream=1)
        site.turn(1)
    for at in range(HOUR, 3 * HOUR, MINUTE):
        site.hear(at, "b", *(["moves"] if at < 2 * HOUR else []), stream=1)
        site.turn(1)
    assert site.silent == ["moves"]


def test_a_device_belongs_to_the_stream_of_its_newest_message() -> None:
    """In whichever order the streams are read."""
    site = Site()
    for at in range(0, HOUR, 2 * MINUTE):
        site.hear(at + MINUTE, "a", "b", stream=1)
    for at in range(0, HOUR, 2 * MINUTE):
        site.hear(at, "a", "b", stream=0)
    for at in range(HOUR, HOUR + 20 * MINUTE, MINUTE):
        site.hear(at, "b", stream=1)
    site.turn()
    assert site.silent == ["a"]


def test_after_a_start_a_pace_is_asked_for() -> None:
    """Who died while nobody watched is told of after its period, who sends each hour is not."""
    known = {
        "minutes": [-at * MINUTE for at in range(600, 500, -1)],
        "hours": [-at * HOUR for at in range(40, 0, -1)],
    }
    site = Site(known=known)
    for device in ("minutes", "hours", "b"):
        site.silence.know(device, "north")
    site.every(MINUTE, "b", since=0, until=HOUR)
    assert site.asked == ["minutes", "hours"]
    assert site.silent == ["minutes"]
    assert site.news == 1


def test_a_gateway_that_is_away_at_a_start_makes_nobody_silent() -> None:
    """Whoever was not heard yet may be one of its devices; one that is gone for more than a day has none."""
    known = {"dead": [at * MINUTE for at in range(-600, -500)]}
    site = Site(known=known)
    site.silence.know("dead", "north")
    site.silence.expect(0, START - MINUTE)
    site.silence.expect(1, START - HOUR)
    site.silence.expect(2, START - 2 * DAY)
    site.every(MINUTE, "b", since=0, until=6 * HOUR)
    assert site.told == []
    site.hear(6 * HOUR, "c", stream=1)
    site.every(MINUTE, "b", since=6 * HOUR, until=7 * HOUR)
    assert site.told == [], "it stands"
    for at in range(7 * HOUR, 8 * HOUR, MINUTE):
        site.hear(at, "c", stream=1)
        site.every(MINUTE, "b", since=at, until=at + MINUTE)
    assert site.silent == ["dead"]


def test_a_gateway_that_never_comes_back_is_not_waited_for() -> None:
    """A day after its last row others' time counts."""
    site = Site(known={"dead": [at * MINUTE for at in range(-600, -500)]})
    site.silence.know("dead", "north")
    site.silence.expect(1, START - HOUR)
    site.every(MINUTE, "b", since=0, until=DAY + HOUR)
    assert site.silent == ["dead"]


def test_a_gateway_whose_clock_is_ahead_stands_for_nobody() -> None:
    """Others that are away at a start are waited for, and who is silent is kept for as long as it should."""
    site = Site(
        Silence({"b": START - HOUR}, forget_after_s=DAY),
        {"dead": [-at * MINUTE for at in range(600, 500, -1)]},
    )
    for device in ("dead", "b"):
        site.silence.know(device, "north")
    site.silence.expect(0, START - MINUTE)
    for at in range(0, HOUR, MINUTE):
        site.hear(at, "x", stream=1, ahead=2 * DAY)
        site.turn(1)
    assert (site.told, list(site.silence.left)) == ([], [])


def test_a_clock_that_was_set_back_blinds_nobody() -> None:
    """A row of a year ahead counts until the next: then who stops is silent, and who returns is back."""
    site = Site()
    site.every(MINUTE, "a", "b", "gone", since=0, until=HOUR)
    site.every(MINUTE, "a", "b", since=HOUR, until=2 * HOUR)
    assert site.silence.hear(0, START + 365 * DAY, [event("a"), event("b"), event("gone")])
    site.turn()
    assert not site.silence.hear(0, START + 2 * HOUR, [event("b")])
    site.every(MINUTE, "a", "b", "gone", since=2 * HOUR + MINUTE, until=3 * HOUR)
    site.every(MINUTE, "b", "gone", since=3 * HOUR, until=4 * HOUR)
    assert [each[:2] for each in site.told] == [("gone", True), ("gone", False), ("a", True)]
    assert site.silence.counts == {"north": [2, 1, 0, 0, 0, 0, 0]}


def test_a_clock_that_was_ahead_is_not_learned_from() -> None:
    """What PostgreSQL and Redis hold of it counts as nothing, or as now."""
    known = {"dead": [*range(-100 * MINUTE, -50 * MINUTE, MINUTE), 365 * DAY]}
    site = Site(Silence({"back": START + 365 * DAY}, now=START), known)
    for device in ("dead", "back"):
        site.silence.know(device, "north")
    site.every(MINUTE, "b", since=0, until=HOUR)
    assert site.silent == ["dead"]
    site.every(MINUTE, "back", "b", since=HOUR, until=2 * HOUR)
    assert site.told[1:] == [("back", False, HOUR)]


def test_a_burst_is_no_pace() -> None:
    """Of who stores and forwards many messages come in a minute: usual is what lies between bursts."""
    burst = [minute * MINUTE for minute in range(3) for _ in range(120)]
    ahead = [6 * HOUR + at for at in burst]
    assert usual_s(pauses_shown([*burst[-140:], *ahead])) == 512 * MINUTE
    assert pauses_shown(ahead) is None
    outage = [*range(0, 140 * MINUTE, MINUTE), *[9 * HOUR] * 360]
    assert len(outage) == ARRIVALS
    assert usual_s(pauses_shown(outage)) == MINUTE, "one outage is no habit"


def test_who_is_told_of_and_is_gone_is_forgotten() -> None:
    """When all are known, those that nobody knows leave; who has been silent for longest makes room."""
    site = Site(Silence({"a": 3, "b": 1, "c": 2, "gone": 4}, most=3))
    for device in "abc":
        site.silence.know(device, None)
    site.silence.all_known()
    assert list(site.silence.left) == ["gone"]
    site.hear(0, "d", "e")
    assert list(site.silence.left) == ["gone", "b", "c"]


def test_who_is_known_to_be_silent_is_not_told_of_again() -> None:
    """But of its return."""
    site = Site(Silence({"a": START - DAY, "gone": START - DAY}))
    site.silence.know("a", "north")
    site.silence.know("b", "north")
    site.every(MINUTE, "b", since=0, until=HOUR)
    assert site.told == []
    assert site.silence.counts == {"north": [1, 1, 0, 0, 0, 0, 0]}
    site.every(MINUTE, "a", "b", since=HOUR, until=2 * HOUR)
    assert site.told == [("a", False, HOUR)]


def test_who_was_silent_before_anybody_watched_is_no_news() -> None:
    """The dead are written down and not told of; who dies after that is, whoever finds it out."""
    known = {
        "dead": [at * MINUTE for at in range(-600, -500)],
        "meanwhile": [at * MINUTE for at in range(-600, 0)],
    }
    for begun, silent, news in ((0, ["dead", "meanwhile", "a"], 1), (-HOUR, ["dead", "meanwhile", "a"], 2)):
        site = Site(Silence({}, begun=START + begun), known)
        for device in (*known, "a"):
            site.silence.know(device, "north")
        site.every(MINUTE, "a", "b", since=0, until=HOUR)
        site.every(MINUTE, "b", since=HOUR, until=2 * HOUR)
        assert (site.silent, site.news) == (silent, news)


def test_what_waits_is_past_when_something_newer_comes() -> None:
    """A change that waits is replaced by a newer one of the same device, which says which silence it ends."""
    site = Site()
    site.every(MINUTE, "a", "b", since=0, until=HOUR)
    for at in range(HOUR, 2 * HOUR, MINUTE):
        site.hear(at, "b")
        site.silence.turn()
        site.silence.learn({id_: [] for id_ in list(site.silence.unsure)})
    site.hear(2 * HOUR, "a")
    site.hear(2 * HOUR + MINUTE, "a")
    (change,) = site.silence.take_pending(10)
    assert (change.silent, change.heard_at) == (False, START + 2 * HOUR + MINUTE)
    assert change.silence == START + HOUR - MINUTE


def test_there_is_room_for_so_many() -> None:
    """Beyond that who has been silent for longest makes room, and without such nobody new is watched."""
    site = Site(Silence({"a": 1, "b": 2}, most=3))
    for device in "abc":
        site.silence.know(device, None)
    site.hear(0, "d", "e", "f", "f")
    assert len(site.silence.devices) == 3
    assert list(site.silence.left) == ["a", "b"]
    assert site.silence.unwatched == 2
    assert site.silence.counts == {NOWHERE: [0, 0, 1, 0, 0, 0, 0], "north": [2, 0, 0, 0, 0, 0, 0]}


def test_who_is_silent_for_longer_than_devices_are_kept_is_forgotten() -> None:
    """It is not counted any more, and heard like a new one."""
    site = Site(Silence({}, forget_after_s=DAY))
    site.every(MINUTE, "a", "b", since=0, until=HOUR)
    site.every(10 * MINUTE, "b", since=HOUR, until=3 * DAY)
    assert list(site.silence.left) == ["a"]
    assert site.silence.counts == {"north": [1, 0, 0, 0, 0, 0, 0]}
    site.hear(3 * DAY, "a")
    assert site.silence.counts == {"north": [2, 0, 0, 0, 0, 0, 0]}


def test_regions_beyond_a_number_are_counted_together() -> None:
    """So labels are bounded, and each device is counted once, also when it moves."""
    silence = Silence({})
    for n in range(REGIONS + 50):
        silence.hear(0, START + n, [event(f"d{n}", f"r{n}")])
    silence.hear(0, START + 900, [event("d0", "r149"), event("d149", "r1")])
    assert len(silence.counts) == REGIONS + 1
    assert silence.counts[OTHERS] == [50, 0, 0, 0, 0, 0, 0]
    assert (silence.counts["r0"], silence.counts["r1"]) == ([0, 0, 0, 0, 0, 0, 0], [2, 0, 0, 0, 0, 0, 0])


def test_a_turn_looks_at_a_bounded_number() -> None:
    """However many are due; the others wait for the next."""
    assert silence_module.CHECKS == 2000
    silence = Silence({})
    for n in range(5000):
        silence.know(f"d{n}", None)
    silence.hear(0, START, [event("x")])
    silence.hear(0, START + HOUR, [event("x")])
    silence.turn()
    assert len(silence.unsure) == 2001
    silence.turn()
    silence.turn()
    assert len(silence.unsure) == 5001


def test_when_the_newest_message_came() -> None:
    """Of all streams: one that is behind changes nothing. Before the first counts when the process began."""

    def heard() -> float:
        return registry.get_sample_value("projector_heard_timestamp_seconds") or 0.0

    before, registry = time.time(), CollectorRegistry()
    gauges = Gauges(registry)
    assert before <= heard() <= time.time()
    for stream, at, newest in ((0, 500, 500), (1, 900, 900), (0, 510, 900), (1, 400, 510)):
        gauges.heard(stream, at)
        assert heard() == newest


def test_a_message_of_a_clock_that_is_ahead_is_heard_now() -> None:
    """So a single one does not hold off the alert for as long as the clock was ahead."""
    registry = CollectorRegistry()
    gauges = Gauges(registry)
    gauges.heard(0, int(time.time()) + 365 * DAY)
    assert (registry.get_sample_value("projector_heard_timestamp_seconds") or 0.0) <= time.time()


def test_what_others_are_told_of_a_device() -> None:
    """Nothing before the watch has begun; then who was told of, who was heard, and nothing of the others."""
    watch = Watch()
    assert (watch.of("a"), watch.counts(), watch.silent()) == (Said("unknown", None, None), None, [])
    site = Site(Silence({"dead": START - DAY}), known={"old": [-3 * DAY, -3 * DAY + 60, -3 * DAY + 120]})
    for device in ("dead", "a", "b", "old"):
        site.silence.know(device, "north")
    site.silence.all_known()
    watch.begins(site.silence)
    assert watch.of("a") == Said("unknown", None, None)
    assert watch.of("dead") == Said("silent", START - DAY, None)
    assert (watch.counts(), watch.silent()) == (DeviceCounts(0, 1, 3), ["dead"])
    site.every(MINUTE, "a", "b", since=0, until=20 * MINUTE)
    assert watch.of("a") == Said("ok", START + 19 * MINUTE, MINUTE)
    assert watch.of("old") == Said("silent", START - 3 * DAY + 120, MINUTE)
    site.every(MINUTE, "b", since=20 * MINUTE, until=30 * MINUTE)
    assert watch.of("a") == Said("silent", START + 19 * MINUTE, MINUTE)
    assert watch.of("nobody").state == "unknown"
    assert (watch.counts(), watch.silent()) == (DeviceCounts(1, 3, 0), ["dead", "old", "a"])
    by_urgency = sorted(watch.silent(), key=lambda id_: watch.of(id_).urgency(START + 30 * MINUTE))
    assert by_urgency == ["old", "a", "dead"], "in their own measure"
