"""mosquitto's files: who may connect, and who may do what.

Devices have a listener of their own, on which a client id is the device's name: with another's it could end
the gateway's session, and everything that waits in it. Gateway and projector, which have several sessions
each, come in by one that asks for a certificate besides the password.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from contract.topics import all_streams, devices_topic, limits_topic
from gateway.init.answers import sparkplug_below
from gateway.init.texts import filled, text
from gateway.sparkplug.topics import NAMESPACE, state_topic

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateway.init.answers import Answers

_STORE: Final = "persistence_location /var/lib/mosquitto/\n"
_DROPS: Final = ("$SYS/broker/version", "$SYS/broker/uptime", "$SYS/broker/publish/messages/dropped")


def configuration(answers: Answers, folder: str) -> str:
    """`mosquitto.conf`.

    Args:
        answers: what the site is like.
        folder: where its files are.
    """
    inner = f"{answers.inner_port} 127.0.0.1" if answers.on_loopback else answers.inner_port
    outer = f"{answers.port} {answers.bind}".rstrip()
    listeners = filled("listeners.conf", folder=folder, outer=outer, inner=inner)
    limits = text("mosquitto.conf")
    assert _STORE in limits
    return listeners + limits.replace(_STORE, f"persistence_location {folder}/data/\n")


def rules(answers: Answers) -> str:
    """`acl`: what is not allowed here is not allowed."""
    devices = answers.below + (sparkplug_below() if answers.sparkplug else [])
    lines = [
        "# Who may do what at the broker, made by `gateway init`. What is not allowed here is not allowed.",
        "# The topics of another route want a line for devices, and one for the gateway.",
        "",
        "# Devices: each below its own name.",
        *(f"pattern write {below}" for below in devices),
    ]
    if answers.sparkplug:
        lines += [
            *(f"pattern read {NAMESPACE}/+/{kind}" for kind in ("NCMD/%u", "DCMD/%u/+")),
            f"pattern read {NAMESPACE}/STATE/+",
        ]
    lines += [
        "",
        "# Hears devices, and what the broker counts; nobody else writes rows.",
        "user gateway",
        *(f"topic read {below.replace('%u', '+')}" for below in devices),
        *(f"topic read {topic}" for topic in _DROPS),
        f"topic deny {devices_topic(answers.events)}",
        f"topic write {all_streams(answers.events)}",
        f"topic write {all_streams(answers.events)}/check",
    ]
    if answers.sparkplug:
        lines += [
            f"topic readwrite {state_topic(answers.sparkplug)}",
            f"topic write {NAMESPACE}/+/NCMD/+",
        ]
    lines += [
        "",
        "# Reads rows; tells who is silent and what is beyond limits.",
        "user projector",
        f"topic read {all_streams(answers.events)}",
        f"topic write {devices_topic(answers.events)}",
        f"topic write {limits_topic(answers.events)}",
        "",
    ]
    return "\n".join(lines)


def passwords(hashes: Mapping[str, str]) -> str:
    """`passwords`: name → what `words.for_mosquitto` made."""
    return "".join(f"{name}:{hashed}\n" for name, hashed in hashes.items())


def read_passwords(passwords_file: str) -> dict[str, str]:
    """The other way round; lines that are none are left out."""
    return dict(line.split(":", 1) for line in passwords_file.splitlines() if ":" in line)
