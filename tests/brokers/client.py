"""A client that others wrote (paho), so that what a broker promises is not judged by our own."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from paho.mqtt.client import Client as Paho
from paho.mqtt.client import MQTTMessage, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

if TYPE_CHECKING:
    from collections.abc import Callable

_ANSWER_S = 15.0
_STILL_S = 5.0
WEEK_S = 7 * 24 * 3600


class RefusedError(Exception):
    """The broker refused, or ended the connection without a word; the text is its reason."""


class Received(NamedTuple):
    """A message."""

    topic: str
    payload: bytes
    is_repeat: bool
    mid: int
    qos: int


class Client:
    """One session.

    Args:
        port: on 127.0.0.1.
        client_id: the session's.
        speaks_5: MQTT 5, else 3.1.1.
        clean: whether the session begins anew and ends with the connection; else it is to last a week.
        acks: whether what comes is acknowledged.
        inflight: messages that are published and not acknowledged, at most.

    Attributes:
        received: so far, in order.
        granted: what CONNACK said: properties of MQTT 5 by name.
        session_present: whether the broker had the session.
    """

    def __init__(
        self,
        port: int,
        client_id: str,
        *,
        speaks_5: bool,
        clean: bool = False,
        acks: bool = True,
        inflight: int = 10,
    ) -> None:
        self.received: list[Received] = []
        self.granted: dict[str, Any] = {}
        self.session_present = False
        self._port, self._clean, self._speaks_5 = port, clean, speaks_5
        self._changed = threading.Condition()
        self._code: Any = None
        self._answered: dict[int, bool] = {}
        self._subscribed: dict[int, list[Any]] = {}
        session: dict[str, Any] = {} if speaks_5 else {"clean_session": clean}
        protocol = MQTTv5 if speaks_5 else MQTTv311
        self._paho = Paho(
            CallbackAPIVersion.VERSION2,
            client_id,
            protocol=protocol,
            manual_ack=not acks,
            reconnect_on_failure=False,
            **session,
        )
        self._paho.max_inflight_messages_set(inflight)
        self._paho.on_connect = self._on_connect
        self._paho.on_message = self._on_message
        self._paho.on_publish = self._on_publish
        self._paho.on_subscribe = self._on_subscribe

    def connect(self) -> None:
        """Connect and wait for the answer.

        Raises:
            RefusedError: refused.
            OSError: nobody listens.
        """
        options: dict[str, Any] = {}
        if self._speaks_5:
            options["properties"] = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's
            options["properties"].SessionExpiryInterval = 0 if self._clean else WEEK_S
            options["clean_start"] = self._clean
        self._paho.connect("127.0.0.1", self._port, keepalive=60, **options)
        self._paho.loop_start()
        if not self._wait(
            lambda: self._code is not None or (not self._paho.is_connected() and self._ended())
        ):
            self._paho.loop_stop()
            raise RefusedError("no answer to CONNECT")
        if self._code is None or self._code.is_failure:
            self._paho.loop_stop()
            raise RefusedError(str(self._code or "the connection was closed"))

    def insist(self, timeout_s: float = 30.0) -> None:
        """Connect, and try again for a while.

        Raises:
            RefusedError: it did not work in time.
        """
        until = time.monotonic() + timeout_s
        while True:
            try:
                self.connect()
            except (RefusedError, OSError) as error:
                if time.monotonic() > until:
                    raise RefusedError(str(error)) from error
                self._code = None
                time.sleep(1)
            else:
                return

    def disconnect(self) -> None:
        """Leave, as one should."""
        self._paho.disconnect()
        self._paho.loop_stop()

    def drop(self) -> None:
        """Lose the connection without a word."""
        self._paho.loop_stop()
        socket = self._paho.socket()
        if socket is not None:
            socket.close()

    def subscribe(self, topic: str, qos: int = 1) -> int:
        """Subscribe; the quality of service that was granted.

        Raises:
            RefusedError: refused.
        """
        _, mid = self._paho.subscribe(topic, qos)
        assert mid is not None
        if not self._wait(lambda: mid in self._subscribed):
            raise RefusedError("no answer to SUBSCRIBE")
        code = self._subscribed[mid][0]
        if code.is_failure:
            raise RefusedError(str(code))
        return int(code.value)

    def publish(self, topic: str, payloads: list[bytes], timeout_s: float = 60.0) -> int:
        """Publish with QoS 1, and wait; how many were acknowledged, and not refused."""
        mids = [self._paho.publish(topic, payload, 1).mid for payload in payloads]
        self._wait(lambda: len(self._answered) >= len(mids), timeout_s)
        return sum(self._answered.get(mid, False) for mid in mids)

    def ack(self, received: Received) -> None:
        """Acknowledge by hand."""
        self._paho.ack(received.mid, received.qos)

    def wait_for(self, count: int, first_s: float = 20.0) -> None:
        """Wait until so many messages have come, or no more do.

        Args:
            count: of all that have come.
            first_s: how long until something comes; after it nothing may come for `_STILL_S`.
        """
        last = -1
        while last < len(self.received) < count:
            last = len(self.received)
            self._wait(lambda: len(self.received) >= count, _STILL_S if last else first_s)

    def _ended(self) -> bool:
        return not self._paho._thread or not self._paho._thread.is_alive()  # it has no other sign

    def _wait(self, condition: Callable[[], bool], timeout_s: float = _ANSWER_S) -> bool:
        until = time.monotonic() + timeout_s
        with self._changed:
            while not condition():
                left = until - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(min(left, 0.1))
            return True

    def _tell(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _on_connect(self, _client: Any, _data: Any, flags: Any, code: Any, properties: Any) -> None:  # noqa: ANN401  # paho's
        self.session_present = bool(flags.session_present)
        self.granted = properties.json() if properties is not None else {}
        self._code = code
        self._tell()

    def _on_message(self, _client: Any, _data: Any, message: MQTTMessage) -> None:  # noqa: ANN401  # paho's
        self.received.append(
            Received(message.topic, bytes(message.payload), bool(message.dup), message.mid, message.qos)
        )
        self._tell()

    def _on_publish(self, _client: Any, _data: Any, mid: int, code: Any, _properties: Any) -> None:  # noqa: ANN401  # paho's
        self._answered[mid] = not code.is_failure
        self._tell()

    def _on_subscribe(self, _client: Any, _data: Any, mid: int, codes: list[Any], _properties: Any) -> None:  # noqa: ANN401  # paho's
        self._subscribed[mid] = codes
        self._tell()
