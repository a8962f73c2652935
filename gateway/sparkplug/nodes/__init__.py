"""Edge nodes, one at a time: what each message and the time that passes lead to, without I/O.

`node` is what is known of one, `entity` of it or of a device; `ordered` is one all of whose messages come
this way, and goes by their numbers (`sequence`) and by when a birth is in `doubt`; of `shared` others get a
part. `births` says which birth names a message, `tables` keeps what births say, `held` the messages that
wait for one, and `asking` says when a rebirth is asked for.
"""
