"""URLs of Redis, in parts."""

from __future__ import annotations

import pytest

from runtime.errors import ConfigurationError
from runtime.redis import open_redis
from runtime.settings.addresses import RedisUrl, refuse_prefix, split_redis

NOBODY = ("", "")


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("redis://h/3", RedisUrl("server", (("h", 6379),), "", NOBODY, "redis://h/3")),
        ("unix:///run/r.sock?db=1", RedisUrl("server", (), "", NOBODY, "unix:///run/r.sock?db=1")),
        (
            "redis+cluster://u:p%40q@a:1,[::1]:2,b/",
            RedisUrl("cluster", (("a", 1), ("::1", 2), ("b", 6379)), "", NOBODY, "redis://u:p%40q@a:1/0"),
        ),
        (
            "rediss+cluster://[::1],b:7?ssl_ca_certs=/etc/ca%20b",
            RedisUrl(
                *("cluster", (("::1", 6379), ("b", 7)), "", NOBODY),
                "rediss://[::1]:6379/0?ssl_ca_certs=%2Fetc%2Fca+b",
            ),
        ),
        (
            "redis+sentinel://u:p@a,b:2/my%2Fs/3?sentinel_username=w&sentinel_password=q%40&db=4",
            RedisUrl(
                *("sentinel", (("a", 26379), ("b", 2)), "my/s", ("w", "q@")), "redis://u:p@a:26379/3?db=4"
            ),
        ),
    ],
)
def test_parts(url: str, parts: RedisUrl) -> None:
    """Hosts, service, whom sentinels let in, and how one server is reached."""
    assert split_redis(url) == parts


@pytest.mark.parametrize(
    ("prefix", "kept"),
    [("{edge}:", True), ("site.{a}b:", True), ("", False), ("edge:", False), ("{}:", False), ("}{:", False)],
)
def test_keys_of_a_cluster_are_kept_together(prefix: str, *, kept: bool) -> None:
    """What stands in the first braces chooses the slot, so some word has to; one server needs none."""
    assert (refuse_prefix("rediss+cluster://h/", prefix) is None) == kept
    assert refuse_prefix("redis+sentinel://h/s", prefix) is None
    if not kept:
        with pytest.raises(ConfigurationError, match=r'^redis\.prefix: .* prefix = "\{edge\}:"'):
            open_redis("redis+cluster://h/", prefix)


@pytest.mark.parametrize("url", ["redis://h/0?hunter2=1", "redis+cluster://h/?hunter2=1"])
def test_an_option_that_no_connection_has(url: str) -> None:
    """It is refused before anything connects, and may be half a password."""
    with pytest.raises(ConfigurationError, match=r"^redis\.url: .* options that the client has$"):
        open_redis(url, "{edge}:")
