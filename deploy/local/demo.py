"""`make demo`: the whole product on this machine, with simulated devices, shown live and audited at the end.

Makes a site as `gateway init` does, on private ports: devices publish over TLS with a password each, and
nobody has more rights than he needs. Then `gateway run`, `projector run` and `gateway simulate` as real
processes. The end goes the way of a message: the devices stop first, the gateway and the projector get the
time to finish what is under way, and only then are they asked to stop.

The last line on stdout is the accounting line. It is read from the gateway's metrics when all is quiet, must
add up, must account for everything that the broker acknowledged to the devices, and must equal what the
gateway itself says when it ends; the exit code is 0 only then.
"""

from __future__ import annotations

import asyncio
import math
import os
import sys
import tempfile
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from rich.console import Console

from deploy.local.children import Child, ChildError, Children
from deploy.local.figures import LogTail, NoAnswerError, is_ready, read_figures, read_regions
from deploy.local.install import MissingPackagesError, ensure
from deploy.local.server import ServiceError, free_port
from deploy.local.services import LocalServices
from deploy.local.site import Site
from deploy.local.view import LineView, LiveView, Picture, View
from gateway.simulate.devices import Kind, device_name
from gateway.simulate.summary import Summary
from runtime import logs
from runtime.errors import Stop
from runtime.lifecycle import run_until_stopped
from runtime.redis import open_redis
from runtime.settings import load

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from redis.asyncio import Redis

    from deploy.local.figures import Figures, Region

_READY_S = 60.0
_QUIET_S = 30.0
_STOP_S = 30.0
_INTERVAL_S = 0.5
_REJECTIONS_KEPT = 20
_TWICE = "DEMO_WRITES_TO_MY_SERVERS"


@dataclass(frozen=True, slots=True)
class Options:
    """What to show.

    Attributes:
        seconds: how long devices send; None until stopped.
        rate: messages a second, of all devices together.
    """

    seconds: float | None
    devices: int
    rate: float


class Demo:
    """One run, on servers and processes that others start and end.

    Args:
        prefix: what the configuration puts before every key of Redis.
        environments: what `gateway`, `projector` and `devices` are told of the servers.
        passwords: a file with those of the devices; None where they need none.
    """

    def __init__(
        self,
        options: Options,
        children: Children,
        redis: Redis,
        prefix: str,
        say: Callable[[str], None] = lambda _: None,
        *,
        environments: Mapping[str, Mapping[str, str]] | None = None,
        passwords: Path | None = None,
    ) -> None:
        self._environments = environments or {}
        self._passwords = passwords
        self._options = options
        self._children = children
        self._redis = redis
        self._prefix = prefix
        self.gateway_address = f"127.0.0.1:{free_port()}"
        self.projector_address = f"127.0.0.1:{free_port()}"
        self._rejections: deque[dict[str, Any]] = deque(maxlen=_REJECTIONS_KEPT)
        self._regions: list[Region] = []
        self._started_at = 0.0
        self._applied_before = 0
        self._say = say

    async def run(self, view: View, stop: asyncio.Event) -> list[str]:
        """Run from start to accounting line.

        Returns:
            What did not add up, in a person's words.

        Raises:
            ChildError: a process did not start, ended by itself or did not stop.
        """
        self._say("starting the gateway")
        gateway = await self._start(
            "gateway", self.gateway_address, stop, EDGE_GATEWAY_HTTP=self.gateway_address
        )
        self._say("starting the projector")
        projector = await self._start(
            "projector", self.projector_address, stop, EDGE_PROJECTOR_HTTP=self.projector_address
        )
        if stop.is_set():
            self._say("stopped before the devices began")
            return []
        before = await self._read()
        self._applied_before = before.applied
        told = self._environments.get("devices", {})
        devices = self._children.start("devices", *self._simulate(), **told)
        log = LogTail(gateway.log)
        self._say(f"{self._options.devices} devices connect")
        await self._heard(before, stop)
        self._started_at = time.monotonic()
        with view:
            await self._watch(view, log, stop)
            await devices.stop(_STOP_S, starting=True)
            said = devices.output.read_bytes()
            if not said:
                self._say("stopped before the devices began")
                return []
            sent = msgspec.json.decode(said, type=Summary)
            after = await self._settle(view, log, sent)
        await gateway.stop(_STOP_S)
        await projector.stop(_STOP_S)
        _print_summary(sent, before, after)
        print(after.line(), flush=True)
        faults = after.faults()
        applied = after.applied - before.applied
        if applied < after.committed:
            faults.append(f"{after.committed} committed, but the projector applied {applied}")
        if after.received < _readings(sent):
            faults.append(f"the broker acknowledged {_readings(sent)}, the gateway received {after.received}")
        if not gateway.output.read_text(encoding="utf-8").endswith(f"{after.line()}\n"):
            faults.append(f"the gateway ended with other numbers: see {gateway.output}")
        return faults

    async def _start(self, name: str, address: str, stop: asyncio.Event, **environment: str) -> Child:
        told = self._environments.get(name, {})
        child = self._children.start(name, name, "run", "--log-format", "json", **told, **environment)
        deadline = time.monotonic() + _READY_S
        while not stop.is_set() and not await asyncio.to_thread(is_ready, f"http://{address}"):
            child.check()
            if time.monotonic() > deadline:
                await child.stop(_STOP_S)
                raise ChildError(f"{name} was not ready within {_READY_S:g} s; its log: {child.log}")
            await asyncio.sleep(_INTERVAL_S / 5)
        return child

    async def _heard(self, before: Figures, stop: asyncio.Event) -> None:
        """Wait until something of the devices has come."""
        deadline = time.monotonic() + _READY_S
        while not stop.is_set() and (await self._read()).received == before.received:
            self._children.check()
            if time.monotonic() > deadline:
                raise ChildError(f"nothing came of the devices within {_READY_S:g} s")
            await asyncio.sleep(_INTERVAL_S / 5)

    def _simulate(self) -> list[str]:
        command = ["gateway", "simulate", "--json", "--quiet", "--log-format", "json"]
        command += ["--rate", str(self._options.rate)]
        if self._passwords is not None:
            return [*command, "--passwords", str(self._passwords)]
        return [*command, "--devices", str(self._options.devices)]

    async def _read(self) -> Figures:
        return await asyncio.to_thread(
            read_figures, f"http://{self.gateway_address}", f"http://{self.projector_address}"
        )

    async def _watch(self, view: View, log: LogTail, stop: asyncio.Event) -> None:
        end = math.inf if self._options.seconds is None else self._started_at + self._options.seconds
        while not stop.is_set() and (left := end - time.monotonic()) > 0:
            self._children.check()
            with suppress(NoAnswerError):
                await self._show(view, log, await self._read(), "Ctrl-C ends")
            with suppress(TimeoutError):
                async with asyncio.timeout(min(_INTERVAL_S, left)):
                    await stop.wait()

    async def _settle(self, view: View, log: LogTail, sent: Summary) -> Figures:
        """Wait until everything that the broker has acknowledged is in Redis, or for as long as is decent."""
        deadline = time.monotonic() + _QUIET_S
        while True:
            self._children.check()
            figures = await self._read()
            await self._show(view, log, figures, "devices have stopped, finishing")
            if (figures.quiet and figures.received >= _readings(sent)) or time.monotonic() > deadline:
                return figures
            await asyncio.sleep(_INTERVAL_S / 2)

    async def _show(self, view: View, log: LogTail, figures: Figures, phase: str) -> None:
        self._rejections.extend(event for event in log.read() if event.get("event") == "message_rejected")
        with suppress(NoAnswerError):
            self._regions = await read_regions(self._redis, self._prefix)
        elapsed_s = time.monotonic() - self._started_at
        # As the projector counts: the gateway learns of it a second later, which would look like a lag.
        figures = replace(figures, projected=min(figures.committed, figures.applied - self._applied_before))
        view.show(Picture(phase, elapsed_s, figures, self._regions, self._rejections))


def _readings(sent: Summary) -> int:
    """What the gateway must have received of it: garbage counts one, an array each element."""
    return sent.readings + sent.kinds[Kind.GARBAGE].acknowledged


def _print_summary(sent: Summary, before: Figures, after: Figures) -> None:
    received = max(1, after.received - before.received)
    committed = after.committed - before.committed
    cpu = ", ".join(
        f"{name} {(after.cpu_s[name] - before.cpu_s[name]) / received * 1e6:,.0f} µs" for name in after.cpu_s
    )
    print(
        f"{sent.devices} devices sent {sent.sent:,} messages in {sent.seconds:.1f} s "
        f"({sent.rate_reached:,.0f}/s, asked for {sent.rate_asked:,g}), "
        f"the broker acknowledged {sent.acknowledged:,}\n"
        f"of them {', '.join(f'{count.sent:,} {kind}' for kind, count in sent.kinds.items())}\n"
        f"committed {committed / max(sent.seconds, 1):,.0f}/s; CPU per message: {cpu}"
    )


def _outside() -> dict[str, str]:
    """The environment that counts: without the servers of whoever runs this, unless told twice.

    A demo writes made-up devices into whatever database it is given.
    """
    named = sorted(name for name in os.environ if name.startswith("EDGE_"))
    if not named or os.environ.get(_TWICE) == "yes":
        return dict(os.environ)
    print(f"{', '.join(named)}: not used by the demo unless {_TWICE}=yes is set too", file=sys.stderr)
    return {name: value for name, value in os.environ.items() if name not in named}


async def demo(options: Options, stop: asyncio.Event) -> list[str]:
    """Start the servers and show a run on them.

    Returns:
        What did not add up, in a person's words.

    Raises:
        Stop: a server does not start.
        ChildError: a process did not start, ended by itself or did not stop.
    """
    console = Console()
    folder = Path(tempfile.mkdtemp(prefix="edge-demo-"))
    outside = _outside()

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    async def show(run: Demo) -> list[str]:
        hints = [
            f"look  http://{run.projector_address}/",
            f"ask   curl -s http://{run.projector_address}/devices/sim-0001/stats",
            f"logs  {folder}",
        ]
        if console.is_terminal:
            return await run.run(LiveView(console, options.seconds, hints), stop)
        console.print(*hints, sep="\n", highlight=False, soft_wrap=True)
        return await run.run(LineView(console), stop)

    say("starting mosquitto, PostgreSQL and Redis; what is not installed is")
    if any(name.startswith("EDGE_") for name in outside):
        async with LocalServices(environ=outside) as services:
            environment = services.environment() | {"EDGE_SPOOL_PATH": str(folder / "spool")}
            settings = load(environ={**outside, **environment})
            async with open_redis(settings.redis.url, settings.redis.prefix, decode=True) as redis:
                with Children(folder, environment, inherited=outside) as children:
                    return await show(Demo(options, children, redis, settings.redis.prefix, say))
    os.chmod(folder, 0o711)  # noqa: PTH101, S103  # the servers' accounts pass through to their own folders
    async with LocalServices(environ={}, names=["postgres"]) as services:
        with (
            Site(folder / "site", services.postgres) as site,
            Children(folder, {}, inherited=outside) as children,
        ):
            await _set_up(site, children, options, say)
            redis_url = (site.folder / "api/redis_url").read_text(encoding="utf-8")
            async with open_redis(redis_url, decode=True) as redis:
                told = {"gateway": site.gateways(), "projector": site.projectors(), "devices": site.devices()}
                passwords = folder / "passwords"
                return await show(
                    Demo(options, children, redis, "", say, environments=told, passwords=passwords)
                )


async def _set_up(site: Site, children: Children, options: Options, say: Callable[[str], None]) -> None:
    """Make a site as `gateway init` does, run its commands, and give the devices passwords.

    Raises:
        Stop: something is not installed, or cannot be made.
        ChildError: a command failed.
    """
    try:
        await asyncio.to_thread(ensure, ["mosquitto", "redis"])
    except MissingPackagesError as error:
        raise ServiceError(str(error)) from error
    say("gateway init: passwords, certificates and rights of its own for each part")
    servers, database, _ = await asyncio.to_thread(site.make)
    children.call("servers", *servers.split())
    await children.call("database", *database.split()).ended(_READY_S)
    names = [device_name(index) for index in range(options.devices)]
    passwords = site.folder.parent / "passwords"
    passwords.touch(0o600)
    passwords.write_text(await asyncio.to_thread(site.passwords, names), encoding="utf-8")


@click.command()
@click.option("--seconds", type=click.FloatRange(min=1), help="End after so long; without it at Ctrl-C.")
@click.option("--devices", type=click.IntRange(min=1), default=200, show_default=True)
@click.option(
    "--rate", type=click.FloatRange(min=1), default=1000, show_default=True, help="Messages a second."
)
def main(seconds: float | None, devices: int, rate: float) -> None:
    """Show the gateway at work: servers, processes and simulated devices, all on this machine."""
    logs.configure("auto", "warning")
    faults: list[str] = []

    async def work(stop: asyncio.Event) -> None:
        try:
            faults.extend(await demo(Options(seconds, devices, rate), stop))
        except (ChildError, NoAnswerError, Stop) as error:
            faults.append(str(error))

    code = run_until_stopped(work, shutdown_timeout_s=4 * _STOP_S)
    for fault in faults:
        print(f"demo failed: {fault}", file=sys.stderr)
    sys.exit(code or int(bool(faults)))


if __name__ == "__main__":
    main()
