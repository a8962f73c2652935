"""A Redis Cluster, and a master with a replica that a sentinel watches, each on ports of its own."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import chain, count
from typing import TYPE_CHECKING, Any, Final, TypeVar

from redis.asyncio import Redis as Client
from redis.crc import key_slot
from redis.exceptions import ConnectionError  # noqa: A004  # the one that Redis has

from contract.redis_rights import REDIS_USERS
from deploy.local.server import reserve_port
from deploy.local.servers import Redis

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from deploy.local.server import Place

PREFIX: Final = "{edge}:"
SLOT: Final = key_slot(PREFIX.encode())
SERVICE: Final = "edge"
USER: Final = "projector"

_WORD: Final = "word-of-everybody"
_PEERS: Final = {
    "replica": "resetchannels -@all +psync +replconf +ping",
    "sentinel": "resetchannels &__sentinel__:hello -@all +multi +exec +slaveof +ping +info +role +publish "
    "+subscribe +config|rewrite +client|setname +client|kill +script|kill",
}
_SENTINELS_WORD: Final = "word-of-sentinels"
_SLOTS: Final = 16384
_MASTERS: Final = 3
_TIMEOUT_MS: Final = 500  # so long a node is silent before the others take it for dead
_numbers: Final = count()

N = TypeVar("N", bound="Node")


class Node(Redis):
    """A Redis among others.

    Args:
        options: of its command line, beside those of a server alone.
    """

    databases = 16

    def __init__(self, binary: Path, place: Place, **options: str) -> None:
        self.name = f"redis-{next(_numbers)}"
        super().__init__(binary, place)
        self.bus = reserve_port()
        self._options = options

    def command(self) -> list[str]:
        """Its command line; a replica is whole at once, whatever a master would wait for."""
        options = {"repl-diskless-sync-delay": "0", "masteruser": "replica", "masterauth": _WORD}
        options |= self._options
        if "cluster-enabled" in options:
            options |= {"databases": "1", "cluster-port": str(self.bus.getsockname()[1])}
        words = (word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value))
        rules = {USER: REDIS_USERS[USER].rules(PREFIX), **_PEERS}
        users = (("--user", name, "on", f">{_WORD}", *its.split()) for name, its in rules.items())
        return [*super().command(), *words, *chain.from_iterable(users)]

    async def release(self) -> None:
        """End it, and give its ports up."""
        await super().release()
        self.bus.close()

    async def ask(self, *words: str | int) -> Any:  # noqa: ANN401  # a reply
        """Send one command and return its answer."""
        async with Client.from_url(self.url(), decode_responses=True) as client:
            return await client.execute_command(*words)  # type: ignore[no-untyped-call]  # ships it untyped


class TlsNode(Node):
    """One that takes TLS alone.

    Args:
        certificates: a folder with `ca.crt`, `server.crt` and `server.key`.
    """

    def __init__(self, binary: Path, place: Place, certificates: Path, **options: str) -> None:
        super().__init__(binary, place, **options)
        self.certificates = certificates
        self._options |= {
            "port": "0",
            "tls-port": str(self.port),
            "tls-cert-file": str(certificates / "server.crt"),
            "tls-key-file": str(certificates / "server.key"),
            "tls-ca-cert-file": str(certificates / "ca.crt"),
            "tls-auth-clients": "no",
            "tls-cluster": "yes",
        }

    def url(self, database: int = 0) -> str:
        """How to reach it."""
        url = super().url(database).replace("redis:", "rediss:")
        return f"{url}?ssl_ca_certs={self.certificates / 'ca.crt'}"


class Sentinel(Node):
    """Watches a master and its replicas, alone."""

    def __init__(self, binary: Path, place: Place, master: Node) -> None:
        super().__init__(binary, place)
        self._master = master

    def prepare(self) -> None:
        """Write its configuration, into which it writes what it finds."""
        path = self.folder / "sentinel.conf"
        path.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self.folder}\nrequirepass {_SENTINELS_WORD}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {self._master.port} 1\n"
            f"sentinel auth-user {SERVICE} sentinel\nsentinel auth-pass {SERVICE} {_WORD}\n"
            f"sentinel down-after-milliseconds {SERVICE} {_TIMEOUT_MS}\n"
            f"sentinel failover-timeout {SERVICE} 3000\n",
            encoding="utf-8",
        )
        path.chmod(0o666)

    def command(self) -> list[str]:
        """Run in the foreground."""
        return [str(self.binary), str(self.folder / "sentinel.conf"), "--sentinel"]

    def url(self, database: int = 0) -> str:
        """How to reach it with its password; it has no databases."""
        return super().url(database).replace("://", f"://:{_SENTINELS_WORD}@")


class Cluster:
    """Three masters, of which one has the keys, and a replica of that one.

    Attributes:
        masters: those at first; `owner` is the one that has the keys then.
        replica: of the owner.
    """

    def __init__(self, masters: list[Node], replica: Node) -> None:
        self.masters = masters
        self.replica = replica
        self.owner = masters[SLOT * _MASTERS // _SLOTS]
        self.others = [node for node in masters if node is not self.owner]
        self._url = f"redis+cluster://{','.join(f'127.0.0.1:{node.port}' for node in self.others)}/"

    @property
    def url(self) -> str:
        """Of nodes that have not the keys."""
        return self._url.replace("://", f"://{USER}:{_WORD}@")

    async def form(self) -> None:
        """Make one of them, and wait until all know all."""
        nodes = [*self.masters, self.replica]
        first = nodes[0]
        for epoch, node in enumerate(nodes, start=1):
            await node.ask("CLUSTER", "SET-CONFIG-EPOCH", epoch)
        for number, node in enumerate(self.masters):
            ends = [-(-_SLOTS * each // _MASTERS) for each in (number, number + 1)]
            await node.ask("CLUSTER", "ADDSLOTSRANGE", ends[0], ends[1] - 1)
        for node in nodes[1:]:
            await node.ask("CLUSTER", "MEET", "127.0.0.1", first.port, first.bus.getsockname()[1])
        for node in nodes:
            await until(node, "CLUSTER INFO", f"cluster_known_nodes:{len(nodes)}")
        await self.replica.ask("CLUSTER", "REPLICATE", await self.owner.ask("CLUSTER", "MYID"))
        await until(self.replica, "INFO replication", "'master_link_status': 'up'")
        for node in nodes:
            await until(node, "CLUSTER INFO", "cluster_state:ok")
            await until(node, "CLUSTER NODES", f"slave {await self.owner.ask('CLUSTER', 'MYID')}")

    async def fail_over(self, *, lacking: Callable[[], Awaitable[object]]) -> None:
        """Kill the owner, and wait until its replica has taken over, without what was written last.

        Args:
            lacking: does that.
        """
        await fall_behind(self.owner, self.replica)
        await lacking()
        await self.owner.kill()
        await until(self.replica, "ROLE", "master")
        self.masters = [*self.others, self.replica]
        self.owner = self.replica

    async def begin_move(self, to: Node) -> None:
        """Have the slot of the keys taken from the owner, key by key."""
        await to.ask("CLUSTER", "SETSLOT", SLOT, "IMPORTING", await self.owner.ask("CLUSTER", "MYID"))
        await self.owner.ask("CLUSTER", "SETSLOT", SLOT, "MIGRATING", await to.ask("CLUSTER", "MYID"))

    async def move(self, to: Node, *keys: str) -> None:
        """Move some keys of the slot, or all that are left of them."""
        while some := list(keys) or await self.owner.ask("CLUSTER", "GETKEYSINSLOT", SLOT, 1000):
            await self.owner.ask("MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS", *some)
            if keys:
                return

    async def end_move(self, to: Node) -> None:
        """Give the slot to the node that has its keys."""
        number = await to.ask("CLUSTER", "MYID")
        for node in (to, *(each for each in self.masters if each is not to)):
            await node.ask("CLUSTER", "SETSLOT", SLOT, "NODE", number)
        self.owner = to


@asynccontextmanager
async def open_cluster(binary: Path, place: Place) -> AsyncIterator[Cluster]:
    """Start a cluster; ends it on leaving."""
    options = {
        "cluster-enabled": "yes",
        "cluster-node-timeout": str(_TIMEOUT_MS),
        "cluster-require-full-coverage": "no",
    }
    async with AsyncExitStack() as stack:
        nodes = [await _started(stack, Node(binary, place, **options)) for _ in range(_MASTERS + 1)]
        cluster = Cluster(nodes[:_MASTERS], nodes[_MASTERS])
        await cluster.form()
        yield cluster


class Watched:
    """A master, its replica, and the sentinel that watches them."""

    def __init__(self, master: Node, replica: Node, sentinel: Sentinel) -> None:
        self.master = master
        self.replica = replica
        self.sentinel = sentinel
        self._nobody = reserve_port()

    @property
    def url(self) -> str:
        """Of a sentinel that is away and the one that is there."""
        away, port = self._nobody.getsockname()[1], self.sentinel.port
        hosts, password = f"127.0.0.1:{away},127.0.0.1:{port}", f"sentinel_password={_SENTINELS_WORD}"
        return f"redis+sentinel://{USER}:{_WORD}@{hosts}/{SERVICE}/1?{password}"

    async def fail_over(self, *, lacking: Callable[[], Awaitable[object]]) -> None:
        """Kill the master, and wait until the replica has taken over, as `Cluster.fail_over` does."""
        await fall_behind(self.master, self.replica)
        await lacking()
        await self.master.kill()
        await until(self.replica, "ROLE", "master")

    def close(self) -> None:
        """Give the port up that nobody listens on."""
        self._nobody.close()


@asynccontextmanager
async def open_watched(binary: Path, place: Place) -> AsyncIterator[Watched]:
    """Start a master with a replica and a sentinel; ends them on leaving."""
    async with AsyncExitStack() as stack:
        master = await _started(stack, Node(binary, place))
        replica = await _started(stack, Node(binary, place, replicaof=f"127.0.0.1 {master.port}"))
        await until(replica, "INFO replication", "'master_link_status': 'up'")
        sentinel = await _started(stack, Sentinel(binary, place, master))
        await until(sentinel, "SENTINEL REPLICAS edge", f"127.0.0.1:{replica.port}")
        watched = Watched(master, replica, sentinel)
        stack.callback(watched.close)
        yield watched


async def fall_behind(master: Node, replica: Node) -> None:
    """Have a replica, with what its master has now, hear nothing more: it cannot log in there."""
    written = (await master.ask("INFO", "replication"))["master_repl_offset"]
    while (await replica.ask("INFO", "replication"))["slave_repl_offset"] < written:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    await replica.ask("CONFIG", "SET", "masterauth", "nobody knows it")
    await master.ask("CLIENT", "KILL", "TYPE", "replica")
    await until(replica, "INFO replication", "'master_link_status': 'down'")


@asynccontextmanager
async def started(node: N) -> AsyncIterator[N]:
    """Start one server; ends it on leaving."""
    async with AsyncExitStack() as stack:
        yield await _started(stack, node)


async def until(node: Node, question: str, answer: str) -> None:
    """Wait until a server says something."""
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(ConnectionError):  # sentinels close those to whom they give another part
                if answer in str(await node.ask(*question.split())):
                    return
            await asyncio.sleep(0.02)


async def _started(stack: AsyncExitStack, node: N) -> N:
    stack.push_async_callback(node.release)
    await node.start()
    return node
