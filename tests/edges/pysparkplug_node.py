"""An edge node of pysparkplug, told what to do by lines on stdin; runs in an environment of its own.

The library leaves it to its user to answer a rebirth; here that is a new session.
"""

from __future__ import annotations

import queue
import sys
import threading

import pysparkplug as psp  # type: ignore[import-not-found]  # installed for this alone


def metric(name: str | None, value: float, alias: int) -> psp.Metric:
    """A metric of now."""
    return psp.Metric(
        timestamp=psp.get_current_timestamp(),
        name=name,
        datatype=psp.DataType.DOUBLE,
        value=value,
        alias=alias,
    )


def main(port: str, group: str, name: str) -> None:
    """Run until told to leave."""
    orders: queue.Queue[str] = queue.Queue()
    node = psp.EdgeNode(
        group, name, [metric("Pressure", 0.5, 1)], cmd_callback=lambda *_: orders.put("rebirth")
    )
    node.register(psp.Device("press", [metric("Speed", 0.5, 2)]))
    node.connect("127.0.0.1", port=int(port))
    threading.Thread(target=listen, args=[orders], daemon=True).start()
    say("ready")
    while (order := orders.get()) != "leave":
        word, _, number = order.partition(" ")
        if word == "rebirth":
            node.disconnect()
            node.connect("127.0.0.1", port=int(port))
        elif word == "values":
            node.update([metric("Pressure", float(number), 1)])
            node.update_device("press", [metric("Speed", float(number), 2)])
        elif word == "aliases":
            send(node, psp.MessageType.NDATA, None, psp.NData, metric(None, float(number), 1))
            send(node, psp.MessageType.DDATA, "press", psp.DData, metric(None, float(number), 2))
        say(order)
    node.disconnect()


def listen(orders: queue.Queue[str]) -> None:
    """Take what is said on stdin."""
    for line in sys.stdin:
        orders.put(line.strip())


def say(text: str) -> None:
    """Tell whoever started this."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def send(
    node: psp.EdgeNode, kind: psp.MessageType, device: str | None, payload: type, one: psp.Metric
) -> None:
    """Publish a payload that the library's own update would give a name."""
    topic = psp.Topic(
        message_type=kind, group_id=node.group_id, edge_node_id=node.edge_node_id, device_id=device
    )
    message = payload(timestamp=psp.get_current_timestamp(), seq=node._seq, metrics=(one,))
    node._client.publish(psp.Message(topic=topic, payload=message, qos=psp.QoS.AT_MOST_ONCE, retain=False))


main(*sys.argv[1:])
