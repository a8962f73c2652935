"""Opening the connections of one session: which driver carries the next, and what it is told.

`auto` begins every attempt with MQTT 5. A broker that refuses the version is believed at once. One that
closes without an answer to CONNECT, as RabbitMQ before 3.13 does, or keeps silent, as amqtt does, may be a
balancer whose broker is just starting: it is asked once more before an MQTT 3.1.1 CONNECT is tried in the
same attempt, and as long as the session rests on such a guess `speaks_mqtt5` can be asked again. That uses a
client id of its own, because the session's own would end its connection.

Secrets and certificates that are files are read anew for every connection, so that one that was changed is
used without a restart. So are names: each connection looks them up. A broker with several addresses is tried
at the next one after each attempt that failed, and stays where it answers.
"""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
from typing import TYPE_CHECKING, Final, cast

from runtime.errors import ConfigurationError, Retry
from runtime.mqtt.aiomqtt import open_aiomqtt
from runtime.mqtt.connection import NotMqtt5, Refused
from runtime.mqtt.mqtt5 import open_mqtt5
from runtime.mqtt.mqtt311 import open_mqtt311
from runtime.mqtt.port import Disconnected
from runtime.secret import current

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from runtime.mqtt.connection import Connection, ReceivedChunk
    from runtime.mqtt.port import Qos, SessionOptions

    Deliver = Callable[[ReceivedChunk], None]

_NO_RETAIN: Final = 0x9A  # of CONNACK, because of the will (MQTT5 §3.2.2.2)
_NO_QOS: Final = 0x9B


async def _open_mqtt5(options: SessionOptions, deliver: Deliver) -> Connection:
    """By MQTT 5, with the will unretained or with less quality of service where the broker says so."""
    while True:
        will = options.will
        try:
            return await open_mqtt5(options, deliver)
        except Refused as refused:
            if will is not None and will.retain and refused.code == _NO_RETAIN:
                less = dataclasses.replace(will, retain=False)
            elif will is not None and will.qos and refused.code == _NO_QOS:
                less = dataclasses.replace(will, qos=cast("Qos", will.qos - 1))
            else:
                raise
            options = dataclasses.replace(options, will=less)


_NAMED: Mapping[str, Callable[[SessionOptions, Deliver], Awaitable[Connection]]] = {
    "mqtt5": _open_mqtt5,
    "mqtt311": open_mqtt311,
    "aiomqtt": open_aiomqtt,
}


class Opener:
    """Opens connections, one after the other.

    Attributes:
        fallback: why the connection opened last is not by MQTT 5 although that was tried; None when it was
            not, or is. While it is not None one silence more is enough.
    """

    def __init__(self, options: SessionOptions) -> None:
        self._options = options
        self._addresses = ((options.host, options.port), *options.others)
        self._at = 0
        self.fallback: NotMqtt5 | None = None

    @property
    def guesses(self) -> bool:
        """Whether MQTT 3.1.1 was chosen without a word of the broker against MQTT 5."""
        return self.fallback is not None and not self.fallback.told

    @property
    def address(self) -> str:
        """Where the last attempt went, or the next will when that failed."""
        return "{}:{}".format(*self._addresses[self._at])

    async def open(self, deliver: Deliver) -> Connection:
        """Open a connection.

        Raises:
            Disconnected: the broker cannot be reached, refuses, or a secret cannot be read.
        """
        try:
            return await self._open(deliver)
        except Disconnected as error:
            if len(self._addresses) == 1:
                raise
            tried = self.address
            self._at = (self._at + 1) % len(self._addresses)
            error.reason = f"{tried}: {error.reason}"
            raise

    def _here(self) -> SessionOptions:
        host, port = self._addresses[self._at]
        return dataclasses.replace(self._options, host=host, port=port)

    async def _open(self, deliver: Deliver) -> Connection:
        options = _fresh(self._here())
        driver = "aiomqtt" if options.transport == "websockets" else options.driver
        if driver != "auto":
            return await _NAMED[driver](options, deliver)
        try:
            by_mqtt5 = await _open_mqtt5(options, deliver)
        except NotMqtt5 as refusal:
            why = refusal
        else:
            self.fallback = None
            return by_mqtt5
        if not why.told and self.fallback is None:
            await asyncio.sleep(options.backoff_initial_s)
            try:
                return await _open_mqtt5(options, deliver)
            except NotMqtt5 as refusal:
                why = refusal
        connection = await open_mqtt311(options, deliver)
        self.fallback = why
        return connection

    async def speaks_mqtt5(self) -> bool:
        """Ask whether the broker takes an MQTT 5 CONNECT; one refused in the words of MQTT 5 is a yes."""
        try:
            options = _fresh(dataclasses.replace(self._here(), make_will=None))
            probe = f"{options.client_id[:100]}-probe-{secrets.token_hex(4)}"
            options = dataclasses.replace(
                options, client_id=probe, clean_start=True, session_expiry_s=0, will=None
            )
            connection = await open_mqtt5(options, lambda _: None)
        except Refused:
            return True
        except Disconnected:
            return False
        await connection.close()
        return True


def _fresh(options: SessionOptions) -> SessionOptions:
    """The options with what stands in files now.

    Raises:
        Disconnected: a file cannot be used; it names it.
    """
    try:
        password = None if options.password is None else current(options.password, "broker")
        tls = options.make_tls() if options.make_tls else options.tls
    except Retry as error:
        raise Disconnected(error.reason) from error
    except ConfigurationError as error:
        raise Disconnected(str(error)) from error
    will = options.make_will() if options.make_will else options.will
    return dataclasses.replace(options, password=password, tls=tls, will=will)
