"""The projector's listener against requests of any kind: an answer, never an error of ours."""

from __future__ import annotations

import asyncio
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import hypothesis
from hypothesis import strategies as st

from runtime.settings import host_port

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from runtime.settings import Settings
    from tests.support.commands import RunningCommand

PATHS = (
    *("/", "/devices", "/devices/d1/stats", "/device/stats", "/device/history", "/devices/d1/windows"),
    *("/regions", "/regions/0/stats", "/region/stats", "/limits", "/lag", "/live/devices", "/live/device"),
    *("/live/message", "/live/letters/1", "/live/site", "/docs", "/docs/openapi.json", "/metrics", "/none"),
)
NAMES = "id metric from to step after limit region tag above below silent_for sort q start count state online"
HEADERS = (
    *("If-None-Match", "Accept", "Accept-Encoding", "Cookie", "Authorization", "Range", "Content-Type"),
    *("X-Forwarded-For", "X-Forwarded-Prefix", "Sec-Fetch-Site", "Expect", "Upgrade", "Transfer-Encoding"),
)
ODD = ("", "NaN", "1e999", "0", "-1", "../..", "a:b", "2026-02-30", "%", "\0", "true", "[]", "{}", "9" * 400)
WORDS = st.one_of(st.text("aZ9 _-+%/\\'\"<>\0\n\x7fü\u202e𐍈", max_size=12), st.sampled_from(ODD))
QUERIES = st.lists(st.tuples(st.sampled_from(NAMES.split()), WORDS.map(quote)).map("=".join), max_size=4).map(
    "&".join
)
LINES = st.lists(
    st.tuples(st.sampled_from(HEADERS), st.text("aZ9 _-+%/\\'\"<>;=,*\x7f", max_size=30)).map(": ".join),
    max_size=3,
)
REQUESTS = st.builds(
    lambda method, path, part, query, lines: "\r\n".join(
        [f"{method} {path}{part}?{query} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", *lines, "", ""]
    ).encode(),
    st.sampled_from(["GET", "GET", "GET", "HEAD", "POST", "DELETE", "OPTIONS"]),
    st.sampled_from(PATHS),
    st.one_of(st.just(""), WORDS.map(lambda word: f"/{quote(word, safe='')}")),
    QUERIES,
    LINES,
)


async def test_whatever_is_asked(
    run_command: Callable[..., Awaitable[RunningCommand]], settings: Settings, unique: str
) -> None:
    """The answer is one, is no crash, and says nothing of our inside; nor does anything tell our password."""
    secret = {"EDGE_BROKER_USERNAME": "edge", "EDGE_BROKER_PASSWORD": f"word-{unique[::-1]}"}
    projector = await run_command("projector", "run", "--log-level", "debug", **secret)
    await projector.event("connected")
    said = await asyncio.to_thread(ask_anything, *host_port(settings.projector.http))
    assert not [line for line in projector.events if line["level"] in {"error", "critical"}]
    started_as = await asyncio.to_thread(Path(f"/proc/{projector.pid}/cmdline").read_bytes)
    inside = (*said, *map(str.encode, projector.output), started_as)
    for word in ("Traceback", secret["EDGE_BROKER_PASSWORD"]):
        assert not [each for each in inside if word.encode() in each]


def ask_anything(host: str, port: int) -> list[bytes]:
    """The answers to a hundred requests, and to one for what is measured."""
    answers: list[bytes] = []

    @hypothesis.settings(max_examples=100, derandomize=True, database=None)
    @hypothesis.given(REQUESTS)
    @hypothesis.example(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    def ask(request: bytes) -> None:
        with socket.create_connection((host, port), timeout=20) as connection:
            connection.sendall(request)
            with connection.makefile("rb") as answer:
                answers.append(answer.read())
        assert re.match(rb"HTTP/1\.1 (2|3|4)\d\d |HTTP/1\.1 503 ", answers[-1]), (request, answers[-1][:500])

    ask()
    return answers
