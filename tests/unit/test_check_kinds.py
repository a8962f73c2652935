"""Which broker it is, by what it says and how it answers."""

from __future__ import annotations

import pytest

from gateway.check.hearing import Heard
from gateway.check.kinds import KINDS, Seen, name
from gateway.check.terms import judge_kind, judge_terms
from runtime.mqtt.terms import Terms

TOLD = Terms(told=True)
MOSQUITTO = Terms(told=True, receive_maximum=3000, packet_bytes=2_000_000, topic_aliases=10)
MOCHI = Terms(told=True, receive_maximum=1024)
HIVEMQ = Terms(told=True, receive_maximum=10, topic_aliases=5)
EMQX = Terms(told=True, receive_maximum=32, packet_bytes=1_048_576, topic_aliases=65535)
RABBITMQ = Terms(told=True, maximum_qos=1, shares=False)
AEDES = {"$SYS/ca069f29-a547-4c35-97b2-9bf3267eb4da/new/subscribes": "{}"}
MEASURED = {
    "mosquitto": ["a kill loses", "a $share group"],
    "NATS": ["after ack_wait", "knows no shared"],
    "RabbitMQ": ["QoS 1 at most", "knows no shared"],
    "HiveMQ": ["counts what it drops nowhere"],
    "Aedes": ["without DUP", "knows no shared"],
    "mochi-mqtt": ["sends out of order", "a $share group"],
}
"""What `docs/brokers.md` has of each kind from brokers that ran."""
AWS = "a1b2c3-ats.iot.eu-central-1.amazonaws.com"


@pytest.mark.parametrize(
    ("host", "terms", "heard", "kind"),
    [
        ("b", MOSQUITTO, Heard({"$SYS/broker/version": "mosquitto version 2.0.11"}, qos=2), "mosquitto"),
        ("b", Terms(), Heard({"$SYS/broker/version": "mosquitto version 1.6"}, qos=2), "mosquitto"),
        (
            "b",
            MOCHI,
            Heard({"$SYS/broker/version": "2.7.9", "$SYS/broker/messages/dropped": "0"}),
            "mochi-mqtt",
        ),
        ("b", HIVEMQ, Heard(qos=2), "HiveMQ"),
        ("x.s1.eu.hivemq.cloud", TOLD, Heard(), "HiveMQ"),
        ("b", EMQX, Heard(refusal="not authorized"), "EMQX"),
        ("b", TOLD, Heard({"$SYS/brokers/emqx@127.0.0.1/version": "5.8.0"}), "EMQX"),
        ("b", Terms(), Heard(AEDES, qos=2), "Aedes"),
        ("b", Terms(), Heard(qos=2, takes_spaces=False), "NATS"),
        ("b", Terms(), Heard(qos=1), "RabbitMQ"),
        ("b", RABBITMQ, Heard(qos=1), "RabbitMQ"),
        (AWS, RABBITMQ, Heard(qos=1), "AWS IoT Core"),
        ("site.westeurope-1.ts.eventgrid.azure.net", TOLD, Heard(qos=1), "Azure Event Grid"),
        ("b", TOLD, Heard(qos=2), None),
        ("b", Terms(), Heard(qos=2), None),
        ("b", Terms(), Heard(), None),
        ("b", Terms(), Heard({"$SYS/broker/version": "aMQTT version 0.11"}, qos=1), None),
        ("iot.amazonaws.com.example.org", TOLD, Heard(), None),
    ],
)
def test_a_broker_is_named(host: str, terms: Terms, heard: Heard, kind: str | None) -> None:
    """By its own words, its address, or answers that only it gives; never one for another."""
    named = name(Seen(host, terms.told, terms, heard))
    assert (named and named.kind.name) == kind


@pytest.mark.parametrize(
    ("terms", "asked_s", "state", "said"),
    [
        (TOLD, 604_800, "ok", ""),
        (Terms(told=True, session_expiry_s=3600), 604_800, "warn", "keep sessions for as long as broker.ses"),
        (Terms(told=True, maximum_qos=0), 604_800, "warn", "let it take QoS 1"),
        (Terms(told=True, maximum_qos=1), 604_800, "ok", ""),
        (Terms(told=True, packet_bytes=999), 604_800, "warn", "packets of 1,000 bytes"),
        (Terms(told=True, packet_bytes=1000), 604_800, "ok", ""),
        (Terms(told=True, retains=False), 604_800, "warn", "let it keep retained messages"),
        (Terms(told=True, shares=False), 604_800, "ok", ""),
        (Terms(), 604_800, "ok", ""),
    ],
)
def test_what_is_less_than_wanted_has_advice(terms: Terms, asked_s: int, state: str, said: str) -> None:
    """Each limit that weakens a promise is a warning with what to do; others are told."""
    seen = Seen("b", terms.told, terms, Heard(qos=1))
    finding = judge_terms("broker", seen, asked_s=asked_s, retains=True, row_bytes=1000)
    assert (finding.state, said in finding.advice, bool(finding.advice)) == (state, True, state == "warn")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_what_is_known_of_a_kind(kind: object) -> None:
    """Every limit of a kind is told with its own source, and is a warning for whom it meets."""
    (kind,) = [each for each in KINDS if each is kind]
    seen = name(Seen("b", speaks_5=False, terms=Terms(), heard=Heard(qos=1)))
    assert seen is not None
    alone = judge_kind("broker", seen._replace(kind=kind), shared=False)
    shared = judge_kind("broker", seen._replace(kind=kind), shared=True)
    lines = shared.found.splitlines()[1:]
    measured = [line for line in lines if line.endswith(" (measured by `make brokers`)")]
    assert [any(word in line for line in measured) for word in MEASURED.get(kind.name, ())] == [True] * len(
        measured
    )
    assert len(lines) - len(measured) == sum("(from its documents, not measured)" in line for line in lines)
    assert len(lines) == len(kind.known)
    assert (alone.state == "warn") is any(known.warns == "always" for known in kind.known)
    assert (shared.state == "warn") is any(known.warns for known in kind.known)
    assert alone.facts["kind"] == kind.name
