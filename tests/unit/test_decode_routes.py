"""What a route says of its messages: which field means what, clocks, topics, fields that are left out."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from contract.events import format_time
from gateway.decode import Decoder, Limits, Reading, Received, Rejection
from gateway.decode.routes import compile_routes
from runtime.settings import Route
from tests.support.write_side import NOW, Delivered
from tests.unit.test_decode import accept, decode, reject

ARRIVED = format_time(NOW)


def metrics(reading: Reading) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(bytes(reading.event.metrics))
    return found


def test_alternatives_that_do_not_count_are_metrics() -> None:
    """Of several names the first that is there counts; what the others hold is not lost."""
    reading = accept(b'{"message_id":"m","id":"k","ts":null,"timestamp":1763888400,"time":5,"x":1}')
    assert (reading.event.key, reading.event.ts) == ("k", "2025-11-23T09:00:00.000000Z")
    assert metrics(reading) == {"message_id": "m", "time": 5, "x": 1}


def test_paths() -> None:
    """Key, time, device and region may stand anywhere; what means something is no metric."""
    route = Route(topic="up/#", device="meta.dev", key="meta.n | n", time="meta.at", region="site")
    reading = accept(
        b'{"meta":{"dev":17,"n":5,"at":1763888400,"fw":"1.2"},"site":"north","d":[1,{"e":true}]}',
        "up/x",
        route,
    )
    event = reading.event
    assert (event.device_id, event.key, event.ts, event.region) == (
        "17",
        "5",
        "2025-11-23T09:00:00.000000Z",
        "north",
    )
    assert metrics(reading) == {"meta.fw": "1.2", "d.0": 1, "d.1.e": True}


def test_metrics_in_an_object_of_their_own() -> None:
    """With `metrics` its members are metrics by their names; what stands beside is left out and counted."""
    decoder = Decoder(compile_routes([Route(metrics="data.values", key="data.seq")]), Limits())
    payload = b'{"data":{"values":{"t":1,"deep":{"u":2}},"seq":7},"fw":"1.2","ts":1763888400}'
    (item,) = decoder.decode(Delivered("devices/a1/telemetry", payload), Received.of(NOW))
    assert isinstance(item, Reading)
    assert (metrics(item), item.event.key) == ({"t": 1, "deep.u": 2}, "7")
    assert decoder.drops.counts == {(Route().topic, "fw", "left_out"): 1}
    assert reject(b'{"id":"k","other":1}', route=Route(metrics="data")).reason == "no_metrics"
    assert metrics(accept(b'{"id":"k","data":[1,2]}', route=Route(metrics="data"))) == {"0": 1, "1": 2}


def test_two_fields_of_one_name() -> None:
    """Two paths that come to the same name are refused, or the second is left out."""
    payload = b'{"id":"k","a.b":1,"a":{"b":2}}'
    refused = reject(payload)
    assert (refused.reason, "'a.b'" in refused.error) == ("duplicate_key", True)
    assert metrics(accept(payload, route=Route(on_bad_field="drop"))) == {"a.b": 1}


def test_a_path_written_out_does_not_replace_a_nested_value() -> None:
    """The same with `metrics`: a member and a field with a dot in its name come to one name."""
    payload = b'{"id":"k","data":{"t":1},"data.t":2}'
    assert reject(payload, route=Route(metrics="data")).reason == "duplicate_key"
    reading = accept(payload, route=Route(metrics="data", on_bad_field="drop"))
    assert metrics(reading) == {"t": 1}


def test_members_of_metrics_mean_nothing_but_metrics() -> None:
    """`id` or `region` among them is a metric, also where a name of the route is a path."""
    payload = b'{"metrics":{"id":7,"region":"r","t":1},"meta":{"at":1763888400}}'
    for route in (Route(), Route(time="meta.at"), Route(key="meta.n | id", region="region")):
        event = accept(payload, route=route).event
        assert event.key != "7"
        assert event.region is None
        assert {"id": 7, "region": "r", "t": 1}.items() <= json.loads(bytes(event.metrics)).items()
    twice = b'{"t":2,"metrics":{"t":1}}'
    assert reject(twice, route=Route(time="meta.at")).reason == "duplicate_key"


def test_no_field_is_a_key_where_the_route_says_that_there_is_none() -> None:
    """Not even one whose name nobody would think of; an empty path is no name that fields have."""
    for name in (b"\\u0000", b"\\u0007", b""):
        payload = b'{"x":1,"' + name + b'":"k"}'
        route = Route(key="", time="", region="", on_bad_field="drop")
        assert accept(payload, route=route).event.key.startswith("uuid:")


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (b"1.5", "a number with a fraction"),
        (b"true", "a boolean"),
        (b'""', "0 characters"),
        (b"{}", "an object"),
        (b"nan", "no finite number"),
        (b'"\\u0000"', "NUL"),
    ],
)
def test_what_cannot_be_a_key_has_a_way_out(key: bytes, said: str) -> None:
    """The error says what it is, and how the route says that the field is none."""
    error = reject(b'{"id":' + key + b',"x":1}').error
    assert said in error
    assert 'key = ""' in error


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        (b'"b":nan', "malformed_json"),
        (b'"b":-Infinity', "malformed_json"),
        (b'"b":-nan(ind)', "malformed_json"),
        (b'"b":1.#QNAN', "malformed_json"),
        (b'"b":1e400', "number_out_of_range"),
        (b'"b":1e301', "number_out_of_range"),
        (b'"b":{"c":[1e400]}', "number_out_of_range"),
        (b'"b":"\\u0000"', "invalid_string"),
        (b'"":1', "invalid_metric"),
        (b'"\\u0007":1', "invalid_metric"),
        (b'"' + b"n" * 129 + b'":1', "invalid_metric"),
        (b'"region":7', "invalid_region"),
    ],
)
def test_a_bad_field_costs_the_message_or_itself(field: bytes, reason: str) -> None:
    """It is refused with the way out in the error; a route may say that the message goes without it."""
    payload = b'{"id":"k",' + field + b',"x":1}'
    refused = reject(payload)
    assert (refused.reason, 'on_bad_field = "drop"' in refused.error) == (reason, True)
    assert refused.payload == payload
    reading = accept(payload, route=Route(on_bad_field="drop"))
    assert metrics(reading) == {"x": 1}
    assert reading.raw == payload


def test_elements_of_an_array_with_a_bad_field_keep_their_bytes() -> None:
    """What is no JSON in one element does not cost its neighbours."""
    first, second = decode(b'[ {"id":"1","x":nan} , {"id":"2","x":2}]')
    assert isinstance(first, Rejection)
    assert first.payload == b'{"id":"1","x":nan}'
    assert isinstance(second, Reading)
    assert second.raw == b'{"id":"2","x":2}'


def test_elements_that_are_numbers_keep_their_bytes() -> None:
    """Also those that no parser takes, so that their letters can be replayed."""
    route = Route(topic="s/{device_id}/{metric}")
    items = decode(b'[1, -Infinity ,12345678901234567890123,1e400, {"value":nan}]', "s/d/t", route)
    found = [item.raw if isinstance(item, Reading) else item.payload for item in items]
    assert found == [b"1", b"-Infinity", b"12345678901234567890123", b"1e400", b'{"value":nan}']


def test_integers_of_any_length_are_kept() -> None:
    """Beyond 64 bits they are text, digit by digit; within, numbers."""
    digits = "9" * 5000
    reading = accept(
        b'{"id":98765432109876543210,"a":9223372036854775808,"b":[%s],"c":-9223372036854775808}'
        % digits.encode()
    )
    assert reading.event.key == "98765432109876543210"
    assert metrics(reading) == {"a": "9223372036854775808", "b.0": digits, "c": -(2**63)}


@pytest.mark.parametrize(
    ("payload", "named"),
    [
        (b'\xef\xbb\xbf{"id":"k"}', "byte-order mark"),
        (b'{"id":"k"}\x00', "NUL"),
        ('{"id":"k"}'.encode("utf-16"), "UTF-16"),
        ('{"id":"k"}'.encode("utf-16-le"), "UTF-16"),
        ('{"id":"k"}'.encode("utf-16-be"), "UTF-16"),
        (b"\x1f\x8b\x08\x00rest", "gzip"),
    ],
)
def test_what_is_no_json_is_named(payload: bytes, named: str) -> None:
    """The error says what the bytes are."""
    assert named in reject(payload).error


def test_numeric_device_ids() -> None:
    """A device id that is an integer is its digits, by topic and payload."""
    assert accept(b'{"id":"k","device_id":17}', "devices/17/telemetry").event.device_id == "17"
    assert accept(b'{"id":"k","device_id":17}', "x", Route(topic="x")).event.device_id == "17"
    assert "(a number)" in reject(b'{"id":"k","device_id":18}', "devices/17/telemetry").error
    assert "device 'NaN' (no finite number)" in reject(b'{"id":"k","device_id":NaN}').error


BAD_CLOCKS = [
    (b"0", "0"),
    (b"86400", "86400"),
    (b"-5", "-5"),
    (b'"1970-01-01T00:00:10Z"', "1970-01-01T00:00:10Z"),
    (b'"2199-01-01T00:00:00Z"', "2199-01-01T00:00:00Z"),
    (b'"up 3 days"', "up 3 days"),
    (b'"0999-01-01T00:00:00Z"', "0999-01-01T00:00:00Z"),
    (b"NaN", "NaN"),
    (b"1e400", "1e400"),
    (b"true", "true"),
    (b'[1, {"a": NaN}]', '[1,{"a":"NaN"}]'),
]


@pytest.mark.parametrize(("time", "claimed"), BAD_CLOCKS)
def test_clocks_that_are_not_set(time: bytes, claimed: str) -> None:
    """Refused with the way out, or the time of arrival stands and the claimed one is kept."""
    payload = b'{"id":"k","ts":%s,"x":1}' % time
    assert reject(payload).reason in {"invalid_time", "time_out_of_range"}
    for clock in ("prefer", "received"):
        event = accept(payload, route=Route(clock=clock)).event
        assert (event.ts, event.received_at, event.tags) == (ARRIVED, ARRIVED, {"claimed_ts": claimed})


def test_a_claimed_time_that_is_too_long_to_keep() -> None:
    """It is refused or counted like any field: what is not kept is said."""
    payload = b'{"id":"k","ts":"%s","x":1}' % (b"9" * 300)
    assert reject(payload, route=Route(clock="prefer")).reason == "invalid_time"
    decoder = Decoder(compile_routes([Route(clock="prefer", on_bad_field="drop")]), Limits())
    (item,) = decoder.decode(Delivered("devices/a1/telemetry", payload), Received.of(NOW))
    assert isinstance(item, Reading)
    assert item.event.tags is None
    assert list(decoder.drops.counts) == [(Route().topic, "claimed_ts", "invalid_time")]


def test_a_good_clock() -> None:
    """`prefer` takes a time that can be; `received` keeps it beside."""
    payload = b'{"id":"k","ts":1763888400,"x":1}'
    preferred = accept(payload, route=Route(clock="prefer")).event
    assert (preferred.ts, preferred.tags) == ("2025-11-23T09:00:00.000000Z", None)
    ignored = accept(payload, route=Route(clock="received")).event
    assert (ignored.ts, ignored.tags) == (ARRIVED, {"claimed_ts": "1763888400"})


def test_without_a_clock_equal_readings_are_each_stored() -> None:
    """A clock that stands still tells no repeat from a second reading."""
    route = Route(clock="prefer")
    one, two = (accept(b'{"ts":0,"x":1}', route=route) for _ in range(2))
    assert one.identity != two.identity


def test_a_scalar_is_the_metric_that_the_topic_names() -> None:
    """Numbers, booleans and strings alone; other fields of an object stand under the topic's name."""
    route = Route(topic="s/{device_id}/{metric}")
    for payload, value in ((b"21.5", 21.5), (b"true", True), (b'"ON"', "ON")):
        assert metrics(accept(payload, "s/d/temp", route)) == {"temp": value}
    assert metrics(accept(b'{"value":1,"unit":"C"}', "s/d/temp", route)) == {"temp": 1, "temp.unit": "C"}
    assert metrics(accept(b'{"temp":1,"unit":"C"}', "s/d/temp", route)) == {"temp": 1, "temp.unit": "C"}
    assert metrics(accept(b'{"value":[1,{"a":2}],"unit":"C"}', "s/d/temp", route)) == {
        "temp.0": 1,
        "temp.1.a": 2,
        "temp.unit": "C",
    }
    assert metrics(accept(b'{"value":{"unit":"K"},"unit":"C"}', "s/d/temp", route)) == {
        "temp.value.unit": "K",
        "temp.unit": "C",
    }
    assert [metrics(item) for item in decode(b"[1,2]", "s/d/temp", route) if isinstance(item, Reading)] == [
        {"temp": 1},
        {"temp": 2},
    ]
    assert reject(b"null", "s/d/temp", route).reason == "wrong_root"
    assert reject(b'[[{"x":1}]]').error == "element 0: an array in an array, expected an object"
    assert "{metric}" in reject(b"21.5").error


def test_tags_of_the_topic() -> None:
    """What a template names otherwise is kept with the row and the event."""
    route = Route(topic="{building}/{line}/{device_id}")
    reading = accept(b'{"id":"k","x":1}', 'b"1/7/d', route)
    assert reading.event.tags == {"building": 'b"1', "line": "7"}
    assert reading.line.split("\t")[5] == r'{"building": "b\\"1", "line": "7"}'
    assert accept(b'{"id":"k","x":1}').line.split("\t")[5] == "\\N"


def test_shared_subscriptions_match() -> None:
    """The broker delivers the plain topic."""
    assert (
        accept(
            b'{"id":"k"}', "devices/d/up", Route(topic="$share/edge/devices/{device_id}/up")
        ).event.device_id
        == "d"
    )


def test_an_ignored_route_leaves_no_letter() -> None:
    """What a route leaves out is counted, also what is no JSON; so are messages without a payload."""
    decoder = Decoder(
        compile_routes([Route(topic="z/bridge/#", ignore=True), Route(topic="z/{device_id}")]), Limits()
    )
    received = Received.of(NOW)
    assert decoder.decode(Delivered("z/bridge/state", b"online"), received) == []
    assert decoder.decode(Delivered("z/d", b""), received) == []
    assert (decoder.ignored, decoder.empty) == (1, 1)


def test_the_same_bytes_under_two_topics_are_two_messages() -> None:
    """Keyed or not, the topic tells them apart; the content is the same."""
    route = Route(topic="s/{device_id}/{channel}")
    for payload in (b'{"id":"k","x":1}', b'{"ts":1763888400,"x":1}'):
        one, two = (accept(payload, f"s/d/{channel}", route) for channel in "ab")
        assert one.identity != two.identity
        assert one.content == two.content


def test_what_the_first_version_claimed_is_known() -> None:
    """Its identity is today's for a route by which a topic is a device, and its content can be told."""
    reading = accept(b'{"id":"k\\\\1","ts":1763888400,"region":"n","x":1}')
    assert reading.identity == "a1\x1fk\\1"
    assert reading.former_content == '2025-11-23T09:00:00.000000Z\ta1\tk\\\\1\tn\t{"x":1}'
    assert accept(b'{"id":"k","x":1}').former_content == 'a1\tk\t\\N\t{"x":1}'


def test_arrival_within_an_array() -> None:
    """Each element is a microsecond later than the one before, bad ones too."""
    items = decode(b'[{"id":"1"},7,{"id":"3"}]')
    assert [item.event.received_at if isinstance(item, Reading) else item.received_at for item in items] == [
        format_time(NOW + timedelta(microseconds=n)) for n in range(3)
    ]


@pytest.mark.parametrize(
    ("payload", "found"),
    [
        (b'{"value":5,"unit":"C"}', {"temp": 5, "temp.unit": "C"}),
        (b'{"value":{"a":1}}', {"temp.a": 1}),
        (b'{"value":[1,2]}', {"temp.0": 1, "temp.1": 2}),
        (b'{"a":1}', {"temp.a": 1}),
        (b'{"value":{"a":1},"a":2}', {"temp.value.a": 1, "temp.a": 2}),
    ],
)
def test_what_is_in_the_value_of_a_metric(payload: bytes, found: dict[str, Any]) -> None:
    """Where the topic names the metric, `value` is the metric itself, and what is in it goes by that name."""
    route = Route(topic="d/{device_id}/{metric}", key="", time="")
    assert metrics(accept(payload, "d/a1/temp", route)) == found
