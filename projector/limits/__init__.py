"""Limits that people set: which devices are beyond which, known whether or not anybody looks.

`rules` is what was set, `book` what is known of a device, `states` that of all devices, by `clocks` and
`leaving`, pure all of them. `learn` reads from the views what was sent before, `told` is in Redis what has
been told, `beyond` answers. `limiter` hears every row and tells: in the log, on a
topic, and by `gauges`; `limiters` puts another in its place when other limits are set.
"""
