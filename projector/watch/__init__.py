"""Watch: which devices have fallen silent and whose clocks are wrong, known whether or not anybody looks.

`pace` is what is usual for a device, `drift` what its clock is, `care` what people have said of it, `clock`
the time of a stream, `book` when to look at whom; `silence`, with `drifts`, is the state of all devices. All
of them are pure. `rows` follows the streams, `carer` the words of people, `told` is in Redis who has been
told of. `watcher` asks PostgreSQL what it has not seen itself (`arrivals`), and tells by its `voice`: in the
log, on the topic of devices, and by `gauges`.
"""
