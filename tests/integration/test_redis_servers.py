"""The views in a Redis Cluster, and in a Redis that sentinels watch: moved, failed over, and right then."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from redis import exceptions

from gateway.check.redis import check_redis
from gateway.init.certificates import issue, make_authority
from projector.views import Keys
from projector.watch.told import Told
from runtime.errors import Retry
from runtime.http import Health
from runtime.lifecycle import keep_trying
from runtime.redis import as_retry, open_redis
from runtime.secret import FromFile
from runtime.settings import Redis as RedisSection
from tests.support.both_sides import Side, event
from tests.support.redis_servers import PREFIX, TlsNode, open_cluster, open_watched, started, until
from tests.support.roles import open_pools

if TYPE_CHECKING:
    from pathlib import Path

    from deploy.local.services import LocalServices

KEYS = Keys(PREFIX)


async def checked(url: str) -> list[tuple[str, str, str]]:
    """What `gateway check` finds, but what it finds of any Redis."""
    found = [each async for each in check_redis(RedisSection(url=url, prefix=PREFIX))]
    return [
        (each.state, re.sub(r"^version [\d.]+, ", "", each.found), each.advice)
        for each in found
        if each.component == "redis" or each.state == "fail"
    ]


async def test_a_cluster(services: LocalServices, database: str) -> None:
    """The node that has the keys is found and followed, and the views are right after each change of it."""
    async with (
        open_cluster(services.redis.binary, services.place) as cluster,
        open_pools(database) as pools,
        open_redis(cluster.url, PREFIX) as redis,
    ):
        side = Side(pools, redis, KEYS)
        await side.apply(event("a", 1, t=1.5), event("b", 2, t=2))
        await side.apply(event("c", 3, region="south", t=0.1))
        assert (await side.verify()).equal

        at = f"127.0.0.1:{cluster.owner.port}"
        assert await checked(cluster.url) == [("ok", at, "")]

        # The owner dies, and its replica lacks the last row.
        await cluster.fail_over(lacking=lambda: side.apply(event("a", 4, t=3)))
        row = await side.commit(event("b", 5, t=4))
        assert await keep_trying("redis", lambda: side.apply_row(row), Health()) == ("gap", 2, "")
        assert [(await side.apply_row(each)).cursor for each in side.rows[2:]] == [3, 4]
        assert (await side.verify()).equal

        # The slot is on its way to another node: keys are there and here, and nothing is taken for lost.
        cursor, _ = await redis.scan(0, match=f"{PREFIX}*", count=1)
        target, fixed = cluster.others[0], [key for key in KEYS.fixed if await redis.exists(key)]
        await cluster.begin_move(target)
        row = await side.commit(event("a", 6, t=5))
        for keys in ([KEYS.device("a")], fixed):
            await cluster.move(target, *keys)
            with pytest.raises(Retry, match=r"redis: .*"):
                await side.apply_row(row)
        await cluster.move(target)
        with pytest.raises(exceptions.AskError) as caught:
            await redis.hgetall(KEYS.device("a"))
        assert "moving our keys" in str(as_retry(caught.value))
        await cluster.end_move(target)
        async with redis.pipeline(transaction=True) as pipeline:
            pipeline.hget(KEYS.cursor, "0")
            pipeline.exists(KEYS.last_seen)
            assert await pipeline.execute() == [b"4", 1]
        with pytest.raises(exceptions.ConnectionError, match="begin the scan again"):
            await redis.scan(cursor, match=f"{PREFIX}*", count=1)
        assert await side.apply_row(row) == ("applied", 5, "")
        await side.rebuilder.rebuild(lambda _done, _of: None)
        assert (await side.verify()).equal

        # Who names one node is told what to write.
        async with open_redis(f"redis://127.0.0.1:{cluster.others[1].port}/0") as one:
            with pytest.raises(exceptions.MovedError) as caught:
                await one.hgetall(KEYS.device("a"))
        assert "redis+cluster://host:port/" in str(as_retry(caught.value))
        node, writes = await checked(cluster.others[1].url())
        assert (node[0], writes[0]) == ("warn", "fail")
        assert {node[2], writes[2]} == {"write redis.url as redis+cluster://host:6379,host:6379/"}


@pytest.mark.full
async def test_a_cluster_with_tls(services: LocalServices, tmp_path: Path) -> None:
    """Nodes are asked and used by TLS, and one with a certificate of somebody else is not."""
    folder = services.place.make_folder("certificates")
    now = datetime.now(UTC)
    authority = make_authority("a site", now)
    server = issue(authority, "redis", now, hosts=("localhost", "127.0.0.1"))
    for name, text in (
        ("ca.crt", authority.certificate),
        ("server.crt", server.certificate),
        ("server.key", server.key),
    ):
        (folder / name).write_text(text)
    folder.chmod(0o755)
    (tmp_path / "other.crt").write_text(make_authority("another", now).certificate)
    options = {"cluster-enabled": "yes"}
    async with started(TlsNode(services.redis.binary, services.place, folder, **options)) as node:
        await node.ask("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        await until(node, "CLUSTER INFO", "cluster_state:ok")
        hosts = f"rediss+cluster://localhost:{node.port}/"
        async with open_redis(f"{hosts}?ssl_ca_certs={folder / 'ca.crt'}", PREFIX) as redis:
            assert await redis.set(KEYS.device("a"), "1")
        async with open_redis(f"{hosts}?ssl_ca_certs={tmp_path / 'other.crt'}", PREFIX) as redis:
            with pytest.raises(exceptions.ConnectionError, match="certificate verify failed"):
                await redis.ping()


async def test_sentinels(services: LocalServices, database: str, tmp_path: Path) -> None:
    """The master is found through the sentinel that is there, and followed when it dies with the last row."""
    async with (
        AsyncExitStack() as stack,
        open_watched(services.redis.binary, services.place) as watched,
        open_pools(database) as pools,
    ):
        (tmp_path / "url").write_text(watched.url)
        redis = await stack.enter_async_context(open_redis(FromFile.read(str(tmp_path / "url")), PREFIX))
        side = Side(pools, redis, KEYS)
        await side.apply(event("a", 1, t=1.5), event("b", 2, t=2))
        assert await checked(watched.url) == [("ok", f"127.0.0.1:{watched.master.port}", "")]
        told = Told(redis, PREFIX)
        await told.begin(1)
        assert await told.is_there()
        await watched.fail_over(lacking=lambda: side.apply(event("a", 3, t=3)))
        row = await side.commit(event("b", 4, t=4))
        assert await keep_trying("redis", lambda: side.apply_row(row), Health()) == ("gap", 1, "")
        assert [(await side.apply_row(each)).cursor for each in side.rows[1:]] == [2, 3]
        assert not await told.is_there()
        assert (await side.verify()).equal
        async with open_redis(watched.url.replace("/edge/", "/other/")) as other:
            with pytest.raises(exceptions.ConnectionError, match=r"the master of other: .* does not know"):
                await other.ping()
        sentinel = await checked(watched.sentinel.url())
        assert [(state, found) for state, found, _ in sentinel] == [("fail", "a sentinel")]
        [(state, found, _)] = await checked(watched.url.replace("sentinel_password=", "sentinel_password=x"))
        assert state == "fail"
        assert "nobody says who is the master of edge" in found
        assert "word-of" not in found
