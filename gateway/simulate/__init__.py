"""Simulated devices: a load that behaves like the field, sent by a real MQTT client of its own.

`devices`, `rubbish` and `pace` are pure and say what is sent and when; `publisher` sends it and counts what
the broker acknowledged; `simulation` wires them up for `command`, and `summary` is what it ends with. Nothing
here reaches into the pipeline: the only way in is the broker.
"""
