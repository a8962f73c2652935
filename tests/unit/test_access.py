"""Who may look, and how much: one application behind listeners that are set differently."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest
from litestar import Request, get
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from projector.live.sign_in import sign_in_routes
from runtime import tokens
from runtime.errors import ConfigurationError
from runtime.http import Front, Health, create_app, health_routes
from runtime.http.limits import CONNECTIONS, OURS, Limits
from runtime.http.proxies import Proxies, plain
from runtime.settings import Projector
from runtime.settings.listener import check_listener

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ANYWHERE = "0.0.0.0:9102"  # what is tested
HERE = "127.0.0.1:9102"
PROXY, CLIENT = "10.0.0.2", "192.0.2.7"


@get("/who", sync_to_thread=False)
def who(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """What of a request the application sees."""
    client = request.client
    return {"client": client.host if client else None, "scheme": request.scope["scheme"]}


class Site:
    """The application behind a listener, asked from an address."""

    def __init__(self, **listener: Any) -> None:  # noqa: ANN401  # its keys
        self.registry = CollectorRegistry()
        self.front = Front(Projector(**listener), "projector", self.registry)
        health = Health()
        health.set("redis", "connection refused at 10.9.8.7")
        access = self.front.access
        probes = health_routes(health, self.registry, "projector", access)
        app = create_app([who, *sign_in_routes(access), *probes], access=access)
        self._app = self.front.wrap(app)

    async def get(self, path: str, peer: str = CLIENT, **headers: str) -> httpx.Response:
        """Ask; `_` in a header's name stands for `-`."""
        return await self.ask("GET", path, peer, **headers)

    async def ask(self, method: str, path: str, peer: str = CLIENT, **headers: str) -> httpx.Response:
        """Ask for anything."""
        transport = httpx.ASGITransport(app=self._app, client=(peer, 5), raise_app_exceptions=False)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with httpx.AsyncClient(transport=transport, base_url="http://edge.test") as client:
            return await client.request(method, path, headers=named)

    def refused(self, reason: str) -> float | None:
        """How often for a reason."""
        return self.registry.get_sample_value("projector_http_refused_total", {"reason": reason})


@pytest.fixture
def given(tmp_path: Path) -> Callable[[str], str]:
    """Tokens `read`, `metrics` and `both`, and `file`, where they stand."""
    file = tmp_path / "tokens"
    made = {"read": tokens.add(file, "read", ("read",)), "metrics": tokens.add(file, "metrics", ("metrics",))}
    made |= {"both": tokens.add(file, "both", ("read", "metrics")), "file": str(file), "none": tokens.new()}
    return made.__getitem__


@pytest.mark.parametrize(
    ("http", "keys", "peer", "token", "who_status", "metrics_status", "details"),
    [
        (HERE, (), "127.0.0.1", "", 200, 200, True),
        (HERE, ("tokens_file",), "127.0.0.1", "", 401, 401, False),
        (HERE, ("tokens_file",), "127.0.0.1", "both", 200, 200, True),
        (ANYWHERE, ("tokens_file",), CLIENT, "", 401, 401, False),
        (ANYWHERE, ("tokens_file",), "127.0.0.1", "", 401, 401, False),
        (ANYWHERE, ("tokens_file",), CLIENT, "none", 401, 401, False),
        (ANYWHERE, ("tokens_file",), CLIENT, "read", 200, 403, True),
        (ANYWHERE, ("tokens_file",), CLIENT, "metrics", 403, 200, True),
        (ANYWHERE, ("trust_proxy",), PROXY, "", 200, 200, True),
        (ANYWHERE, ("trust_proxy",), CLIENT, "", 403, 403, False),
        (ANYWHERE, ("trust_proxy",), "127.0.0.1", "", 403, 403, False),
        (ANYWHERE, ("tokens_file", "trust_proxy"), PROXY, "", 401, 401, False),
        (ANYWHERE, ("tokens_file", "trust_proxy"), PROXY, "both", 200, 200, True),
    ],
)
async def test_who_may_look(
    given: Callable[[str], str],
    *,
    http: str,
    keys: tuple[str, ...],
    peer: str,
    token: str,
    who_status: int,
    metrics_status: int,
    details: bool,
) -> None:
    """This machine, a token of the scope, or a trusted proxy; probes need none, and learn nothing of why."""
    values = {"tokens_file": given("file"), "trust_proxy": (f"{PROXY}/31", "::1")}
    site = Site(http=http, **{key: values[key] for key in keys})
    shown = {"authorization": f"Bearer {given(token)}"} if token else {}
    assert (await site.get("/who", peer, **shown)).status_code == who_status
    assert (await site.get("/metrics", peer, **shown)).status_code == metrics_status
    assert (await site.get("/healthz", peer)).status_code == 200
    ready = await site.get("/readyz", peer, **shown)
    assert (ready.status_code, ready.json()["status"]) == (503, "waiting")
    assert ("10.9.8.7" in ready.text) is details


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"authorization": "bearer {}"}, 200),
        ({"cookie": "a=b; edge_token={}"}, 200),
        ({"cookie": "edge_token={}; edge_token=edge_of_a_site_above"}, 200),
        ({"cookie": "edge_token=edge_of_a_site_above;edge_token={}"}, 200),
        ({"cookie": "edge_token=x; " * 9 + "edge_token={}"}, 401),
        ({"authorization": "Basic {}"}, 401),
        ({"authorization": "{}"}, 401),
        ({"cookie": "edge_token=; token={}"}, 401),
        ({"x-token": "{}"}, 401),
    ],
)
async def test_how_a_token_is_shown(
    given: Callable[[str], str], headers: dict[str, str], status: int
) -> None:
    """As RFC 6750 has it, or in our cookie; the answer says what is needed, and no log has a token."""
    site = Site(http=ANYWHERE, tokens_file=given("file"))
    with capture_logs() as logs:
        answer = await site.get(
            "/who", **{name: text.format(given("read")) for name, text in headers.items()}
        )
        assert (await site.get(f"/who?token={given('read')}")).status_code == 401
    assert answer.status_code == status
    assert given("read") not in str(logs)
    if status == 401:
        assert answer.headers["www-authenticate"] == 'Bearer realm="edge"'
        assert "projector token NAME makes one" in answer.json()["detail"]


async def test_a_wrong_token_is_told_of(given: Callable[[str], str]) -> None:
    """Somebody who guesses is in the log, by address."""
    site = Site(http=ANYWHERE, tokens_file=given("file"))
    with capture_logs() as logs:
        await site.get("/who", authorization=f"Bearer {given('none')}")
    assert [(line["event"], line["address"]) for line in logs] == [("token_refused", CLIENT)]
    assert site.refused("token") == 1


async def test_who_opens_a_page_is_led_to_where_one_signs_in(given: Callable[[str], str]) -> None:
    """By a way that is right below any path that a proxy has us below."""
    site = Site(http=ANYWHERE, tokens_file=given("file"))
    site.front.access.leads = False
    assert (await site.get("/who", accept="text/html")).status_code == 401  # there is no such page
    site.front.access.leads = True
    for path, where in (("/who", "sign-in"), ("/who/", "../sign-in")):
        answer = await site.get(path, accept="text/html,*/*")
        assert (answer.status_code, answer.headers["location"]) == (303, where)


@pytest.mark.parametrize(
    ("peer", "headers", "status"),
    [
        (CLIENT, {}, 303),  # no browser
        (CLIENT, {"sec_fetch_site": "same-origin"}, 303),
        (CLIENT, {"sec_fetch_site": "none"}, 303),
        (CLIENT, {"sec_fetch_site": "same-site"}, 403),
        (CLIENT, {"sec_fetch_site": "cross-site"}, 403),
        (CLIENT, {"origin": "http://edge.test"}, 303),
        (CLIENT, {"origin": "http://edge.test:81"}, 403),
        (CLIENT, {"origin": "http://evil.example"}, 403),
        (CLIENT, {"origin": "null"}, 403),
        (CLIENT, {"origin": "http://["}, 403),
        (PROXY, {"origin": "https://edge.example"}, 303),
        (PROXY, {"origin": "https://edge.example", "sec_fetch_site": "cross-site"}, 403),
    ],
)
async def test_no_page_of_somebody_elses_signs_out(
    given: Callable[[str], str], peer: str, headers: dict[str, str], status: int
) -> None:
    """A browser says whose page asks; over plain HTTP its origin alone, where no proxy may be in between."""
    site = Site(http=ANYWHERE, tokens_file=given("file"), trust_proxy=(PROXY,))
    assert (await site.ask("POST", "/sign-out", peer, **headers)).status_code == status
    shown = await site.get("/sign-in")
    assert shown.headers["referrer-policy"] == "same-origin"  # else a browser keeps its origin to itself


@pytest.mark.parametrize(
    ("peer", "headers", "seen"),
    [
        (PROXY, {"x_forwarded_for": CLIENT, "x_forwarded_proto": "https"}, (CLIENT, "https")),
        (PROXY, {"x_forwarded_for": f"127.0.0.1, {CLIENT}"}, (CLIENT, "http")),
        (PROXY, {"x_forwarded_for": f"{CLIENT}, 10.0.0.3"}, (CLIENT, "http")),
        (PROXY, {"x_forwarded_for": "x" * 9000}, ("unknown", "http")),
        (PROXY, {}, (PROXY, "http")),
        ("127.0.0.1", {"x_forwarded_for": CLIENT, "x_forwarded_proto": "https"}, ("127.0.0.1", "http")),
    ],
)
async def test_what_a_proxy_says_counts_when_it_is_trusted(
    peer: str, headers: dict[str, str], seen: tuple[str, str]
) -> None:
    """The last address that no trusted proxy has; from anybody else the headers are words."""
    site = Site(http=HERE, trust_proxy=("10.0.0.0/30",))
    assert (await site.get("/who", peer, **headers)).json() == {"client": seen[0], "scheme": seen[1]}


@pytest.mark.parametrize(
    ("peer", "prefix", "path", "status"),
    [
        (PROXY, "/edge", "/edge/who", 200),
        (PROXY, "/edge", "/who", 200),
        (PROXY, "/a/b/", "/a/b/who", 200),
        (PROXY, "/ed", "/edge/who", 404),
        (PROXY, "/%2e", "/%2e/who", 404),
        (CLIENT, "/edge", "/edge/who", 404),
    ],
)
async def test_a_proxys_prefix(peer: str, prefix: str, path: str, status: int) -> None:
    """A path that the proxy left in front is taken off, when the proxy is trusted."""
    site = Site(http=HERE, trust_proxy=(PROXY,))
    assert (await site.get(path, peer, x_forwarded_prefix=prefix)).status_code == status


@pytest.mark.parametrize("http", [ANYWHERE, "[::]:9102", "192.0.2.1:80", "edge.example:80"])
def test_open_to_everybody_does_not_start(http: str) -> None:
    """The message names the key, the reason and three ways to mend it."""
    with pytest.raises(ConfigurationError) as caught:
        Site(http=http)
    said = str(caught.value)
    assert said.startswith(f"projector.http: {http} can be reached from other machines")
    for part in ("projector.tokens_file", "projector token NAME", "projector.trust_proxy", "127.0.0.1"):
        assert part in said


@pytest.mark.parametrize("network", ["0.0.0.0/0", "::/0"])
def test_everybody_is_no_proxy(network: str) -> None:
    """A network of all addresses would open to everybody what is to be closed."""
    with pytest.raises(ConfigurationError, match=r"^projector\.trust_proxy: .*/0 is everybody"):
        check_listener("projector", Projector(http=ANYWHERE, trust_proxy=(network,)))


@pytest.mark.parametrize("http", ["localhost:1", "127.9.9.9:1", "[::1]:1"])
def test_this_machine_alone_starts(http: str) -> None:
    """Loopback, however it is written."""
    assert Site(http=http).refused("rate") == 0


async def test_answers_tell_browsers_what_not_to_do(given: Callable[[str], str]) -> None:
    """Every answer, a refusal too: nothing runs, nothing is framed, nothing is guessed, nobody is told."""
    site = Site(http=ANYWHERE, tokens_file=given("file"))
    for answer in (await site.get("/who"), await site.get("/none"), await site.get("/healthz")):
        assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"


async def test_too_many_requests_of_one_address() -> None:
    """Beyond twice a second's share one waits, and is told how long; others and this machine's own do not.

    Neither do probes, which may come from where a busy client does.
    """
    site = Site(http=ANYWHERE, trust_proxy=(PROXY,), max_requests_per_s=2)
    answers = [await site.get("/none", CLIENT) for _ in range(5)]
    assert [each.status_code for each in answers] == [404, 404, 404, 404, 429]
    assert (await site.get("/readyz", CLIENT)).status_code == 503
    probes = [(await site.get("/healthz", CLIENT)).status_code for _ in range(4)]
    assert probes == [200, 200, 200, 429]
    assert (answers[-1].headers["retry-after"], answers[-1].headers["content-type"]) == (
        "1",
        "application/problem+json",
    )
    assert site.refused("rate") == 2
    for peer in ("192.0.2.8", "127.0.0.1"):
        assert (await site.get("/healthz", peer)).status_code == 200
    forwarded = [
        (await site.get("/healthz", PROXY, x_forwarded_for="192.0.2.9")).status_code for _ in range(5)
    ]
    assert forwarded == [200, 200, 200, 200, 429]
    assert (await site.get("/healthz", PROXY, x_forwarded_for="192.0.2.10")).status_code == 200


def test_a_bucket_empties() -> None:
    """Twice a second's share at once, then one whenever there is room for one."""
    limits = Limits(10, 1, proxies=Proxies(()))
    assert [limits.take("a", 0.0) for _ in range(20)] == [0.0] * 20
    assert limits.take("a", 0.0) == pytest.approx(0.1)
    assert limits.take("a", 0.1) == 0.0
    assert limits.take("a", 0.1) > 0
    assert [limits.take("a", 9.0) for _ in range(20)] == [0.0] * 20


def test_connections_of_one_address() -> None:
    """So many, and no more until one leaves; of IPv6 a /64; this machine and proxies any, up to a sum.

    Some of the sum are for these alone.
    """
    refused: list[str] = []
    limits = Limits(1, 2, proxies=Proxies([PROXY]), refused=refused.append)
    first, second = limits.connect("2001:db8::1", 1), limits.connect("2001:db8::2", 2)
    assert first == second == "2001:db8::/64"
    assert limits.connect("2001:db8::3", 3) is None
    assert limits.connect("2001:db8:0:1::1", 3) == "2001:db8:0:1::/64"
    limits.leave("2001:db8::/64")
    assert limits.connect("2001:db8::3", 3) == first
    assert [limits.connect(each, 9) for each in ("127.0.0.1", "::1", PROXY) for _ in range(3)] == [""] * 9
    assert limits.connect("127.0.0.1", CONNECTIONS + 1) is None
    assert limits.connect("192.0.2.1", CONNECTIONS - OURS + 1) is None
    assert limits.connect("192.0.2.1", CONNECTIONS - OURS) == "192.0.2.1"
    assert refused == ["connections"] * 3


def test_what_is_remembered_is_bounded() -> None:
    """An attacker with many addresses fills no memory."""
    limits = Limits(1, 1, proxies=Proxies(()))
    for each in range(20_000):
        limits.take(f"{each}", 0.0)
    assert len(limits._emptied) == 10_000  # nothing else shows it


def test_addresses_of_both_kinds() -> None:
    """A socket for IPv6 that takes IPv4 too writes addresses in its own way."""
    assert [plain(each) for each in ("::ffff:10.0.0.2", "10.0.0.2", "::1")] == ["10.0.0.2", "10.0.0.2", "::1"]
