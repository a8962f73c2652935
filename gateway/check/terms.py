"""What a broker allows, as it told by its answers, and what is known of its kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.check.report import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.check.kinds import Named, Seen
    from runtime.mqtt.terms import Terms


def judge_terms(section: str, seen: Seen, *, asked_s: int, retains: bool, row_bytes: int) -> Finding:
    """What the broker allows; a warning where that is less than a gateway wants.

    Args:
        section: `broker` or `events`.
        seen: what it has told.
        asked_s: how long a session was to be kept.
        retains: whether the configuration has retained messages to publish.
        row_bytes: of the largest row of the outbox that goes there, about; 0 when none does.
    """
    terms = seen.terms
    if not terms.told:
        qos = "" if seen.heard.qos is None else f"; it grants QoS {seen.heard.qos}"
        untold = f"MQTT 3.1.1 does not tell how long sessions last and how much it takes{qos}"
        return Finding(f"{section} limits", "ok", untold, facts=_facts(seen))
    lasts = asked_s if terms.session_expiry_s is None else terms.session_expiry_s
    found = [
        f"sessions of {lasts:,} s" + ("" if terms.session_expiry_s is None else f" instead of {asked_s:,} s"),
        f"QoS {terms.maximum_qos}",
        f"packets of {terms.packet_bytes:,} bytes" if terms.packet_bytes else "packets of any size",
        f"{terms.receive_maximum:,} under way",
        f"retained messages: {_yes(terms.retains)}",
        f"$share: {_yes(terms.shares)}",
    ]
    advice = list(_advice(terms, retains=retains, row_bytes=row_bytes))
    return Finding(
        f"{section} limits", "warn" if advice else "ok", ", ".join(found), "; ".join(advice), _facts(seen)
    )


def _advice(terms: Terms, *, retains: bool, row_bytes: int) -> Iterator[str]:
    if terms.session_expiry_s is not None:
        yield (
            "let it keep sessions for as long as broker.session_expiry: what comes while a gateway is away "
            "for longer is lost"
        )
    if not terms.maximum_qos:
        yield "let it take QoS 1: below it messages are lost whenever a connection is"
    if 0 < terms.packet_bytes < row_bytes:
        yield (
            f"let it take packets of {row_bytes:,} bytes, or set gateway.batch_bytes lower: larger rows "
            "reach projectors by PostgreSQL alone, a moment later"
        )
    if retains and not terms.retains:
        yield (
            "let it keep retained messages: edge nodes that come later do not learn that "
            "sparkplug.host_id is online"
        )


def judge_kind(section: str, named: Named, *, shared: bool) -> Finding:
    """What is known of the broker's kind, and whence; a warning where it meets the configuration."""
    kind = named.kind
    warned = [
        known for known in kind.known if known.warns == "always" or (known.warns == "shared" and shared)
    ]
    shown = warned + [known for known in kind.known if not known.warns]
    lines = [f"{kind.name}, {named.by}:"]
    lines += [
        f"- {known.text}"
        + (f": {known.advice}" if known.advice and known not in warned else "")
        + (" (from its documents, not measured)" if known.read else " (measured by `make brokers`)")
        for known in shown
    ]
    return Finding(
        f"{section} kind",
        "warn" if warned else "ok",
        "\n".join(lines),
        "; ".join(dict.fromkeys(known.advice for known in warned)),
        {"kind": kind.name, "by": named.by, "read": sum(known.read for known in kind.known)},
    )


def _facts(seen: Seen) -> dict[str, str | int | bool | None]:
    terms = seen.terms
    if not terms.told:
        return {"maximum_qos": seen.heard.qos}
    return {
        "session_expiry_s": terms.session_expiry_s,
        "maximum_qos": terms.maximum_qos,
        "packet_bytes": terms.packet_bytes or None,
        "receive_maximum": terms.receive_maximum,
        "retains": terms.retains,
        "shares": terms.shares,
        "identifiers": terms.identifiers,
    }


def _yes(is_so: bool) -> str:  # noqa: FBT001  # one word of two
    return "yes" if is_so else "no"
