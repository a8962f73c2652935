"""Watch: which devices have fallen silent, known whether or not anybody looks.

`pace` is what is usual for a device, `clock` the time of a stream, `book` when to look at whom, `silence`
the state of all devices, all of them pure. `rows` follows the streams, `told` is in Redis who has been told
of. `watcher` asks PostgreSQL what it has not seen itself, and tells: in the log, on the topic of devices, and
by `gauges`.
"""
