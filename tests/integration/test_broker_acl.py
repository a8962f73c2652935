"""The broker's list of who may do what, as mosquitto itself understands it."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import aiomqtt
import pytest

from deploy.local import servers
from deploy.local.services import LocalServices

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

ACL = servers.MOSQUITTO_CONF.with_name("mosquitto.acl")
EVERYTHING = "\nuser everybody\ntopic readwrite #\ntopic readwrite $SYS/#\n"
USERS = ("gateway", "projector", "pump-7", "everybody")
ROW, DEVICES, LIMITS = "gateway/events/v1/0", "gateway/events/v1/devices", "gateway/events/v1/devices/limits"
OTHER_INTERNAL, HOST = "gateway/x", "spBv1.0/STATE/site"
OWN, OTHERS = "devices/pump-7/telemetry", "devices/pump-8/telemetry"
TOPICS = (ROW, DEVICES, LIMITS, OTHER_INTERNAL, HOST, OWN, OTHERS)
DROPPED = "$SYS/broker/publish/messages/dropped"
ALL_BUT_INTERNAL = {HOST, OWN, OTHERS}
BROAD = ("#", "$SYS/#")
# Other ways to the same: a rule that goes by the filter and not by the topic would let them pass.
ROUNDABOUT = ("$share/thieves/#", "$share/thieves/gateway/events/v1/+", "+/+/+/0", "gateway/#", ROW)


async def answers(server: servers.Mosquitto) -> None:
    """Whether the broker listens, whoever it lets in."""
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.close()
    await writer.wait_closed()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that mosquitto can read, which gives root's rights up."""
    with TemporaryDirectory(prefix="edge-acl-") as name:
        path = Path(name)
        path.chmod(0o755)
        (path / "passwords").touch()
        for user in USERS:
            command = ["mosquitto_passwd", "-b", str(path / "passwords"), user, f"word of {user}"]
            subprocess.run(command, check=True)
        (path / "passwords").chmod(0o644)
        yield path


@pytest.fixture(params=["anonymous", "passwords"])
async def broker(
    request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[int, bool]]:
    """A port, and whether devices have passwords: the repository's own files with what they advise."""
    closed = request.param == "passwords"
    rules = ACL.read_text(encoding="utf-8")
    config = servers.MOSQUITTO_CONF.read_text(encoding="utf-8")
    if closed:
        anonymous = "topic readwrite #\ntopic deny gateway/#\n"
        assert anonymous in rules
        rules = rules.replace(anonymous, "").replace("# pattern readwrite", "pattern readwrite")
        config = config.replace("\nallow_anonymous true\n", "\nallow_anonymous false\n")
    (folder / "acl").write_text(rules + EVERYTHING, encoding="utf-8")
    config += f"\nacl_file {folder}/acl\npassword_file {folder}/passwords\n"
    (folder / "mosquitto.conf").write_text(config, encoding="utf-8")
    monkeypatch.setattr(servers, "MOSQUITTO_CONF", folder / "mosquitto.conf")
    monkeypatch.setattr(servers.Mosquitto, "round_trip", answers)
    async with LocalServices(["mosquitto"], environ={}) as own:
        yield own.mqtt_port, closed


def connect(port: int, user: str) -> aiomqtt.Client:
    """A client of the broker; the empty user is anonymous."""
    return aiomqtt.Client(
        "127.0.0.1",
        port,
        username=user or None,
        password=f"word of {user}" if user else None,
        protocol=aiomqtt.ProtocolVersion.V5,
    )


async def writes(port: int, user: str) -> set[str]:
    """The topics on which a user publishes and is heard."""
    heard = set()
    async with connect(port, "everybody") as listener, connect(port, user) as client, asyncio.timeout(20):
        await listener.subscribe("#", qos=1)
        for topic in TOPICS:
            await client.publish(topic, b"x", qos=1)
        await listener.publish("end", b"x", qos=1)
        async for message in listener.messages:
            if message.topic.matches("end"):
                break
            heard.add(str(message.topic))
    return heard


async def reads(port: int, user: str, end: str) -> set[str]:
    """The topics of which a user gets what is published, before what comes on a topic that he may read."""
    heard = set()
    async with connect(port, "everybody") as publisher, connect(port, user) as client, asyncio.timeout(20):
        await client.subscribe([(each, 1) for each in (*BROAD, *ROUNDABOUT)])
        for topic in (*TOPICS, end):
            await publisher.publish(topic, b"x", qos=1)
        async for message in client.messages:
            if message.topic.matches(end):
                break
            if not message.topic.matches("$SYS/#") or message.topic.matches(DROPPED):
                heard.add(str(message.topic))
    return heard


async def test_who_may_do_what(broker: tuple[int, bool]) -> None:
    """Devices neither write nor read the internal topic; one with a password has what is its own alone."""
    port, closed = broker
    assert await writes(port, "gateway") == {ROW, DEVICES, LIMITS, HOST}
    assert await reads(port, "gateway", "end") == {*TOPICS, DROPPED}
    assert await writes(port, "projector") == {DEVICES, LIMITS}
    assert await reads(port, "projector", "gateway/events/v1/9") == {ROW, DEVICES, LIMITS}
    if closed:
        assert await writes(port, "pump-7") == {OWN}
        assert await reads(port, "pump-7", "devices/pump-7/commands") == {OWN}
        with pytest.raises(aiomqtt.MqttCodeError, match=r"(?i)not authori[sz]ed"):
            await writes(port, "")
    else:
        assert await writes(port, "") == ALL_BUT_INTERNAL
        assert await reads(port, "", "end") == ALL_BUT_INTERNAL
        assert await writes(port, "pump-7") == set()
