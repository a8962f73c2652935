"""Edge nodes of Sparkplug B: what keeping them in mind takes, without broker and servers.

`python -m bench.births` lets each of many edge nodes be born once and send a value by its alias, and prints
by how much the resident memory of the process has grown: of a process for nodes that have the same names, and
of another one for nodes none of which has a name that another one has. It holds what the decoder remembers,
too.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import psutil

from bench.dialects import varint
from bench.options import count
from bench.scenario import check, reported
from bench.tables import table
from gateway.decode import Decoder, Limits, Received
from gateway.decode.dialects import complete_routes
from gateway.decode.examples import Message
from gateway.decode.routes import compile_routes
from gateway.sparkplug.host import Host
from runtime.logs import configure
from runtime.settings import Route

_NOW: Final = datetime(2026, 11, 23, 9, tzinfo=UTC)
_SENT: Final = varint(int(_NOW.timestamp() * 1000))
_INT64, _DOUBLE = b"\x04", b"\x0a"
_REORDER_S: Final = 2.0
_MB: Final = 1e6


def _metric(name: bytes, alias: int, datatype: bytes, value: bytes) -> bytes:
    said = b"\x0a" + varint(len(name)) + name + b"\x10" + varint(alias) + b"\x20" + datatype + value
    return b"\x12" + varint(len(said)) + said


def birth(node: int, metrics: int, *, alike: bool) -> Message:
    """The birth of an edge node (3.0.0 §6.4.19), each metric with an alias."""
    made_by = 0 if alike else node
    tags = b"".join(
        _metric(f"Line {made_by}/Press/Tag {i}".encode(), i + 1, _DOUBLE, b"\x69" + bytes(8))
        for i in range(metrics)
    )
    session = _metric(b"bdSeq", 0, _INT64, b"\x58\x00")
    return Message(f"spBv1.0/plant/NBIRTH/node-{node}", b"\x08" + _SENT + session + tags + b"\x18\x00")


def data(node: int) -> Message:
    """A value of its first metric, by the alias alone."""
    said = b"\x10\x01\x69" + bytes(8)
    metric = b"\x12" + varint(len(said)) + said
    return Message(f"spBv1.0/plant/NDATA/node-{node}", b"\x08" + _SENT + metric + b"\x18\x01")


def measure(nodes: int, metrics: int, *, alike: bool) -> float:
    """Megabytes by which this process grows."""
    configure("json", "error")
    raw: dict[str, Any] = {"route": [{"dialect": "sparkplug"}]}
    complete_routes(raw)
    decoder = Decoder(compile_routes(msgspec.convert(raw["route"], list[Route])), Limits())
    host, received = Host(decoder, reorder_s=_REORDER_S, monotonic=time.monotonic), Received.of(_NOW)
    process = psutil.Process()
    gc.collect()
    before = process.memory_info().rss
    for node in range(nodes):
        host.decode(birth(node, metrics, alike=alike), received)
        host.decode(data(node), received)
        host.take_changes()
    gc.collect()
    check("edge nodes online", host.online, nodes)
    check("messages that wait", host.held, 0)
    return (process.memory_info().rss - before) / _MB


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.births", description=__doc__)
    parser.add_argument("--nodes", type=count, default=10_000)
    parser.add_argument("--metrics", type=count, default=100)
    arguments = parser.parse_args()
    rows = []
    with reported():
        for what, alike in (("all have the same names", True), ("none has the names of another", False)):
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as processes:
                grown = processes.submit(measure, arguments.nodes, arguments.metrics, alike=alike).result()
            rows.append([what, f"{grown:.0f}"])
    print(
        table([f"{arguments.nodes:,} edge nodes of {arguments.metrics:,} metrics", "MB"], rows, numbers=True)
    )


if __name__ == "__main__":
    main()
