"""Which server of Redis to connect to, where several stand in for one another.

All our keys are in one slot of a Redis Cluster, as `redis.prefix` sees to, so of a cluster as of servers that
sentinels watch there is one at a time that has them. A client of it is one of a single server, scripts,
transactions and all, whose connections ask anew where that is each time that they connect: the sentinels, or
the nodes of the cluster. When a server says that it is not the one, all its connections are given up.

Nobody reads from a replica: a server that says to be one is not connected to. While a slot is being moved
from node to node its keys are on both, and nothing is asked of the second (ASK): a script there would take
what has not arrived for lost (ADR 0030). The first refuses what needs both, so it is waited for.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import redis.asyncio
from redis import exceptions
from redis.asyncio.connection import SSLConnection
from redis.crc import key_slot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runtime.settings.addresses import RedisUrl

_ASKING_S: Final = 2.0  # a host that is off answers nothing at all, and the next may know
_ANOTHERS: Final = (exceptions.MovedError, exceptions.ReadOnlyError, exceptions.ClusterDownError)


class Address(NamedTuple):
    """Of a server."""

    host: str
    port: int


class Servers:
    """Knows whom to ask, and which server has our keys.

    Args:
        url: of a cluster, or of sentinels.
        prefix: what all our keys begin with.
        options: of a connection to one of the servers.

    Attributes:
        at: which it was when asked last.
        turn: goes up when a server says that it is not the one any more.
    """

    def __init__(self, url: RedisUrl, prefix: str, options: Mapping[str, Any]) -> None:
        self.at: Address | None = None
        self.turn = 0
        self._told: Address | None = None
        self._hosts = deque(Address(*each) for each in url.hosts)
        self._seeds = tuple(self._hosts)
        self._options = {**options, "socket_timeout": _ASKING_S, "socket_connect_timeout": _ASKING_S}
        self._class = self._options.pop("connection_class", redis.asyncio.Connection)
        self._slot = key_slot(prefix.encode())
        self._service = url.service
        self._ask: Callable[[Any, Address], Address | None] = self._owner
        self._question = ["CLUSTER SLOTS"]
        self._who = f"the owner of slot {self._slot}, of keys {prefix}*"
        if url.kind == "sentinel":
            for name in ("db", "credential_provider", "username", "password"):
                self._options.pop(name, None)
            user, password = url.sentinels
            self._options |= {"username": user or None, "password": password or None}
            self._ask = self._master
            self._question = ["SENTINEL GET-MASTER-ADDR-BY-NAME", url.service]
            self._who = f"the master of {url.service}"

    async def find(self) -> Address:
        """Ask which server has our keys.

        Raises:
            ConnectionError: nobody knows, with what each said; AuthenticationError when none let us in.
        """
        found, self._told = self._told, None
        reasons, errors = [], []
        for host in tuple(self._hosts):
            if found is not None:
                break
            try:
                found = self._ask(await self._answer(host), host)
                reason = "does not know"
            except (exceptions.RedisError, OSError, ValueError) as error:
                errors.append(error)
                reason = " ".join(str(error).split()) or type(error).__name__
            if found is None:
                reasons.append(f"{host.host}:{host.port} {reason}")
                self._hosts.rotate(-1)
        if found is None:
            locked_out = all(isinstance(error, exceptions.AuthenticationError) for error in errors)
            kind = exceptions.AuthenticationError if locked_out and errors else exceptions.ConnectionError
            raise kind(f"nobody says who is {self._who}: {'; '.join(reasons)}")
        self.at = found
        return found

    def doubt(self, turn: int, told: Address | None = None) -> None:
        """Take the word of a server that is not the one.

        Args:
            turn: when it was connected to; of an earlier one its word is old.
            told: which one is, if it said so.
        """
        if turn == self.turn:
            self.turn += 1
            self._told = told
            self._hosts.rotate(-1)  # whoever named it may be cut off from the others

    async def _answer(self, host: Address) -> Any:  # noqa: ANN401  # a reply
        connection = self._class(**{**self._options, "host": host.host, "port": host.port})
        try:
            await connection.connect()
            await connection.send_command(*self._question)
            return await connection.read_response()
        finally:
            await connection.disconnect()

    def _master(self, reply: Any, _asked: Address) -> Address | None:  # noqa: ANN401  # a reply
        return None if reply is None else _address(*reply)

    def _owner(self, reply: Any, asked: Address) -> Address | None:  # noqa: ANN401  # a reply
        """Of ranges of slots, each with its first and last, its master and that one's replicas."""
        found, nodes = None, [asked]
        for first, last, *servers in reply:
            its = [_address(each[0] or asked.host, each[1]) for each in servers]
            nodes += its
            if first <= self._slot <= last:
                found = its[0]
        self._hosts = deque(dict.fromkeys([*nodes, *self._seeds]))
        return found


class Found(redis.asyncio.Connection):
    """A connection to the server that has our keys at the time.

    Args:
        servers: know which one that is.
        options: as any connection has them.
    """

    def __init__(self, *, servers: Servers, **options: Any) -> None:  # noqa: ANN401  # the library's
        super().__init__(**options)
        self._servers = servers
        self._turn = servers.turn

    async def connect(self) -> None:
        """Connect, unless that is done and the server is still the one."""
        if self._turn != self._servers.turn:
            await self.disconnect()
        await super().connect()  # type: ignore[no-untyped-call]  # ships it untyped

    async def _connect(self) -> None:
        self._turn = self._servers.turn
        self.host, self.port = await self._servers.find()
        await super()._connect()  # type: ignore[no-untyped-call]  # the same

    async def on_connect_check_health(self, check_health: bool = True) -> None:  # noqa: FBT001, FBT002  # the library's
        """Log in, and see that it is a master; who may not ask finds that out when it writes."""
        await super().on_connect_check_health(check_health=check_health)
        await self.send_command("INFO", "replication", check_health=False)
        try:
            reply = await self.read_response()
        except exceptions.NoPermissionError:
            return
        if b"role:master" not in (reply.encode() if isinstance(reply, str) else bytes(reply)):
            self._servers.doubt(self._turn)
            raise exceptions.ConnectionError(f"{self.host}:{self.port} is a replica, until a master is known")

    async def read_response(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401  # a reply
        """Read a reply, and listen to one that says that our keys are elsewhere."""
        try:
            return await super().read_response(*arguments, **options)
        except _ANOTHERS as error:
            told = None
            if isinstance(error, exceptions.MovedError):
                told = Address(error.host or self.host, error.port)
            self._servers.doubt(self._turn, told)
            raise


class FoundWithTls(Found, SSLConnection):
    """The same, encrypted."""


def _address(host: bytes | str, port: bytes | str | int) -> Address:
    return Address(host.decode() if isinstance(host, bytes) else host, int(port))
