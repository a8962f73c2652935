"""Limits that people set: which devices are beyond which, known whether or not anybody looks.

`rules` is what was set, `states` the state of all devices, both of them pure. `learn` reads from the views
what was last known, `told` is in Redis who has been told of, `post` publishes. `limiter` hears every row and
tells: in the log, on a topic, and by `gauges`.
"""
