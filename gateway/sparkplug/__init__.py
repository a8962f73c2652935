"""Sparkplug B as a host application (Eclipse Sparkplug 3.0.0 §5): edge nodes mean what they said before.

A message of data may name its metrics by aliases, which a birth before it explained, and is counted by `seq`.
`topics` and `payloads` read what there is, `births` remembers names and for when they hold, `node` is the
state of one edge node, without I/O; `host` stands in front of the decoder and has all nodes; `keeper` keeps
them in PostgreSQL, with the batch that they came in; `ticking` lets time pass between messages; `voice` asks
for rebirths and says that this host is there. `naming` is the same for who has no session: replays, and
`gateway decode`.

No message is ever named by a birth that may not be the one that it was sent by: `births` says what that is.
"""
