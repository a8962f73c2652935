"""A way to a server that takes its time: forwards connections, each byte so long after it came.

    python -m bench.far --target 5432 --ms 50

As a process of its own. It prints the port on which it listens, and ends with its standard input. Nothing
holds up anything else: what follows is under way meanwhile, as on a long line.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter

_READ_BYTES = 262_144


async def forward(reader: StreamReader, writer: StreamWriter, delay_s: float) -> None:
    """One direction of a connection, until its end."""
    loop = asyncio.get_running_loop()
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def arrive() -> None:
        while True:
            due, data = await under_way.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            writer.write(data)
            await writer.drain()
            if not data:
                writer.close()
                return

    arriving = asyncio.create_task(arrive())
    with contextlib.suppress(OSError):
        while data := await reader.read(_READ_BYTES):
            under_way.put_nowait((loop.time() + delay_s, data))
    under_way.put_nowait((loop.time() + delay_s, b""))
    with contextlib.suppress(OSError):
        await arriving


async def serve(target: int, delay_s: float) -> None:
    """Forward until standard input ends."""

    async def accept(reader: StreamReader, writer: StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", target)
        await asyncio.gather(forward(reader, back, delay_s), forward(there, writer, delay_s))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(orders), sys.stdin
    )
    await orders.read()


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--target", type=int, required=True)
    parser.add_argument("--ms", type=float, required=True)
    options = parser.parse_args()
    asyncio.run(serve(options.target, options.ms / 1000))


if __name__ == "__main__":
    main()
